"""What the kernel can be asked of processes, and ending what is left of a session when nobody watched over it any more.

What is found here is found by looking (psutil, session and group ids, an environment marker), so a program that forks
faster than it can be looked at, or that hides from all of these marks, is out of reach of this module alone; a living
supervisor misses none (`family.py`).
"""

import contextlib
import ctypes
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

#: Every process of a session inherits this name, unless it clears its environment.
MARKER: Final = "ATOM_SESSION_ID"
SWEEP_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.005
#: The kernel counts a process's beginning in ticks.
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
CLOCK_TICK_SECONDS: Final = 0.02
OOM_SCORE: Final = b"500"
PR_SET_DUMPABLE: Final = 4
PR_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> bool:
    """Make orphans among this process's descendants its children, so that they can be found. False: not supported."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> bool:
    """Keep other processes of this user from reading this one's memory and environment. False: not supported."""
    return _prctl(PR_SET_DUMPABLE, 0)


def offer_to_oom_killer() -> None:
    """Let the kernel take this process and what it starts before others, and hide its memory."""
    # The file of a process that hides belongs to root.
    _prctl(PR_SET_DUMPABLE, 1)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(OOM_SCORE)
    hide_memory()


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0)) == 0


def create_time(pid: int) -> float:
    """Return when a process began, in seconds since the machine's boot, or 0.0 where it is gone.

    Not the time of day, as psutil gives it: with a step of the clock that becomes another, also for what runs already.
    """
    try:
        # The name, in brackets, may hold anything; the 22nd field (proc(5)) is the 20th behind it.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[19]) / TICKS_PER_SECOND
    except (OSError, LookupError, ValueError):
        return 0.0


@dataclass
class Tree:
    """The processes of one session, found by looking. A `root` leads its own group and session; 0 stands for none."""

    session_id: str
    root: int
    _seen: dict[int, psutil.Process] = field(default_factory=dict, init=False, repr=False)

    def survivors(self) -> list[psutil.Process]:
        """Return the living processes of the session."""
        found = {process.pid: process for process in self._seen.values() if process.is_running()}
        for process in psutil.process_iter():
            if process.pid not in found and (
                self._is_kin(process.pid) or marked_session(process.pid) == self.session_id
            ):
                found[process.pid] = process
        for process in list(found.values()):
            with contextlib.suppress(psutil.Error):
                found.update((child.pid, child) for child in process.children(recursive=True))
        found.pop(os.getpid(), None)
        self._seen = {pid: process for pid, process in found.items() if _is_alive(process)}
        return list(self._seen.values())

    def sweep(self) -> tuple[int, ...]:
        """KILL until two looks in a row find nothing, for at most 5 s. Returns the pids that are still there."""
        deadline = time.monotonic() + SWEEP_SECONDS
        clean_looks = 0
        while clean_looks < 2:
            alive = self.survivors()
            clean_looks = 0 if alive else clean_looks + 1
            for process in alive:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if alive and time.monotonic() > deadline:
                return tuple(sorted(process.pid for process in alive))
            time.sleep(PAUSE_SECONDS)
        return ()

    def _is_kin(self, pid: int) -> bool:
        try:
            return self.root > 0 and self.root in (pid, os.getsid(pid), os.getpgid(pid))
        except OSError:
            return False


def marked_session(pid: int) -> str:
    """Return the session id in a process's environment, or an empty text."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    for item in content.split(b"\0"):
        name, _, value = item.partition(b"=")
        if name == MARKER.encode():
            return value.decode(errors="replace")
    return ""


def _is_alive(process: psutil.Process) -> bool:
    """Return whether a process still runs; a zombie of ours is reaped on the way."""
    try:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return True
    except psutil.Error:
        return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    return False


def end_survivors(session_id: str, pid: int, began: float) -> tuple[int, ...]:
    """End what an earlier process of the local agent, in this boot, left of a session. Returns the pids still there.

    A process that now has the root's pid but not its create time is a stranger, and so is its group: a number is not
    given out again while a group of that number lives.
    """
    now_there = create_time(pid) if pid else 0.0
    is_stranger = now_there > 0 and abs(now_there - began) > CLOCK_TICK_SECONDS
    return Tree(session_id, 0 if is_stranger else pid).sweep()
