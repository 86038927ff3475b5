"""The recipe that needs nothing but `requests`, where the server is away while it waits."""

from types import ModuleType

import pytest

from shellagent.client import connecting
from tests.client.conftest import EXECUTE, ONE, SESSION
from tests.host.server import StubServer

WAITS = {**SESSION, "status": "pending", "next_action": "wait", "approve_url": "http://a", "poll_after_seconds": 5}
DONE = {**SESSION, "status": "succeeded", "exit_code": 0, "stdout": "out", "stderr": "", "next_action": "none"}
AWAY = {"type": "x/problems/unavailable", "status": 503, "detail": "Busy.", "next_action": "wait"}


@pytest.fixture
def recipe(server: StubServer, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("ATOM_URL", f"{server.url}/")
    monkeypatch.setenv("ATOM_KEY", "ata_x")
    module = ModuleType("requests_loop")
    exec(connecting.recipe("requests"), module.__dict__)  # noqa: S102 - as a person copies it
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    return module


def test_a_server_that_is_away_is_asked_again_and_nothing_runs_twice(recipe: ModuleType, server: StubServer) -> None:
    server.bend(EXECUTE, lambda _: (202, WAITS), lambda _: (202, WAITS))
    server.lose(EXECUTE)
    server.bend(ONE, lambda _: (200, WAITS), lambda _: (503, AWAY), lambda _: (200, DONE))
    server.lose(ONE)
    assert recipe.run("ls", "why") == "exit code 0\nout"
    first, second = server.idempotency_keys[:2]
    assert first == second is not None


def test_a_key_that_was_revoked_meanwhile_is_no_end_of_the_command(recipe: ModuleType, server: StubServer) -> None:
    server.bend(EXECUTE, lambda _: (202, WAITS))
    server.bend(ONE, lambda _: (401, {"detail": "This key is revoked."}))
    assert recipe.run("ls", "why") == f"Session {SESSION['id']} goes on, and cannot be read: This key is revoked."
