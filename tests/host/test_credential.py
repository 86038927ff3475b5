"""The host's key while it runs, and taking up a new one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shellagent import protocol
from shellagent.host.client import Client
from shellagent.host.credential import Credential, credential_of, renew
from shellagent.host.errors import StateError, UnavailableError
from shellagent.host.loop import Loop
from shellagent.host.state import Enrolment, StateFolder, write_durably
from tests.host.server import KEY, StubServer


def test_all_connections_take_up_the_new_key(server: StubServer, state: StateFolder) -> None:
    state.enrol(Enrolment(), "ath_old")
    client = Client(server.url, credential_of(state))
    other = client.another()
    assert not client.credential.refresh()
    write_durably(state.key_file, KEY.encode())
    assert client.credential.refresh()
    assert not client.credential.refresh()
    for one in (client, other):
        assert one.record(protocol.RecordRequest(1, "instance", ())).statuses == {}
        one.close()


def test_a_key_file_that_cannot_be_used_changes_nothing(state: StateFolder) -> None:
    state.enrol(Enrolment(), "ath_old")
    credential = credential_of(state)
    write_durably(state.key_file, b"ath_new")
    state.key_file.chmod(0o644)
    assert not credential.refresh()
    assert credential.key == "ath_old"
    state.key_file.chmod(0o600)
    assert credential.refresh()
    state.key_file.unlink()
    assert not credential.refresh()
    assert credential.key == "ath_new"


def test_a_key_of_the_environment_stays(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOM_HOST_KEY", "ath_given")
    credential = credential_of(state)
    state.enrol(Enrolment(), "ath_file")
    assert (credential.key, credential.refresh()) == ("ath_given", False)


def test_an_answer_that_does_not_come_leaves_the_key(state: StateFolder) -> None:
    state.enrol(Enrolment(), "ath_old")

    def ask(_key: str) -> str:
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        renew(state, ask)
    assert state.key() == "ath_old"
    renew(state, lambda key: f"{key}_2")
    assert state.key() == "ath_old_2"
    state.key_file.unlink()
    with pytest.raises(StateError, match="localagent enroll"):
        renew(state, lambda key: key)


def test_the_servers_wish_is_followed(
    server: StubServer, state: StateFolder, make_loop: Callable[..., Loop], said: list[str]
) -> None:
    def wish(body: dict[str, Any]) -> tuple[int, object]:
        return 200, {**server._poll({**body, "hold_seconds": 0}), "renew_key": True}

    loop = make_loop()
    server.bend("/api/host/poll", wish)
    loop.step()
    assert any("not from the state folder" in line for line in said)
    assert "/api/host/key" not in server.calls

    state.enrol(Enrolment(), KEY)
    loop.client.credential.file = Path(state.key_file)
    loop.client.credential.refresh()
    server.bend("/api/host/poll", wish, lambda body: (200, server._poll({**body, "hold_seconds": 0})))
    server.bend("/api/host/key", lambda _body: (200, {"v": 1, "key": "ath_next"}))
    loop.step()
    assert state.key() == "ath_next"
    loop.step()
    assert loop.client.credential.key == "ath_next"
    assert any("using the new one" in line for line in said)


def test_a_key_is_not_shown() -> None:
    assert "ath_secret" not in repr(Credential("ath_secret"))
