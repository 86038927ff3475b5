"""Stopping: every reason to stop, against every way of living on. Real processes; nothing may be left of any."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from shellagent.host import run as run_module
from shellagent.host.family import Family
from shellagent.host.run import Run
from shellagent.host.runner import Runner
from shellagent.protocol import ExecutionReport, Reason, Rung, RunOutcome
from tests.host.server import assignment
from tests.host.test_run import Orders, text, wait_until

#: A sleep that nothing else on the machine does, so that what is left of it can be found wherever it hides.
NAP = f"61.{os.getpid()}"
#: Nothing that ends by TERM takes this long, and what does not is not waited for.
GRACE = {Rung.TERM: 5.0, Rung.KILL: 0.15, Rung.SWEEP: 5.0}
READY = "echo ready"
#: Beside it, each process forks the next one and ends, in a session of its own and deaf to TERM.
CHAIN = f"""
import os, signal, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.setsid()
    os.write(1, b"ready\\n")
    while True:
        if os.fork():
            os._exit(0)
time.sleep({NAP})
"""
#: Forks twice, with a session of its own, and without the environment and the descriptors that it was given.
DAEMON = f"setsid env -i setsid sleep {NAP} </dev/null >/dev/null 2>&1 &"

#: How it lives on, and how far the ending has to go when it is told to stop.
WAYS = {
    "a plain child": (("sh", "-c", f"{READY}; sleep {NAP}; true"), Rung.TERM),
    "children with sessions of their own": (
        ("sh", "-c", f"setsid sleep {NAP} & {READY}; wait"),
        Rung.TERM,
    ),
    "a daemon without an environment": (("sh", "-c", f"({DAEMON}) & sleep 0.05; {READY}; sleep {NAP}"), Rung.TERM),
    "a program that keeps spawning": (("python3", "-I", "-S", "-c", CHAIN), Rung.SWEEP),
    "a child that ignores TERM": (("sh", "-c", f"trap '' TERM; {READY}; sleep {NAP}"), Rung.KILL),
    "a background child that holds the pipe": (
        ("sh", "-c", f"(trap '' TERM; {READY}; sleep {NAP}) & sleep {NAP}"),
        Rung.SWEEP,
    ),
}
REASONS = (Reason.TIMEOUT, Reason.CANCEL, Reason.KILL_SWITCH, Reason.AGENT_STOP)

Stop = Callable[[tuple[str, ...], Reason, float], ExecutionReport]


@pytest.fixture
def stop(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stop:
    """Run a program until it says that it is ready, stop it for a reason, and return the record."""
    monkeypatch.setattr(run_module, "DRAIN_SECONDS", 0.15)
    temporary = tmp_path / "own-tmp"
    temporary.mkdir()

    def perform(argv: tuple[str, ...], reason: Reason, grace_seconds: float) -> ExecutionReport:
        runner.grace_seconds = grace_seconds
        orders, family, ahead = Orders(), Family(), 0.0
        # The run's time, moved on to its deadline once there is something to stop.
        clock = runner.clock
        runner.clock = lambda: clock() + ahead
        started = Run(runner, runner.prepare(assignment(*argv), temporary), "k", overseer=orders, family=family)

        def tell() -> None:
            nonlocal ahead
            wait_until(lambda: started.stdout.total)
            if reason is Reason.TIMEOUT:
                ahead = 300
            else:
                orders.abort(reason, grace_seconds)

        teller = threading.Thread(target=tell)
        teller.start()
        try:
            report = started.finish()
            assert family.living() == []
            return report
        finally:
            teller.join()
            orders.channel.close()
            orders.other.close()

    return perform


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reason", REASONS)
def test_nothing_is_left(stop: Stop, way: str, reason: Reason) -> None:
    argv, rung = WAYS[way]
    report = stop(argv, reason, GRACE[rung])
    assert text(report) == "ready\n"
    assert report.outcome is (RunOutcome.TIMED_OUT if reason is Reason.TIMEOUT else RunOutcome.ABORTED)
    assert (report.reason, report.left_behind) == (reason, ())
    assert report.rung is rung
    assert napping() == []


def napping() -> list[int]:
    """Return the processes of these tests, whoever their parents are."""
    return [item.pid for item in psutil.process_iter(["cmdline"]) if NAP in " ".join(item.info["cmdline"] or ())]
