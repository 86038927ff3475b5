"""Keep a few long-running programs going, and stop all of them: the process behind `manage.py up`.

A service that dies is started again after 1, 2, 4 … seconds; five deaths in a row, each within a minute of its start,
end everything (`GaveUp`), and so nothing half-alive stays up. A service that ends with one of its `final_codes` has
ended on purpose and stays down.
"""

import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final, Self

import psutil

from atomsite.console import Console
from atomsite.leash import PR_SET_CHILD_SUBREAPER, prctl

MOST_DEATHS: Final = 5
LONGEST_PAUSE_SECONDS: Final = 30.0
#: A service that lived this long starts its count of deaths anew.
STEADY_SECONDS: Final = 60.0
SWEEP_SECONDS: Final = 5.0
LEASH: Final = Path(__file__).with_name("leash.py")


class StopRequested(Exception):  # noqa: N818 - a wish of the person, not an error
    """Ctrl-C, TERM or HUP arrived."""


class GaveUp(Exception):  # noqa: N818 - says what happened, in the past tense
    """A service died too often."""


@dataclass(frozen=True, slots=True)
class Service:
    """A program to keep running. `rungs` are the signals that stop it, each with the seconds it gets; then KILL."""

    name: str
    argv: tuple[str, ...]
    rungs: tuple[tuple[int, float], ...] = ((signal.SIGTERM, 10.0),)
    final_codes: frozenset[int] = frozenset()
    #: A program that runs once, writes straight to our output, and is not started again.
    is_once: bool = False


@dataclass(slots=True)
class Child:
    """A service and its process now. `exit_code` is set once it stays down."""

    service: Service
    process: subprocess.Popen[bytes]
    started_at: float
    deaths: int = 0
    restart_at: float | None = None
    exit_code: int | None = None
    reader: threading.Thread | None = field(default=None, repr=False)

    @property
    def is_running(self) -> bool:
        return self.exit_code is None and self.restart_at is None


def spawn(service: Service, environment: Mapping[str, str], directory: Path) -> subprocess.Popen[bytes]:
    """Start a service in a session of its own, on a leash (`atomsite.leash`). Raises OSError."""
    leash = (sys.executable, "-I", "-S", str(LEASH), str(os.getpid()))
    return subprocess.Popen(  # noqa: S603 - the argv is ours
        [*leash, *service.argv],
        stdin=subprocess.DEVNULL,
        stdout=None if service.is_once else subprocess.PIPE,
        stderr=None if service.is_once else subprocess.STDOUT,
        env=dict(environment),
        cwd=directory,
        start_new_session=True,
    )


