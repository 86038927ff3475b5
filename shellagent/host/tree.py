"""Ending everything that a command started: its group, its children, and those that moved to a session of their own.

What is found here is found by looking (psutil, session and group ids, an environment marker), so a program that forks
faster than it can be looked at, or that hides from all of these marks, is out of reach of this module alone.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

logger = logging.getLogger(__name__)

#: Every process of a session inherits this name, unless it clears its environment.
MARKER: Final = "ATOM_SESSION_ID"
SWEEP_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.005
#: The kernel counts a process's beginning in ticks.
CLOCK_TICK_SECONDS: Final = 0.02
PR_SET_DUMPABLE: Final = 4
PR_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> bool:
    """Make orphans among this process's descendants its children, so that they can be found. False: not supported."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> bool:
    """Keep other processes of this user from reading this one's memory and environment. False: not supported."""
    return _prctl(PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0)) == 0


def create_time(pid: int) -> float:
    """Return when a process began, or 0.0 where it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


def own_children() -> list[int]:
    """Return the children of this process's main thread, adopted ones included; empty where that cannot be read."""
    pid = os.getpid()
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []


@dataclass
class Tree:
    """The processes of one session. Each of its `roots` leads its own group and session."""

    session_id: str
    roots: set[int] = field(default_factory=set)
    #: Whether a sweep ends the roots too; otherwise their parent, who must wait for them, does that.
    includes_roots: bool = False
    _seen: dict[int, psutil.Process] = field(default_factory=dict, init=False, repr=False)

    def look(self) -> None:
        """Remember who is in the tree now: a child whose parent dies later can then still be found."""
        for root in self.roots:
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(root).children(recursive=True):
                    self._seen.setdefault(process.pid, process)

    def remember(self, pids: Iterable[int]) -> None:
        """Count these processes to the tree."""
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                self._seen.setdefault(pid, psutil.Process(pid))

    def terminate(self) -> None:
        """Send TERM to the groups."""
        for root in self.roots:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(root, signal.SIGTERM)

    def settle(self, root: int, *, spare: set[int]) -> None:
        """Forget a root that was reaped, as its number may soon be a stranger's; unless it left something."""
        if self._may_have_survivors(root, spare):
            self.survivors(spare=spare)
        else:
            self.roots.discard(root)

    def _may_have_survivors(self, root: int, spare: set[int]) -> bool:
        """Return, cheaply, whether a root that was reaped may have left anything."""
        if self._seen or not spare.issuperset(own_children()):
            return True
        try:
            os.killpg(root, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def survivors(self, *, spare: set[int]) -> list[psutil.Process]:
        """Return the living processes of the session besides its roots. `spare` are never among them."""
        found = dict(self._seen)
        for process in list(found.values()):
            with contextlib.suppress(psutil.Error):
                found.update((child.pid, child) for child in process.children(recursive=True))
        candidates = [pid for pid in psutil.pids() if self._is_kin(pid)]
        candidates += [pid for pid in own_children() if pid not in found and self._is_marked(pid)]
        for pid in candidates:
            if pid not in found:
                with contextlib.suppress(psutil.Error):
                    found[pid] = psutil.Process(pid)
        for pid in (os.getpid(), *spare, *(() if self.includes_roots else self.roots)):
            found.pop(pid, None)
        self._seen = {pid: process for pid, process in found.items() if _is_alive(process)}
        return list(self._seen.values())

    def sweep(self, *, spare: set[int]) -> tuple[int, ...]:
        """KILL until two looks in a row find nothing, for at most 5 s. Returns the pids that are still there."""
        deadline = time.monotonic() + SWEEP_SECONDS
        clean_looks = 0
        while clean_looks < 2:
            alive = self.survivors(spare=spare)
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
            return os.getsid(pid) in self.roots or os.getpgid(pid) in self.roots
        except OSError:
            return False

    def _is_marked(self, pid: int) -> bool:
        return marked_session(pid) == self.session_id


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
    tree = Tree(session_id, set() if is_stranger or not pid else {pid}, includes_roots=True)
    tree.remember(process.pid for process in psutil.process_iter() if marked_session(process.pid) == session_id)
    return tree.sweep(spare=set())
