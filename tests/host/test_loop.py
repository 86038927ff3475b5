"""The loop against a real HTTP server that loses answers, orders cancels, and refuses."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from shellagent.host import loop as loop_module
from shellagent.host.errors import AnotherInstanceError, UnauthorisedError, UnavailableError
from shellagent.host.journal import Journal, Outstanding, outstanding
from shellagent.host.loop import Loop
from shellagent.host.state import StateFolder
from shellagent.protocol import Desired, PathGrant
from tests.host.server import StubServer, assignment

MakeLoop = Callable[..., Loop]


def connected(make_loop: MakeLoop, **options: int) -> Loop:
    """Return a loop whose first poll, which is answered at once, has been made."""
    loop = make_loop(**options)
    assert loop.step() is False
    return loop


def test_a_session_runs_once_and_its_result_arrives(
    make_loop: MakeLoop, server: StubServer, state: StateFolder
) -> None:
    loop = connected(make_loop)
    wanted = assignment("echo", "hello")
    server.submit(wanted)
    assert loop.step() is True
    record = server.result(wanted.id)
    assert (record["outcome"], record["exit_codes"]) == ("succeeded", [0])
    assert record["start_key"] == server.started[wanted.id]
    assert bytes(server.output[wanted.id]["stdout"]) == b"hello\n"
    deadline = time.monotonic() + 5
    while loop.sessions.journal.depth and time.monotonic() < deadline:
        time.sleep(0.01)
    assert outstanding(state.journal) == Outstanding()
    assert loop.sessions.is_idle()


def test_a_lost_poll_answer_is_asked_for_with_the_same_key(make_loop: MakeLoop, server: StubServer) -> None:
    loop = connected(make_loop)
    wanted = assignment("true")
    server.submit(wanted)
    # The client repeats a call on a kept connection once by itself, so two answers have to be lost.
    server.lose("/api/host/poll", 2)
    with pytest.raises(UnavailableError):
        loop.step()
    assert loop.step() is True
    assert server.result(wanted.id)["outcome"] == "succeeded"
    keys = [poll["claim_key"] for poll in server.polls]
    assert keys[1] == keys[2] == keys[3] != keys[0]
    assert len(server.claims) == 1


@pytest.mark.parametrize("lost", [0, 2])
def test_what_is_started_with_its_claim_needs_no_other_call(
    make_loop: MakeLoop, server: StubServer, tmp_path: Path, lost: int
) -> None:
    server.starts_with_the_claim = True
    loop = connected(make_loop)
    wanted, refused = assignment("true"), assignment("true", directory=str(tmp_path / "missing"))
    server.submit(wanted, refused)
    server.lose("/api/host/poll", lost)
    if lost:
        with pytest.raises(UnavailableError):
            loop.step()
    assert loop.step() is True
    assert server.result(wanted.id)["outcome"] == "succeeded"
    # Its start was granted, so that the record has to show the key.
    assert server.result(refused.id)["outcome"] == "refused"
    assert {server.records[one.id]["start_key"] for one in (wanted, refused)} == {server.started[refused.id]}
    assert "/api/host/start" not in server.calls


def test_a_granted_session_that_cannot_be_looked_at_is_reported(
    make_loop: MakeLoop, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.starts_with_the_claim = True
    loop = connected(make_loop)
    monkeypatch.setattr(loop.sessions.supervisors, "tell", lambda *_: False)
    wanted = assignment("true")
    server.submit(wanted)
    loop.step()
    record = server.result(wanted.id)
    assert (record["outcome"], record["start_key"]) == ("lost", server.started[wanted.id])
    assert loop.sessions.slots.free == 2


def test_a_lost_start_answer_is_asked_for_with_the_same_start_key(make_loop: MakeLoop, server: StubServer) -> None:
    loop = connected(make_loop)
    wanted = assignment("true")
    server.submit(wanted)
    server.lose("/api/host/start", 2)
    loop.step()
    assert server.result(wanted.id)["start_key"] == server.started[wanted.id]
    assert server.calls.count("/api/host/start") == 3


def test_a_lost_record_answer_is_sent_again_the_same(make_loop: MakeLoop, server: StubServer) -> None:
    loop = connected(make_loop)
    wanted = assignment("true")
    server.submit(wanted)
    server.lose("/api/shell/log", 1)
    loop.step()
    server.result(wanted.id)
    server.wait_for(lambda: server.calls.count("/api/shell/log") >= 1)
    deadline = time.monotonic() + 8
    while loop.sessions.journal.depth and time.monotonic() < deadline:
        loop.sessions.deliver()
        time.sleep(0.02)
    assert loop.sessions.journal.depth == 0
    assert len(server.record_calls) == 2


def test_without_a_grant_nothing_runs(make_loop: MakeLoop, server: StubServer, scratch: Path, said: list[str]) -> None:
    loop = connected(make_loop)
    wanted = assignment("touch", "ran", grants=(PathGrant(str(scratch), "write"),))
    server.started[wanted.id] = "the start key of somebody else"
    server.submit(wanted)
    loop.step()
    assert loop.sessions.is_idle()
    assert not (scratch / "ran").exists()
    assert server.records == {}
    assert any("not started" in line for line in said)


@pytest.mark.parametrize("answer", [(200, {"v": 1, "grants": []}), (409, {"title": "Conflict"})])
def test_an_answer_without_a_grant_runs_nothing(
    make_loop: MakeLoop, server: StubServer, answer: tuple[int, object]
) -> None:
    loop = connected(make_loop)
    server.bend("/api/host/start", lambda _: answer)
    server.submit(assignment("true"))
    loop.step()
    assert loop.sessions.is_idle()
    assert loop.sessions.slots.free == 2
    assert loop.sessions.journal.entries() == []


def test_what_the_host_refuses_is_never_started(make_loop: MakeLoop, server: StubServer, tmp_path: Path) -> None:
    loop = connected(make_loop)
    missing = assignment("true", directory=str(tmp_path / "missing"))
    named = assignment("true", env={"LD_PRELOAD": "x"})
    server.submit(missing, named)
    loop.step()
    assert {server.result(missing.id)["reason"], server.result(named.id)["reason"]} == {"no_folder", "host_ceiling"}
    assert server.records[missing.id]["start_key"] == ""
    assert server.records[missing.id]["outcome"] == "refused"
    assert "/api/host/start" not in server.calls


def test_starts_of_one_claim_are_one_call(make_loop: MakeLoop, server: StubServer) -> None:
    loop = connected(make_loop, slots=4)
    wanted = [assignment("true") for _ in range(4)]
    server.submit(*wanted)
    loop.step()
    for item in wanted:
        server.result(item.id)
    assert server.calls.count("/api/host/start") == 1
    assert len(server.polls) == 2


def test_a_slow_command_does_not_delay_another(make_loop: MakeLoop, server: StubServer) -> None:
    loop = connected(make_loop)
    slow, quick = assignment("sleep", "5"), assignment("true")
    server.submit(slow)
    loop.step()
    server.submit(quick)
    loop.step()
    server.result(quick.id, 3)
    assert slow.id not in server.records
    assert server.polls[-1]["running"] == [slow.id]
    assert server.polls[-1]["free_slots"] == 1


def test_cancel_reaches_a_full_host(make_loop: MakeLoop, server: StubServer) -> None:
    loop = connected(make_loop, slots=1)
    wanted = assignment("sleep", "60")
    server.submit(wanted)
    loop.step()
    assert loop.step() is False  # no slot: it does not poll
    watcher = threading.Thread(target=loop.watch_step)
    watcher.start()
    server.wait_for(lambda: server.polls[-1]["free_slots"] == 0)
    server.cancel(wanted.id, reason="kill_switch")
    record = server.result(wanted.id)
    watcher.join()
    assert (record["outcome"], record["reason"]) == ("aborted", "kill_switch")
    assert record["left_behind"] == []


def test_a_host_that_stops_does_not_ask_without_a_pause(
    make_loop: MakeLoop, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While what it was ordered to end takes its time, each poll is answered at once, with that order again."""
    loop = connected(make_loop)
    pauses: list[float] = []
    monkeypatch.setattr(loop_module, "time", SimpleNamespace(sleep=pauses.append, time_ns=time.time_ns))
    wanted = assignment("sleep", "60")
    server.submit(wanted)
    loop.step()
    server.wait_for(loop.sessions.running_ids)
    monkeypatch.setattr(loop.sessions, "abort", lambda *_: None)
    server.cancel(wanted.id)
    loop.draining.set()
    for _ in range(4):
        loop.step()
    assert len(pauses) == 3
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("at_term", "grace_seconds", "rung"), [("", 0, "kill"), ("sleep 0.5; exit 0", 9, "term")], ids=["none", "enough"]
)
def test_the_grace_is_the_orders_and_not_the_hosts(
    make_loop: MakeLoop, server: StubServer, at_term: str, grace_seconds: int, rung: str
) -> None:
    loop = connected(make_loop, slots=1)
    assert loop.sessions.settings.grace_seconds == 0.3
    wanted = assignment("sh", "-c", f"trap '{at_term}' TERM; echo ready; while :; do sleep 0.05; done")
    server.submit(wanted)
    loop.step()
    server.wait_for(lambda: server.output[wanted.id]["stdout"])
    server.cancel(wanted.id, reason="kill_switch", grace_seconds=grace_seconds)
    loop.watch_step()
    record = server.result(wanted.id)
    assert (record["outcome"], record["reason"], record["rung"]) == ("aborted", "kill_switch", rung)
    assert record["left_behind"] == []