class Supervisor:
    """Use as a context manager: inside, signals wish for a stop; on leaving, everything that was started is stopped."""

    #: Attributes, so that a test can put a clock or a process of its own here.
    _clock: Callable[[], float] = staticmethod(time.monotonic)
    _spawn: Callable[[Service, Mapping[str, str], Path], subprocess.Popen[bytes]] = staticmethod(spawn)

    def __init__(self, console: Console, *, environment: Mapping[str, str], directory: Path) -> None:
        self._console = console
        self._environment = environment
        self._directory = directory
        self._children: list[Child] = []
        self._inbox: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._wishes = 0
        self._seen_wishes = 0
        self._is_stopping = False
        self._old_handlers: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        # Whatever a child leaves behind becomes ours, so that the sweep at the end can find it.
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            self._old_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.stop()
        finally:
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)
            prctl(PR_SET_CHILD_SUBREAPER, 0)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._wishes += 1
        self._inbox.put(number)

    def start(self, service: Service) -> Child:
        """Start a service and look after it from now on. Raises OSError."""
        child = Child(service, self._spawn(service, self._environment, self._directory), self._clock())
        self._children.append(child)
        self._relay(child)
        return child

    def wait(self, *, until: Callable[[], bool] | None = None, seconds: float | None = None) -> bool:
        """Look after the children until `until()` holds (asked at every event and each tenth of a second).

        Returns False when `seconds` are over first. Raises StopRequested and GaveUp.
        """
        deadline = None if seconds is None else self._clock() + seconds
        while True:
            self.step()
            if until is not None and until():
                return True
            if deadline is not None and self._clock() >= deadline:
                return False
            dues = [child.restart_at for child in self._children if child.restart_at is not None]
            if until is not None:
                dues.append(self._clock() + 0.1)
            if deadline is not None:
                dues.append(deadline)
            self._sleep(min(dues) - self._clock() if dues else None)

    def step(self) -> bool:
        """Do what is due and return whether there was anything. Raises StopRequested and GaveUp."""
        if self._wishes > self._seen_wishes and not self._is_stopping:
            self._seen_wishes = self._wishes
            raise StopRequested
        self._reap_adopted()
        ended = [child for child in self._children if child.is_running and child.process.poll() is not None]
        for child in ended:
            self._ended(child)
        now = self._clock()
        due = [child for child in self._children if child.restart_at is not None and child.restart_at <= now]
        for child in due:
            self._restart(child)
        return bool(ended or due)

    def stop(self) -> tuple[int, ...]:
        """Stop all, last started first, and return the pids that are alive even so (none, unless the kernel holds one).

        A wish to stop that arrives meanwhile kills what is left at once.
        """
        self._is_stopping = True
        for child in self._children:
            child.restart_at = None
        mine = self._descendants()
        for child in reversed(self._children):
            self._stop_child(child)
        left = self._sweep(mine)
        for child in self._children:
            if child.reader is not None:
                child.reader.join(timeout=2)
        if left:
            self._console.say(f"Still alive: {', '.join(map(str, left))}")
        return left

    @property
    def was_hurried(self) -> bool:
        """Return whether a second wish to stop arrived."""
        return self._wishes > 1

    def _sleep(self, seconds: float | None) -> None:
        with suppress(queue.Empty):
            self._inbox.get(timeout=None if seconds is None else max(seconds, 0.0))

    def _relay(self, child: Child) -> None:
        stream = child.process.stdout
        if stream is None:
            return

        def read() -> None:
            with stream:
                for line in stream:
                    self._console.relay(child.service.name, line.decode(errors="replace").rstrip("\r\n"))

        child.reader = threading.Thread(target=read, name=f"{child.service.name}-output", daemon=True)
        child.reader.start()

    def _ended(self, child: Child) -> None:
        service, code = child.service, child.process.returncode
        if service.is_once or self._is_stopping or code in service.final_codes:
            child.exit_code = code
            if code in service.final_codes and not self._is_stopping:
                self._console.say(f"{service.name} has ended ({describe(code)}); it stays down.")
            return
        now = self._clock()
        child.deaths = 1 if now - child.started_at >= STEADY_SECONDS else child.deaths + 1
        if child.deaths >= MOST_DEATHS:
            child.exit_code = code
            raise GaveUp(f"{service.name} died {child.deaths} times in a row, the last time {describe(code)}")
        pause = min(2.0 ** (child.deaths - 1), LONGEST_PAUSE_SECONDS)
        child.restart_at = now + pause
        self._console.say(f"{service.name} died ({describe(code)}); starting it again in {pause:.0f} s.")
        self._kill_group(child)

    def _restart(self, child: Child) -> None:
        child.process = self._spawn(child.service, self._environment, self._directory)
        child.started_at, child.restart_at = self._clock(), None
        self._relay(child)

    def _stop_child(self, child: Child) -> None:
        for number, seconds in child.service.rungs:
            if child.process.poll() is None and not self.was_hurried:
                child.process.send_signal(number)
                self._await_end(child, seconds)
        if child.process.poll() is None:
            self._kill_group(child)
            self._await_end(child, SWEEP_SECONDS)
        child.exit_code = child.process.returncode

    def _await_end(self, child: Child, seconds: float) -> None:
        deadline = self._clock() + seconds
        was_hurried = self.was_hurried
        while child.process.poll() is None and self._clock() < deadline and self.was_hurried == was_hurried:
            self._sleep(min(deadline - self._clock(), 0.5))

    def _kill_group(self, child: Child) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)

    def _descendants(self) -> list[psutil.Process]:
        return psutil.Process().children(recursive=True)

    def _sweep(self, known: Sequence[psutil.Process]) -> tuple[int, ...]:
        # psutil compares pid and create time, so a pid that was given to someone else since is never touched.
        deadline = self._clock() + SWEEP_SECONDS
        for attempt in itertools.count():
            self._reap_adopted()
            alive = [process for process in {*known, *self._descendants()} if _is_alive(process)]
            if not alive or self._clock() >= deadline:
                return tuple(sorted(process.pid for process in alive))
            for process in alive:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.01 if attempt < 10 else 0.1)
        raise AssertionError("unreachable")

    def _reap_adopted(self) -> None:
        if not sys.platform.startswith("linux"):
            return  # only where there is a subreaper is anything adopted
        ours = {child.process.pid for child in self._children}
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in ours:
                # Ours first have their own status read, by Popen; the next event comes back for the rest.
                return
            os.waitpid(found.si_pid, 0)


def describe(code: int) -> str:
    """Return an exit status in words: `exit 3`, or `signal KILL`."""
    if code >= 0:
        return f"exit {code}"
    try:
        return f"signal {signal.Signals(-code).name.removeprefix('SIG')}"
    except ValueError:
        return f"signal {-code}"


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
