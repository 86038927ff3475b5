"""What the client makes of good answers, and of everything else that can come back."""

import json
import socket
import threading

import pytest

from shellagent import protocol, signing
from shellagent.client import http as client_module
from shellagent.host.client import Client
from shellagent.host.errors import (
    ConflictError,
    DeclinedError,
    UnauthorisedError,
    UnavailableError,
    UpgradeRequiredError,
)
from tests.host.server import HOST_ID, KEY, StubServer

EMPTY_START = protocol.StartRequest(1, "instance", ())


def test_a_call_is_typed_both_ways(server: StubServer) -> None:
    client = Client(server.url + "/", KEY)
    answer = client.start(protocol.StartRequest(1, "instance", (protocol.Start("a", "k", "d"),)))
    (grant,) = answer.grants
    assert (grant.id, grant.status, grant.deadline_seconds) == ("a", protocol.GrantStatus.GRANTED, 310)
    assert signing.Granted(HOST_ID, [(grant, "k", "d")]).is_signed(grant, start_key="k", digest="d")
    client.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, UnauthorisedError),
        (403, UnauthorisedError),
        (409, ConflictError),
        (400, DeclinedError),
        (426, UpgradeRequiredError),
        (429, UnavailableError),
        (500, UnavailableError),
        (503, UnavailableError),
        (302, UnavailableError),
    ],
)
def test_each_failure_is_its_own_error(server: StubServer, status: int, error: type[Exception]) -> None:
    server.bend("/api/host/start", lambda _: (status, {"title": "No", "detail": "This is why."}))
    client = Client(server.url, KEY)
    with pytest.raises(error, match=r"why|not the protocol"):
        client.start(EMPTY_START)
    # A redirect is not followed: nothing else was called.
    assert server.calls == ["/api/host/start"]
    client.close()


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"[" * 100_000, {"v": 1}, {"v": 1, "grants": "x"}, [1]])
def test_a_malformed_answer_is_not_an_answer(server: StubServer, body: object) -> None:
    server.bend("/api/host/start", lambda _: (200, body))
    client = Client(server.url, KEY)
    with pytest.raises(UnavailableError):
        client.start(EMPTY_START)
    client.close()


def test_a_huge_answer_is_refused(server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1000)
    server.bend("/api/host/start", lambda _: (200, b" " * 200_000 + json.dumps({"v": 1, "grants": []}).encode()))
    client = Client(server.url, KEY)
    with pytest.raises(UnavailableError, match="larger"):
        client.start(EMPTY_START)
    client.close()


def test_no_server_is_said_with_the_next_step() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = Client(f"http://127.0.0.1:{taken.getsockname()[1]}", KEY)
        with pytest.raises(UnavailableError, match="Is it running"):
            client.start(EMPTY_START)
    client.close()


def test_an_address_that_is_none_is_said() -> None:
    client = Client("http://[nonsense", KEY)
    with pytest.raises(UnavailableError):
        client.start(EMPTY_START)
    client.close()


def test_a_connection_that_was_closed_meanwhile_is_made_anew(server: StubServer) -> None:
    client = Client(server.url, KEY)
    client.start(EMPTY_START)
    server.lose("/api/host/start")
    assert client.start(EMPTY_START).grants == ()
    assert server.calls == ["/api/host/start"] * 3
    client.close()


def test_a_header_that_cannot_be_sent_does_not_spoil_the_next_call(server: StubServer) -> None:
    connection = client_module.Connection(server.url, lambda: KEY, agent="test")
    with pytest.raises(UnavailableError, match="cannot be called"):
        connection.request("GET", "/api/host/nothing", headers={"X": "a\nb"})
    assert connection.request("GET", "/api/host/status").status == 200
    assert server.calls == ["/api/host/status"]
    connection.close()


def test_a_lost_answer_of_the_first_call_is_an_error(server: StubServer) -> None:
    client = Client(server.url, KEY)
    server.lose("/api/host/start")
    with pytest.raises(UnavailableError):
        client.start(EMPTY_START)
    client.close()


def test_the_environment_has_no_say(server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    client = Client(server.url, KEY)
    assert client.start(EMPTY_START).grants == ()
    client.close()


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(Client("http://localhost", KEY))


def test_an_answer_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SLACK_SECONDS", 0.15)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        is_over = threading.Event()

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not is_over.wait(0.02):
                    connection.sendall(b" ")

        thread = threading.Thread(target=trickle)
        thread.start()
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}", KEY)
        try:
            with pytest.raises(UnavailableError):
                client.start(EMPTY_START)
        finally:
            is_over.set()
            client.close()
            thread.join()
