"""Plain HTTP where TLS is wanted: only for calls that a program on this machine makes straight to the web server."""

import ipaddress
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect

from atomsite.callers import OF_PROXIES

#: A monitor asks here as it can; the answer holds nothing to protect.
PROBED: Final = "/healthz"
_OF_PROXIES: Final = tuple(f"HTTP_{name.replace('-', '_').upper()}" for name in OF_PROXIES)


class CallsOverTlsMiddleware:
    """Redirects calls of the API to TLS, unless they never left this machine.

    `up` gives the local agent and the tour the web server's own address, where there is no TLS. Django knows exceptions
    by address only, so the API is one (SECURE_REDIRECT_EXEMPT), and what is not of this machine is redirected here, but
    for a monitor's question.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        if not settings.SECURE_SSL_REDIRECT:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.is_secure() and request.path != PROBED and not is_of_this_machine(request):
            return HttpResponsePermanentRedirect(f"https://{request.get_host()}{request.get_full_path()}")
        return self.get_response(request)


def is_of_this_machine(request: HttpRequest) -> bool:
    """Return whether a program on this machine made this request, and no proxy passed it on."""
    if any(name in request.META for name in _OF_PROXIES):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
