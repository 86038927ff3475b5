"""The supervisor, with real processes that are small Python programs."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from atomsite.console import Console
from atomsite.supervise import GaveUp, Service, Supervisor, describe

ROOT = Path(__file__).resolve().parents[2]

#: A process that supervises the programs given as arguments (name=code) until it is told to stop.
HARNESS = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from atomsite.console import Console
    from atomsite.supervise import GaveUp, Service, StopRequested, Supervisor

    with Supervisor(Console(), environment={"PYTHONUNBUFFERED": "1"}, directory=Path.cwd()) as supervisor:
        for argument in sys.argv[1:]:
            name, code = argument.split("=", 1)
            argv = (sys.executable, "-S", "-c", code)
            supervisor.start(Service(name, argv, rungs=((15, 1.0),), final_codes=frozenset({3})))
        try:
            supervisor.wait()
        except (StopRequested, GaveUp) as end:
            print("ending:", type(end).__name__, end, flush=True)
    print("all stopped", flush=True)
    """
)
SLEEPER = "import time; print('ready'); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(600)"
#: A daemon by the book: two forks, a session of its own, and a cleared environment.
DAEMON = textwrap.dedent(
    """
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        print("ready", flush=True)
        os.execve("/bin/sleep", ["sleep", "600"], {})
    os.wait()
    time.sleep(600)
    """
)


class Harness:
    """A supervising process, and what it prints."""

    def __init__(self, tmp_path: Path, **programs: str) -> None:
        self.output = tmp_path / "output"
        arguments = [f"{name}={code}" for name, code in programs.items()]
        with self.output.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", HARNESS, *arguments], stdout=stream, stderr=stream, cwd=ROOT
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, word: str, count: int = 1, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while self.text().count(word) < count:
            assert time.monotonic() < deadline, f"no {word!r} {count} times in:\n{self.text()}"
            time.sleep(0.02)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, seconds: float = 15) -> int:
        return self.process.wait(timeout=seconds)


