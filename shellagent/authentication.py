"""Who is calling with a host's key: one indexed lookup of the key's digest."""

from dataclasses import dataclass

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from governance import keys
from governance.authentication import bearer_key, key_refused
from shellagent.models import Host
from shellagent.queries import host_by_key
from shellagent.services.hosts import host_party
from shellagent.services.keys_of_hosts import host_key_used


@dataclass(frozen=True, slots=True)
class HostCaller:
    """A host that showed its key. Stands in `request.user`."""

    host: Host

    is_authenticated = True
    is_active = True
    is_staff = False
    is_superuser = False

    @property
    def pk(self) -> str:
        """Return an identity that no user's primary key can equal."""
        return f"host:{self.host.pk}"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A machine that showed an enrolment code, which is looked up where it is used. Stands in `request.user`."""

    code: str

    is_authenticated = True
    is_active = True
    is_staff = False
    is_superuser = False
    pk = "newcomer"


class EnrolmentCodeAuthentication(BaseAuthentication):
    """`Authorization: Bearer ate_…`. Another kind of key is 403, a missing one 401."""

    def authenticate(self, request: Request) -> tuple[Newcomer, None]:
        code = bearer_key(request)
        kind = keys.kind_of(code) if code else None
        if kind in (keys.KeyKind.AGENT, keys.KeyKind.HOST):
            raise PermissionDenied("This is a key; enrolling takes an enrolment code (ate_…).")
        if code is None or kind is None:
            raise AuthenticationFailed("Send the enrolment code: `Authorization: Bearer ate_…`.")
        return Newcomer(code), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="atom-enrolment"'


class HostKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer ath_…`. An agent's key is 403; a wrong or missing one, or a disabled host, 401."""

    def authenticate(self, request: Request) -> tuple[HostCaller, None]:
        key = bearer_key(request)
        if key is None:
            raise AuthenticationFailed("Send the host's key: `Authorization: Bearer ath_…`.")
        return HostCaller(host_of_key(key)), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="atom-host"'


def host_of_key(key: str) -> Host:
    """Return whose key this is. Raises AuthenticationFailed, or PermissionDenied for another kind of key."""
    kind = keys.kind_of(key)
    if kind is keys.KeyKind.AGENT:
        raise PermissionDenied("This is an agent's key; hosts' calls take a host's key (ath_…).")
    if kind is keys.KeyKind.ENROLMENT:
        raise PermissionDenied("This is an enrolment code; use it with `localagent enroll`.")
    digest, now = keys.digest(key), timezone.now()
    host = host_by_key(digest)
    if host is None:
        raise AuthenticationFailed("This host key is not known here. Enrol the host again.")
    if not host.opens_with(digest, now):
        key_refused(host_party(host), "replaced")
        raise AuthenticationFailed("This host key was replaced by a new one. Use that, or enrol the host again.")
    if not host.is_enabled:
        key_refused(host_party(host), "disabled")
        raise AuthenticationFailed("This host is disabled. An operator has to enable it.")
    if host.previous_key_digest and host.previous_key_until is None and digest == host.key_digest:
        host_key_used(host, now)
    return host
