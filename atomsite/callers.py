"""Whether a request needs nothing of Django's middleware: a Host header of ours, and TLS where TLS is wanted."""

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings
from django.http.request import split_domain_port, validate_host

#: What a proxy adds. A request with one of these came from somewhere else, whatever its address says.
OF_PROXIES: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
_MOST_KNOWN: Final = 64
_known: dict[bytes, bool] = {}


def is_plain(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a request may be answered without the middleware: all others get its redirects and refusals."""
    if settings.SECURE_SSL_REDIRECT and not (_is_secure(scope, headers) or _is_of_this_machine(scope, headers)):
        return False
    host = headers.get(b"host", b"")
    if host not in _known:
        domain, _port = split_domain_port(host.decode("latin-1"))
        is_ours = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
        if len(_known) >= _MOST_KNOWN:
            return is_ours
        _known[host] = is_ours
    return _known[host]


def _is_secure(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    trusted: tuple[str, str] | None = settings.SECURE_PROXY_SSL_HEADER
    if trusted is None:
        return bool(scope["scheme"] == "https")
    name, secure = trusted
    said = headers.get(name.removeprefix("HTTP_").replace("_", "-").lower().encode(), b"")
    return said.decode("latin-1").partition(",")[0].strip() == secure


def _is_of_this_machine(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    if any(name.encode() in headers for name in OF_PROXIES):
        return False
    try:
        return ipaddress.ip_address((scope.get("client") or ("",))[0]).is_loopback
    except ValueError:
        return False
