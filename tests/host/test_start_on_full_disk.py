"""A local agent that is started on a full disk waits for room, in place of failing until nobody starts it any more."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shellagent.host import runlocalagent
from shellagent.host.errors import StateError
from shellagent.host.state import StateFolder, free_bytes


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set how much is free, each time that it is asked."""

    def leave(*sizes: int) -> None:
        left = iter(sizes)
        monkeypatch.setattr(runlocalagent, "free_bytes", lambda _folder: next(left))

    monkeypatch.setattr(runlocalagent, "ROOM_CHECK_SECONDS", 0)
    return leave


def test_it_waits_and_says_so_once(
    state: StateFolder, room: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    room(0, 4096, runlocalagent.START_BYTES)
    runlocalagent._wait_for_room(state, may_wait=True)
    said = "".join(capsys.readouterr())
    assert said.count("No room is left on the disk") == 1
    assert str(state.path) in said


def test_once_it_does_not_wait(state: StateFolder, room: Callable[..., None]) -> None:
    room(0)
    with pytest.raises(StateError, match="Free some"):
        runlocalagent._wait_for_room(state, may_wait=False)


def test_free_bytes_are_those_of_the_disk(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > runlocalagent.START_BYTES
