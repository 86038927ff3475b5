"""Whose address counts, with and without proxies in front."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings

from atomsite.addresses import ProxiedAddressMiddleware

PROXY = "127.0.0.1"


def seen(count: int, header: str | None) -> str:
    """Return the address that the product sees."""
    found = []

    def view(request: HttpRequest) -> HttpResponse:
        found.append(request.META["REMOTE_ADDR"])
        return HttpResponse()

    headers = {} if header is None else {"X-Forwarded-For": header}
    with override_settings(ATOM_PROXY_COUNT=count):
        ProxiedAddressMiddleware(view)(RequestFactory().get("/", headers=headers, REMOTE_ADDR=PROXY))
    return str(found[0])


@pytest.mark.parametrize(
    ("count", "header", "address"),
    [
        (0, None, PROXY),
        (0, "203.0.113.9", PROXY),
        (1, None, PROXY),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "10.0.0.1, 203.0.113.9", "203.0.113.9"),
        (2, "10.0.0.1, 203.0.113.9, 192.0.2.7", "203.0.113.9"),
        (2, "203.0.113.9", PROXY),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "not an address", PROXY),
        (1, "", PROXY),
    ],
)
def test_the_address_is_what_the_outermost_proxy_saw(count: int, header: str | None, address: str) -> None:
    assert seen(count, header) == address


@pytest.mark.django_db
def test_failures_of_one_caller_lock_nobody_else_out(superuser: User, settings: Any) -> None:
    # WhiteNoise warns of a folder of collected files that nobody made; it has no part in this.
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "whitenoise" not in name]
    settings.ATOM_PROXY_COUNT = 1

    def login(client: Client, name: str, password: str, address: str) -> int:
        values = {"username": name, "password": password, "next": "/admin/"}
        return client.post("/admin/login/", values, headers={"X-Forwarded-For": address}).status_code

    answers = [login(Client(), f"guess-{number}", "wrong", "203.0.113.9") for number in range(11)]
    assert answers[0] == 200
    assert answers[-1] == 429
    right = f"password of {superuser.username}"
    assert login(Client(), superuser.username, right, "203.0.113.9") == 429
    assert login(Client(), superuser.username, right, "198.51.100.4") == 302
