"""What the clerk may answer without Django's middleware."""

from typing import Any

import pytest

from atomsite import callers


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "_known", {})


def is_plain(client: str = "10.0.0.7", scheme: str = "http", **headers: str) -> bool:
    given = {"host": "localhost:8000", **headers}
    sent = {name.replace("_", "-").encode(): value.encode() for name, value in given.items()}
    return callers.is_plain({"client": (client, 4), "scheme": scheme}, sent)


@pytest.mark.parametrize(
    ("host", "is_ours"), [("localhost", True), ("[::1]:80", True), ("evil.example", False), ("", False)]
)
def test_only_hosts_of_ours(settings: Any, host: str, is_ours: bool) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "[::1]"]
    assert [is_plain(host=host), is_plain(host=host)] == [is_ours, is_ours]


def test_many_host_headers_fill_no_memory(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert all(is_plain(host=f"host-{number}") for number in range(200))
    assert len(callers._known) <= 64


@pytest.mark.parametrize(
    ("request_", "is_enough"),
    [
        ({}, False),
        ({"scheme": "https"}, True),
        ({"client": "127.0.0.1"}, True),
        ({"client": "::1"}, True),
        ({"client": "127.0.0.1", "x_forwarded_for": "10.0.0.7"}, False),
        ({"client": "127.0.0.1", "via": "1.1 proxy"}, False),
        ({"x_forwarded_proto": "https"}, False),
    ],
)
def test_where_tls_is_wanted(settings: Any, request_: dict[str, str], is_enough: bool) -> None:
    settings.SECURE_SSL_REDIRECT, settings.SECURE_PROXY_SSL_HEADER = True, None
    assert is_plain(**request_) == is_enough


@pytest.mark.parametrize(("said", "is_enough"), [("https", True), ("http", False), ("https, http", True), ("", False)])
def test_what_a_proxy_says_of_tls_counts_where_it_is_asked_for(settings: Any, said: str, is_enough: bool) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert is_plain(scheme="https", x_forwarded_proto=said) == is_enough
