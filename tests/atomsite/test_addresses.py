"""Whose address counts, with and without proxies in front."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings

from atomsite.addresses import ProxiedAddressMiddleware

PROXY = "127.0.0.1"
OWN = "a word of mallory's own"
Login = Callable[[Client, str, str, str], int]


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


@pytest.fixture
def login(settings: Any) -> Login:
    """Return what logs in behind a proxy, and returns the answer's status."""
    # WhiteNoise warns of a folder of collected files that nobody made; it has no part in this.
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "whitenoise" not in name]
    settings.ATOM_PROXY_COUNT = 1

    def log_in(client: Client, name: str, password: str, address: str) -> int:
        values = {"username": name, "password": password, "next": "/admin/"}
        return client.post("/admin/login/", values, headers={"X-Forwarded-For": address}).status_code

    return log_in


@pytest.mark.django_db
def test_failures_of_one_caller_lock_nobody_else_out(superuser: User, login: Login) -> None:
    answers = [login(Client(), f"guess-{number}", "wrong", "203.0.113.9") for number in range(11)]
    assert answers[0] == 200
    assert answers[-1] == 429
    right = f"password of {superuser.username}"
    assert login(Client(), superuser.username, right, "203.0.113.9") == 429
    assert login(Client(), superuser.username, right, "198.51.100.4") == 302


@pytest.mark.django_db
def test_a_login_of_ones_own_gives_no_more_guesses_at_another_account(superuser: User, login: Login) -> None:
    User.objects.create_user("mallory", password=OWN, is_staff=True)
    for _ in range(9):
        assert login(Client(), superuser.username, "wrong", "203.0.113.9") == 200
    assert login(Client(), "mallory", OWN, "203.0.113.9") == 302
    assert login(Client(), superuser.username, "wrong", "203.0.113.9") == 429
    assert login(Client(), superuser.username, f"password of {superuser.username}", "198.51.100.4") == 429


@pytest.mark.django_db
def test_a_login_forgets_its_own_failures_from_there(superuser: User, login: Login) -> None:
    right = f"password of {superuser.username}"
    for _ in range(9):
        login(Client(), superuser.username, "wrong", "203.0.113.9")
    assert login(Client(), superuser.username, right, "203.0.113.9") == 302
    assert login(Client(), superuser.username, "wrong", "203.0.113.9") == 200