def test_a_trail_that_cannot_be_written_stops_what_runs(
    make_loop: MakeLoop, server: StubServer, said: list[str]
) -> None:
    loop = connected(make_loop)
    runs, comes = assignment("sleep", "60"), assignment("true")
    server.submit(runs)
    assert loop.step() is True
    server.audit = "failed"
    # A server that means it gives nothing along; one that does is not believed.
    server.submit(comes)
    assert loop.step() is False
    record = server.result(runs.id)
    assert (record["outcome"], record["reason"]) == ("aborted", "agent_stop")
    assert loop.step(hold_seconds=0) is False
    assert (server.polls[-1]["free_slots"], comes.id in server.started) == (0, False)
    server.audit = "ok"
    loop.step(hold_seconds=0)
    again = assignment("true")
    server.submit(again)
    assert loop.step() is True
    assert server.result(again.id)["outcome"] == "succeeded"
    assert [line.partition(":")[0] for line in said if "trail" in line] == [
        "the server cannot write its audit trail",
        "the server writes its audit trail again",
    ]


def test_stopped_means_polling_without_claiming(make_loop: MakeLoop, server: StubServer, said: list[str]) -> None:
    loop = connected(make_loop)
    server.desired = Desired.STOPPED
    loop.step(hold_seconds=0)
    server.submit(assignment("true"))
    assert loop.step(hold_seconds=0) is False
    assert server.polls[-1]["free_slots"] == 0
    server.desired = Desired.RUNNING
    loop.step(hold_seconds=0)
    assert loop.step() is True
    assert [line for line in said if "server" in line] == [
        "stopped by the server: claiming nothing",
        "resumed by the server",
    ]


