"""The caller's address where proxies stand in front, for the login lock-out and for what is kept with an approval."""

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse


class ProxiedAddressMiddleware:
    """Puts the address that the outermost of ATOM_PROXY_COUNT proxies saw into REMOTE_ADDR.

    Each proxy appends who called it to X-Forwarded-For, so the entry is counted from the right: what stands further
    left came from the caller, who can write anything there. A header that is too short or holds no address at that
    place changes nothing.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.count: int = settings.ATOM_PROXY_COUNT

    def __call__(self, request: HttpRequest) -> HttpResponse:
        entries = [entry.strip() for entry in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
        if 0 < self.count <= len(entries) and (address := _address(entries[-self.count])):
            request.META["REMOTE_ADDR"] = address
        return self.get_response(request)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
