"""What the typed client does where the server is away for a moment, and where an answer is lost on the way."""

import socket
from collections.abc import Callable, Iterator

import pytest

from shellagent.client import Atom, DeclinedError, UnavailableError, patience
from tests.client.conftest import EXECUTE, ONE, SESSION
from tests.host.server import StubServer

ID = SESSION["id"]
DONE = (200, {**SESSION, "status": "succeeded", "exit_code": 0})
AWAY = (503, {"type": "x/problems/unavailable", "detail": "Busy.", "status": 503})
OUTPUT = {"id": ID, "status": "succeeded", "finished": True, "next": {}, "stdout": [], "stderr": []}


@pytest.fixture
def client(server: StubServer) -> Iterator[Atom]:
    with Atom(server.url, "ata_x") as client:
        yield client


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr("shellagent.client.patience.time.sleep", taken.append)
    return taken


def test_a_request_whose_answer_was_lost_is_sent_again_with_its_key(client: Atom, server: StubServer) -> None:
    server.bend(EXECUTE, lambda _: DONE, lambda _: AWAY, lambda _: DONE)
    server.lose(EXECUTE)
    assert client.execute("ls").status == "succeeded"
    first, second, third = server.idempotency_keys
    assert first == second == third != ""


@pytest.mark.parametrize("key", ["a\n", "\u6f22"])
def test_a_key_that_no_header_can_carry_is_refused_here(client: Atom, server: StubServer, key: str) -> None:
    with pytest.raises(DeclinedError, match="printable ASCII"):
        client.execute("ls", idempotency_key=key)
    assert server.calls == []


def test_a_proxy_that_had_no_answer_leaves_it_open(client: Atom, server: StubServer) -> None:
    server.bend(EXECUTE, lambda _: (504, {}), lambda _: DONE)
    assert client.execute("ls").status == "succeeded"


def test_it_says_where_it_is_not_known_whether_the_command_was_taken(
    client: Atom, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", -1.0)
    server.bend(EXECUTE, *[lambda _: DONE] * 2)
    server.lose(EXECUTE, 2)
    with pytest.raises(UnavailableError, match="Whether the command was taken is not known") as caught:
        client.execute("ls")
    assert caught.value.may_have_arrived


def test_what_cannot_have_arrived_is_an_error_at_once(naps: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Atom(f"http://127.0.0.1:{port}", "ata_x") as client, pytest.raises(UnavailableError) as caught:
        client.execute("ls")
    assert (caught.value.may_have_arrived, naps) == (False, [])


def _followed(client: Atom) -> str:
    (found,) = client.follow(ID)
    return found.status


@pytest.mark.parametrize(
    ("path", "answer", "work"),
    [(ONE, DONE, lambda client: client.wait(ID).status), (f"{ONE}/output", (200, OUTPUT), _followed)],
)
def test_who_waits_goes_on_waiting(
    client: Atom, server: StubServer, path: str, answer: tuple[int, object], work: Callable[[Atom], str]
) -> None:
    server.bend(path, lambda _: AWAY, lambda _: answer)
    assert work(client) == "succeeded"


@pytest.mark.parametrize(("path", "work"), [(ONE, lambda client: client.wait(ID).status), (f"{ONE}/output", _followed)])
def test_a_server_that_stays_away_is_named_with_the_session(
    client: Atom, server: StubServer, monkeypatch: pytest.MonkeyPatch, path: str, work: Callable[[Atom], str]
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", -1.0)
    server.bend(path, lambda _: AWAY)
    with pytest.raises(UnavailableError, match=f"Session {ID} goes on without this"):
        work(client)
