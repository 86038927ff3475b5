"""Who is calling with an agent's key: one indexed lookup of the key's digest."""

from dataclasses import dataclass
from datetime import timedelta

from django.core.cache import cache
from django.db import transaction
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from audit import driver
from audit.statements import Prepared
from audit.tags import Tag
from audit.trail import Event, Party, record
from governance import keys
from governance.models import AgentKey

_LAST_USED_EVERY = timedelta(minutes=1)
#: A key that is refused again and again leaves one event in this time, so that its holder cannot flood the trail.
_REFUSED_EVERY_SECONDS = 3600


_BY_DIGEST = Prepared(
    lambda digest: AgentKey.objects.filter(digest=digest).values_list(
        "id",
        "revoked_at",
        "expires_at",
        "last_used_at",
        "agent_id",
        "agent__name",
        "agent__maturity",
        "agent__is_suspended",
        "agent__owner_id",
    ),
    str,
)


@dataclass(frozen=True, slots=True)
class AgentCaller:
    """An agent that showed a valid key. Stands in `request.user`."""

    agent_id: int
    name: str
    maturity: str
    is_suspended: bool
    owner_id: int
    key_id: int

    is_authenticated = True
    is_active = True
    is_staff = False
    is_superuser = False

    @property
    def pk(self) -> str:
        """Return an identity that no user's primary key can equal."""
        return f"agent:{self.agent_id}"

    @property
    def party(self) -> Party:
        """Return the agent as the trail names it."""
        return Party("agent", str(self.agent_id), self.name)

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Return False: permissions are people's."""
        return False


def bearer_key(request: Request) -> str | None:
    """Return the Bearer key of a request, or None. Raises AuthenticationFailed for a malformed header."""
    scheme, _, rest = get_authorization_header(request).partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    key = rest.strip().decode("ascii", errors="replace")
    if not key or " " in key:
        raise AuthenticationFailed("Send `Authorization: Bearer <key>`, with one key.")
    return key


class BearerKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer ata_…`. Another kind of key is 403, a wrong, expired or revoked one 401."""

    def authenticate(self, request: Request) -> tuple[AgentCaller, str] | None:
        key = bearer_key(request)
        if key is None:
            return None
        return agent_caller(key), keys.digest(key)

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="atom"'


def agent_caller(key: str) -> AgentCaller:
    """Return whose key this is. Raises AuthenticationFailed, or PermissionDenied for another kind of key."""
    if keys.kind_of(key) in (keys.KeyKind.HOST, keys.KeyKind.ENROLMENT):
        raise PermissionDenied("This is a host's key; agents' calls take an agent's key (ata_…).")
    now = timezone.now()
    rows = _BY_DIGEST.rows(keys.digest(key))
    if not rows:
        raise AuthenticationFailed("This key is not known here.")
    key_id, revoked_at, expires_at, last_used_at, agent_id, name, maturity, is_suspended, owner_id = rows[0]
    if revoked_at is not None:
        key_refused(Party("agent", str(agent_id), name), "revoked", key=key_id)
        raise AuthenticationFailed("This key is revoked. Ask the agent's owner for a new one.")
    if expires_at is not None and expires_at <= now:
        key_refused(Party("agent", str(agent_id), name), "expired", key=key_id)
        raise AuthenticationFailed("This key has expired. Ask the agent's owner for a new one.")
    if last_used_at is None or now - last_used_at > _LAST_USED_EVERY:
        AgentKey.objects.filter(pk=key_id).update(last_used_at=now)
    return AgentCaller(agent_id, name, maturity, is_suspended, owner_id, key_id)


def key_refused(owner: Party, why: str, *, key: int | None = None) -> None:
    """Write that a key was shown which is known and no longer good: somebody may have found it.

    `key` is the id of an agent's key or of an enrolment code; a host has one key. An unknown key is nobody's, and
    leaves no event.
    """
    place = f"key-refused:{owner.type}:{owner.id}:{key}"
    if cache.add(place, why, timeout=_REFUSED_EVERY_SECONDS):
        driver.if_undone(lambda: cache.delete(place))
        with transaction.atomic():
            record(Event(Tag.KEY_REFUSED, owner, owner, why, {"key": key} if key else {}))
