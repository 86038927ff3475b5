"""Plain HTTP behind a TLS address: for programs on this machine, and for nobody else."""

from typing import Any

import pytest
from django.test import Client

from atomsite import health

CALL = "/api/local-agent/status"


@pytest.fixture
def behind_tls(settings: Any) -> Any:
    """The settings that ATOM_PUBLIC_URL=https://… makes."""
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "whitenoise" not in name]
    settings.ALLOWED_HOSTS = ["localhost", "atom.example.org"]
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    return settings


def call(path: str = CALL, address: str = "127.0.0.1", host: str = "localhost:8000", **headers: str) -> Any:
    return Client().get(path, headers={"host": host, **headers}, REMOTE_ADDR=address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("path", [CALL, "/api/host/poll", "/api/shell/log"])
def test_a_program_on_this_machine_needs_no_tls(behind_tls: Any, path: str, address: str) -> None:
    assert call(path, address).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Proto": "http"},
        {"X-Forwarded-Host": "localhost"},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"X-Forwarded-For": ""},
    ],
    ids=lambda headers: next(iter(headers)),
)
@pytest.mark.parametrize("count", [0, 1])
def test_what_a_proxy_passed_on_is_redirected(behind_tls: Any, headers: dict[str, str], count: int) -> None:
    behind_tls.ATOM_PROXY_COUNT = count
    answer = call(host="atom.example.org", **headers)
    assert (answer.status_code, answer.headers["Location"]) == (301, f"https://atom.example.org{CALL}")


@pytest.mark.parametrize("address", ["203.0.113.9", "10.0.0.7", "2001:db8::1", ""])
def test_another_machine_is_redirected(behind_tls: Any, address: str) -> None:
    assert call(f"{CALL}?a=b", address).headers["Location"] == f"https://localhost:8000{CALL}?a=b"


def test_a_monitor_is_answered_as_it_asks(behind_tls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "health", lambda now: health.UNREACHABLE)
    monkeypatch.setattr(health, "_kept", None)
    assert call("/healthz", "10.0.0.7").status_code == 503
    monkeypatch.setattr(health, "_kept", None)
    assert call("/metrics", "10.0.0.7").status_code == 301


def test_people_are_redirected_everywhere(behind_tls: Any) -> None:
    assert call("/admin/login/").headers["Location"] == "https://localhost:8000/admin/login/"


def test_over_tls_all_is_as_ever(behind_tls: Any) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    assert call(host="atom.example.org", **headers).status_code == 401


def test_without_a_tls_address_nothing_is_redirected(behind_tls: Any) -> None:
    behind_tls.SECURE_SSL_REDIRECT = False
    assert call(address="203.0.113.9").status_code == 401
