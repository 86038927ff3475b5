"""A loop that starts where another left off: what ran is ended and reported, and what has ended is not lost."""

import subprocess
from collections.abc import Callable

import psutil

from shellagent.host import tree
from shellagent.host.journal import Entry, Journal, Outstanding, outstanding
from shellagent.host.loop import Loop
from shellagent.host.state import StateFolder
from shellagent.host.tree import MARKER
from tests.host.server import StubServer, assignment

MakeLoop = Callable[..., Loop]


def test_a_crashed_run_is_ended_and_reported_as_lost(
    make_loop: MakeLoop, server: StubServer, state: StateFolder
) -> None:
    session_id = "0b9f6e0e-0000-4000-8000-000000000001"
    survivor = subprocess.Popen(
        ["sleep", "60"], start_new_session=True, env={MARKER: session_id, "PATH": "/usr/bin:/bin"}
    )
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        journal = Journal(state.journal, "boot")
        journal.begin([Entry(session_id, "k1", "d1"), Entry("0b9f6e0e-0000-4000-8000-000000000002", "k2", "d2")])
        journal.started(session_id, survivor.pid, tree.create_time(survivor.pid))
        # The pid is right, the create time is not: that process is somebody else's.
        journal.started("0b9f6e0e-0000-4000-8000-000000000002", stranger.pid, 1.0)
        loop = make_loop()
        assert loop.sessions.recover() == 2
        assert not psutil.pid_exists(survivor.pid)
        assert stranger.poll() is None
        loop.sessions.deliver()
        record = server.result(session_id)
        assert (record["outcome"], record["reason"], record["start_key"]) == ("lost", "agent_restart", "k1")
        server.wait_for(lambda: outstanding(state.journal) == Outstanding())
        assert make_loop().sessions.recover() == 0
        assert server.started == {}
    finally:
        for process in (survivor, stranger):
            process.kill()
            process.wait()


def test_a_result_in_the_spool_is_no_crash(make_loop: MakeLoop, server: StubServer, state: StateFolder) -> None:
    loop = make_loop()
    wanted = assignment("true")
    server.bend("/api/shell/log", lambda _: (503, {"title": "Down"}))
    loop.step()
    server.submit(wanted)
    loop.step()
    server.wait_for(lambda: "/api/shell/log" in server.calls)
    after = make_loop()
    assert after.sessions.recover() == 0
    assert after.sessions.journal.ids() == {wanted.id}
    after.sessions.delivery.flush()
    assert server.result(wanted.id)["outcome"] == "succeeded"