def test_a_full_spool_stops_claiming_until_there_is_room(make_loop: MakeLoop, server: StubServer) -> None:
    loop = connected(make_loop)
    loop.sessions.journal.spool_bytes = 1
    first, second = assignment("true"), assignment("true")
    server.bend("/api/shell/log", *[lambda _: (503, {"title": "Down"})] * 2)
    server.submit(first)
    assert loop.step() is True
    server.wait_for(lambda: loop.sessions.journal.depth)
    server.submit(second)
    assert loop.step(hold_seconds=0) is False
    assert server.polls[-1]["free_slots"] == 0
    loop.step(hold_seconds=0)
    assert "results wait for the server" in server.polls[-1]["last_error"]
    server.result(first.id)
    server.wait_for(lambda: not loop.sessions.journal.depth)
    assert loop.step() is True
    server.result(second.id)


def test_a_journal_that_cannot_be_written_starts_nothing(
    make_loop: MakeLoop, server: StubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loop = connected(make_loop)
    (tmp_path / "journal.log").mkdir()
    loop.sessions.journal = Journal(tmp_path / "journal.log")
    server.submit(assignment("true"))
    loop.step()
    assert "/api/host/start" not in server.calls
    assert loop.sessions.is_idle()
    assert "journal cannot be written" in caplog.text


def test_another_instance_and_a_refused_key_are_their_own_errors(make_loop: MakeLoop, server: StubServer) -> None:
    server.bend(
        "/api/host/poll", lambda _: (409, {"title": "Conflict", "detail": "Another live process uses this key."})
    )
    with pytest.raises(AnotherInstanceError, match="Another live process"):
        make_loop().step()
    with pytest.raises(UnauthorisedError):
        make_loop(key="ath_wrong").step()


def test_the_connection_is_said_once_for_each_change(make_loop: MakeLoop, server: StubServer, said: list[str]) -> None:
    loop = connected(make_loop)
    server.bend("/api/host/poll", *[lambda _: (503, {"title": "Down"})] * 3)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            loop.step()
    loop.step()
    assert len(said) == 3
    assert said[0] == said[2] == f"connected to {server.url}"


def test_long_output_goes_ahead_of_its_record(make_loop: MakeLoop, server: StubServer) -> None:
    loop = connected(make_loop)
    wanted = assignment("sh", "-c", "echo begin; head -c 2000000 /dev/zero; echo end")
    server.submit(wanted)
    loop.step()
    record = server.result(wanted.id)
    assert record["output"] == []
    assert record["stdout"]["is_truncated"]
    assert len(server.output[wanted.id]["stdout"]) == 256 * 1024
    assert server.tails[wanted.id]["stdout"].endswith(b"\0end\n")


def test_output_is_live_and_not_sent_twice(make_loop: MakeLoop, server: StubServer, scratch: Path) -> None:
    loop = connected(make_loop)
    grants = (PathGrant(str(scratch), "write"),)
    script = "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two"
    wanted = assignment("sh", "-c", script, grants=grants)
    server.submit(wanted)
    loop.step()
    server.wait_for(lambda: server.output[wanted.id]["stdout"] == b"one\n")
    assert wanted.id not in server.records
    (scratch / "go").write_text("")
    server.result(wanted.id)
    assert bytes(server.output[wanted.id]["stdout"]) == b"one\ntwo\n"


def test_one_result_that_is_turned_away_does_not_hold_up_the_others(
    make_loop: MakeLoop, server: StubServer, state: StateFolder
) -> None:
    loop = make_loop(slots=1)
    good, bad = assignment("true"), assignment("true")

    def take(body: dict[str, list[dict[str, object]]]) -> tuple[int, object] | None:
        is_bad = any(record["id"] == bad.id for record in body["records"])
        return (400, {"title": "Invalid", "detail": "No."}) if is_bad else None

    server.bend("/api/shell/log", *[take] * 20)
    loop.step()
    for item in (bad, good):
        server.submit(item)
        while not loop.step():
            pass
    server.result(good.id)
    server.wait_for(lambda: loop.sessions.journal.ids() == {bad.id})
    assert (outstanding(state.journal).open, outstanding(state.journal).waiting) == (0, 1)


def test_the_private_temporary_folder_is_empty_for_the_next(make_loop: MakeLoop, server: StubServer) -> None:
    loop = connected(make_loop, slots=1)
    first = assignment("sh", "-c", "ls -A $TMPDIR; mkdir $TMPDIR/a; chmod 0 $TMPDIR/a; echo x > $TMPDIR/b")
    second = assignment("sh", "-c", "ls -A $TMPDIR")
    for item in (first, second):
        server.submit(item)
        while not loop.step():
            pass
        assert server.result(item.id)["exit_codes"] == [0]
    assert server.output[second.id]["stdout"] == b""
