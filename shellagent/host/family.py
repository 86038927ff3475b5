"""Ending everything that a plan started, from inside the process that adopts its orphans.

Whatever a program does (forking twice, a session of its own, an empty environment), its processes stay descendants
of the supervisor, because it is a subreaper. So nothing has to be recognised: what is a child must go, and when the
kernel says that there is no child left, nothing is left.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

SWEEP_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.001
#: Rounds without a pause: a chain of processes that fork and end is caught by being faster.
ROUNDS: Final = 200


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep met: whether anything still ran, and the pids that are still there."""

    had_living: bool = False
    left_behind: tuple[int, ...] = ()


@dataclass
class Family:
    """The descendants of this process. `spared` are children that were there before and are somebody else's."""

    spared: frozenset[int] = field(default_factory=lambda: frozenset(children()))

    def living(self) -> list[int]:
        """Return the children, adopted ones included; those that ended and were not waited for too."""
        return [pid for pid in children() if pid not in self.spared]

    def reap(self, *, kept: frozenset[int] = frozenset()) -> None:
        """Wait for adopted children that have ended. `kept` are waited for by somebody else."""
        for pid in self.living():
            if pid not in kept:
                _waited(pid)

    def terminate(self) -> None:
        """Send TERM to every group that a descendant is in."""
        groups = set()
        for pid in self.descendants():
            with contextlib.suppress(ProcessLookupError):
                groups.add(os.getpgid(pid))
        for group in groups - {os.getpgrp()}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGTERM)

    def settle(self, *, seconds: float = 0.25) -> None:
        """Wait until those that are about to end have ended: a process lets go of its pipes some time before that."""
        deadline = time.monotonic() + seconds
        while not self.is_gone() and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
            self.reap()

    def kill(self, *, seconds: float = 1.0) -> None:
        """Send KILL to all until each has ended; who is to wait for them may do so afterwards."""
        deadline = time.monotonic() + seconds
        while sum(map(_kill_running, self.descendants())) and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)

    def descendants(self) -> Iterator[int]:
        """Walk the tree, parents first."""
        waiting = self.living()
        while waiting:
            pid = waiting.pop()
            yield pid
            waiting += children(pid)

    def sweep(self) -> Swept:
        """KILL and wait until there is no child, for at most 5 s."""
        had_living = False
        if self.is_gone():
            return Swept()
        deadline, rounds = time.monotonic() + SWEEP_SECONDS, 0
        while time.monotonic() < deadline:
            for pid in self.descendants():
                had_living |= _kill_running(pid)
            self.reap()
            if self.is_gone():
                return Swept(had_living)
            rounds += 1
            if rounds > ROUNDS:
                time.sleep(PAUSE_SECONDS)
        return Swept(had_living, tuple(sorted(self.descendants())))

    def is_gone(self) -> bool:
        """Return whether the kernel knows of no child; a list of children that is empty would be no proof."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return bool(self.spared) and not self.living()


def children(pid: int | None = None) -> list[int]:
    """Return the children of all threads of a process, by default this one; empty where it is gone."""
    pid = pid or os.getpid()
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
    except OSError:
        if not _HAS_CHILDREN:
            with contextlib.suppress(psutil.Error):
                return [process.pid for process in psutil.Process(pid).children()]
    return found


def _waited(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _kill_running(pid: int) -> bool:
    """Send KILL; returns whether the process had not ended before."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return state not in (b"Z", b"X")


_HAS_CHILDREN: Final = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
