"""The process that a PID file names is known by what no clock changes."""

import json
import os
import subprocess
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

from shellagent.client.errors import Exit
from shellagent.host import background, tree
from shellagent.host.errors import HostError
from shellagent.host.state import StateFolder


@pytest.fixture
def clock_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock an hour ahead, as the kernel shows it: the boot is a moment of the clock of now."""
    real: Any = psutil._pslinux.boot_time
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: real() + 3600)


def test_a_local_agent_is_found_after_the_clock_was_set(state: StateFolder, request: pytest.FixtureRequest) -> None:
    state.create()
    background.note_own_process(state, "http://x")
    request.getfixturevalue("clock_step")
    known = background.find(state)
    assert known is not None
    assert known.pid == os.getpid()
    assert 0 <= known.running_seconds < 3600


def test_a_process_of_another_boot_is_a_stranger(state: StateFolder) -> None:
    state.create()
    background.note_own_process(state, "http://x")
    content = json.loads(state.pid_file.read_text())
    state.pid_file.write_text(json.dumps(content | {"boot_id": "before"}))
    assert background.find(state) is None


def test_two_that_start_it_at_once_both_have_it(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    second = Mock(pid=1, poll=lambda: Exit.ANOTHER_INSTANCE)
    monkeypatch.setattr("shellagent.host.background.subprocess.Popen", lambda *_, **__: second)
    state.create()
    first = background.note_own_process(state, "http://x")
    assert background.start(state, []) == (first, False)
    state.pid_file.unlink()
    state.log_file.write_text("of an earlier start\n")
    monkeypatch.setattr(background, "ANOTHER_SECONDS", 0.0)
    with pytest.raises(HostError, match="Another one holds"):
        background.start(state, [])


def test_what_a_run_left_is_known_after_the_clock_was_set(request: pytest.FixtureRequest) -> None:
    # Without its marker it is known by its pid and create time alone.
    survivor = subprocess.Popen(["sleep", "60"], start_new_session=True, env={})
    try:
        began = tree.create_time(survivor.pid)
        request.getfixturevalue("clock_step")
        assert tree.end_survivors("a-session", survivor.pid, began) == ()
        assert not psutil.pid_exists(survivor.pid)
    finally:
        survivor.kill()
        survivor.wait()