def gone(processes: list[psutil.Process], seconds: float = 10) -> bool:
    """Return whether all have ended in time."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_all(tmp_path: Path, number: signal.Signals) -> None:
    harness = Harness(tmp_path, one=SLEEPER, two=SLEEPER)
    harness.wait_for("ready", 2)
    family = harness.family()
    assert len(family) == 2
    harness.process.send_signal(number)
    assert harness.end() == 0
    assert gone(family)
    assert "ending: StopRequested" in harness.text()


def test_the_last_started_stops_first(tmp_path: Path) -> None:
    # In a file and not in what they print, which comes through a thread for each.
    said = tmp_path / "said"
    code = (
        f"import signal, time\ndef bye(*_): open({str(said)!r}, 'a').write('NAME '); raise SystemExit\n"
        f"signal.signal(15, bye)\n{SLEEPER}"
    )
    harness = Harness(tmp_path, **{name: code.replace("NAME", name) for name in ("one", "two", "three")})
    harness.wait_for("ready", 3)
    harness.process.send_signal(signal.SIGTERM)
    assert harness.end() == 0
    assert said.read_text().split() == ["three", "two", "one"]


def test_a_child_that_ignores_term_is_killed(tmp_path: Path) -> None:
    harness = Harness(tmp_path, one=STUBBORN)
    harness.wait_for("ready")
    family = harness.family()
    started = time.monotonic()
    harness.process.send_signal(signal.SIGTERM)
    assert harness.end() == 0
    assert time.monotonic() - started >= 1.0, "it had its second of grace"
    assert gone(family)


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    code = STUBBORN.replace("ready", "ready two")
    harness = Harness(tmp_path, one=STUBBORN, two=code, three=STUBBORN, four=STUBBORN)
    harness.wait_for("ready", 4)
    family = harness.family()
    harness.process.send_signal(signal.SIGINT)
    harness.wait_for("ending")
    started = time.monotonic()
    harness.process.send_signal(signal.SIGINT)
    harness.end()
    assert time.monotonic() - started < 3.0, "four graces of a second were not waited for"
    assert gone(family)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a subreaper")
def test_a_daemon_that_left_its_parent_is_swept(tmp_path: Path) -> None:
    harness = Harness(tmp_path, one=DAEMON)
    harness.wait_for("ready")
    deadline = time.monotonic() + 15
    family = harness.family()
    while "sleep" not in [process.name() for process in family]:
        family = harness.family()
        assert time.monotonic() < deadline, "the daemon is not among the supervisor's"
        time.sleep(0.02)
    harness.process.send_signal(signal.SIGTERM)
    assert harness.end() == 0
    assert gone(family)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG")
def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    harness = Harness(tmp_path, one=SLEEPER, two=SLEEPER)
    harness.wait_for("ready", 2)
    family = harness.family()
    harness.process.kill()
    harness.end()
    assert gone(family)


def test_what_dies_is_started_again_and_named(tmp_path: Path) -> None:
    harness = Harness(tmp_path, one=SLEEPER)
    harness.wait_for("ready")
    [first] = harness.family()
    first.kill()
    harness.wait_for("ready", 2)
    assert "one died (signal KILL); starting it again in 1 s." in harness.text()
    [second] = harness.family()
    assert second.pid != first.pid
    harness.process.terminate()
    assert harness.end() == 0


def test_a_final_code_stays_down(tmp_path: Path) -> None:
    harness = Harness(tmp_path, one="raise SystemExit(3)", two=SLEEPER)
    harness.wait_for("stays down")
    time.sleep(1.2)
    assert [process.cmdline()[-1] for process in harness.family()] == [SLEEPER]
    harness.process.terminate()
    assert harness.end() == 0


def test_lines_are_prefixed_and_cannot_steer_the_terminal(tmp_path: Path) -> None:
    harness = Harness(tmp_path, web=r"print('a\x1b[2Jb'); import time; time.sleep(600)")
    harness.wait_for("|")
    harness.process.terminate()
    harness.end()
    assert r"web    | a\x1b[2Jb" in harness.text()


class FakeProcess:
    """A process that has ended already."""

    pid = 2**22 + 1  # above the largest pid of Linux
    stdout = None
    returncode = 1

    def poll(self) -> int:
        return self.returncode

    def send_signal(self, number: int) -> None:
        raise AssertionError("it is dead")


def faked(now: SimpleNamespace, spawned: list[float]) -> Supervisor:
    """Return a supervisor on a clock that is set by hand, whose services die at once."""
    supervisor = Supervisor(Console(StringIO()), environment={}, directory=ROOT)

    def spawn(service: Service, environment: Mapping[str, str], directory: Path) -> subprocess.Popen[bytes]:
        spawned.append(now.seconds)
        return cast("subprocess.Popen[bytes]", FakeProcess())

    anything = cast("Any", supervisor)
    anything._clock = lambda: now.seconds
    anything._spawn = spawn
    return supervisor


def test_pauses_double_and_five_quick_deaths_are_enough() -> None:
    now, spawned = SimpleNamespace(seconds=0.0), list[float]()
    supervisor = faked(now, spawned)
    supervisor.start(Service("one", ("one",)))

    def live() -> None:
        for _ in range(100):
            supervisor.step()
            now.seconds += 0.5

    with pytest.raises(GaveUp, match="one died 5 times in a row, the last time exit 1"):
        live()
    assert spawned == [0.0, 1.0, 3.5, 8.0, 16.5]


def test_deaths_far_apart_are_not_counted_together() -> None:
    now, spawned = SimpleNamespace(seconds=0.0), list[float]()
    supervisor = faked(now, spawned)
    supervisor.start(Service("one", ("one",)))
    for _ in range(20):
        now.seconds += 60.0
        assert supervisor.step(), "the death is seen"
        now.seconds += 1.0
        assert supervisor.step(), "and it is started again a second later"
    assert len(spawned) == 21


@pytest.mark.parametrize(("code", "words"), [(0, "exit 0"), (3, "exit 3"), (-9, "signal KILL"), (-250, "signal 250")])
def test_describe(code: int, words: str) -> None:
    assert describe(code) == words


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 64), (["x", "/bin/true"], 64), (["1"], 64), (["999999999", "/bin/false"], 0)]
)
def test_the_leash_refuses_wrong_arguments_and_dead_parents(arguments: list[str], code: int) -> None:
    leash = [sys.executable, str(ROOT / "atomsite/leash.py")]
    assert subprocess.run([*leash, *arguments], check=False, capture_output=True).returncode == code


def test_the_leash_becomes_the_program() -> None:
    leash = [sys.executable, str(ROOT / "atomsite/leash.py"), str(os.getpid())]
    result = subprocess.run([*leash, "/bin/echo", "a b", "c"], check=False, capture_output=True, text=True)
    assert result.stdout == "a b c\n"
