"""Errors of the local agent's own: none of them takes a session, a result or a thread with it."""

import errno
import selectors
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from shellagent.host import console
from shellagent.host.claimed import Claimed, lost
from shellagent.host.client import Client
from shellagent.host.live import LiveOutput
from shellagent.host.loop import Loop
from shellagent.host.process import Process
from shellagent.host.sessions import Sessions
from shellagent.host.slots import Slot
from shellagent.protocol import OutputSegment
from tests.host.server import StubServer, assignment

MakeLoop = Callable[..., Loop]


def no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_what_cannot_be_printed_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the log is a file on a full disk, or a pipe that nobody reads any more."""
    stream = Mock(**{"write.side_effect": OSError(errno.ENOSPC, "full"), "isatty.return_value": True})
    monkeypatch.setattr(sys, "stderr", stream)
    console.say("a line")
    console.show("a live line")
    with console.gathering():
        console.say("another")
    assert stream.write.call_count == 3


def test_an_error_with_one_session_loses_no_result_of_another(tmp_path: Path) -> None:
    ended, bad = (Claimed(assignment("true"), Slot(tmp_path)) for _ in range(2))
    report = lost(ended.entry, "It was only claimed.")
    sessions: Any = Mock()
    sessions._selector.select.return_value = [(selectors.SelectorKey(0, 0, 0, one), 1) for one in (ended, bad)]
    sessions._heard.side_effect = [report, RuntimeError]
    with pytest.raises(RuntimeError):
        Sessions.attend(sessions, 0)
    sessions._finish.assert_called_once_with([(ended, report)])


def test_a_granted_session_that_no_journal_can_hold_is_reported(
    make_loop: MakeLoop, server: StubServer, monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    server.starts_with_the_claim = True
    loop = make_loop()
    loop.step()

    def begin(_entries: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(loop.sessions.journal, "begin", begin)
    wanted = assignment("touch", "ran", directory=str(scratch))
    server.submit(wanted)
    loop.step()
    record = server.result(wanted.id)
    assert (record["outcome"], record["start_key"]) == ("lost", server.started[wanted.id])
    assert loop.sessions.slots.free == 2
    assert not (scratch / "ran").exists()


def test_live_output_goes_on_once_a_thread_can_be_started(server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    live, segment = LiveOutput(lambda: Client(server.url, "ath_test")), OutputSegment.of("stdout", 0, b"one")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        live.take("first", "key", segment)
    # What was not sent travels with the result; what follows it would leave a gap.
    server.started["second"] = "key"
    live.take("second", "key", segment)
    server.wait_for(lambda: server.output["second"]["stdout"] == b"one")
    assert "/api/host/sessions/first/output" not in server.calls


def test_the_watching_thread_outlives_an_error(make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone brings heartbeats and orders to stop to a host of which every slot is taken."""
    loop = make_loop()
    process = Process(loop)
    monkeypatch.setattr("shellagent.host.process.TICK_SECONDS", 0)
    steps = []

    def step() -> None:
        steps.append(1)
        if len(steps) > 1:
            process._is_over.set()
        raise IndexError("pop from an empty deque")

    monkeypatch.setattr(loop, "watch_step", step)
    process._watch()
    assert len(steps) == 2
