"""Slots: how many sessions run at once; with each come a supervisor, a temporary folder and, at best, a cgroup."""

import hashlib
import os
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from shellagent.host.cgroups import Cgroups
from shellagent.host.state import cache_folder
from shellagent.host.zygote import Supervisor


@dataclass(slots=True, eq=False)
class Slot:
    """Room for one session. `temporary` is where its TMPDIR is; its supervisor is made when it is first needed.

    `cgroup` is the folder of the cgroup that bounds its processes, empty where there is none.
    """

    temporary: Path
    cgroup: str = ""
    supervisor: Supervisor | None = None


@dataclass
class Slots:
    """The slots of one process, taken before sessions are claimed, so that no claimed session waits for one."""

    count: int
    folder: Path
    #: Where a cgroup for each can be made, None where that cannot be.
    cgroups: Cgroups | None = None
    #: How many processes and threads each cgroup has room for.
    tasks: int = 0
    all: list[Slot] = field(default_factory=list, init=False, repr=False)
    _free: list[Slot] = field(default_factory=list, init=False, repr=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)

    def create(self) -> None:
        """Make the folders, empty. Raises OSError."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(self.count):
            temporary = self.folder / f"slot-{number}"
            temporary.mkdir(mode=0o700, exist_ok=True)
            cgroup = self.cgroups.make(temporary.name, self.tasks) if self.cgroups is not None else ""
            self.all.append(Slot(temporary, cgroup))
        # The last one given back is taken first, so that a host with little to do has few supervisors.
        self._free = list(reversed(self.all))

    def remove(self) -> None:
        """Remove the folders."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def take(self, *, timeout_seconds: float, least: int = 1, linger_seconds: float = 0.0) -> list[Slot]:
        """Take all free slots; waits for one, and then at most the linger for `least`. Empty when none came free."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free, timeout_seconds):
                return []
            if len(self._free) < least and linger_seconds > 0:
                self._changed.wait_for(lambda: len(self._free) >= least, linger_seconds)
            taken, self._free = self._free, []
            self._changed.notify_all()
        return taken

    def give_back(self, *slots: Slot) -> None:
        """Make slots free again."""
        with self._changed:
            self._free.extend(slots)
            self._changed.notify_all()

    def wait_until_full(self, *, timeout_seconds: float) -> bool:
        """Wait until no slot is free. Returns False where one still is when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._free, timeout_seconds)

    @property
    def free(self) -> int:
        """Return how many slots are free now."""
        return len(self._free)


def temporary_folder(state: Path) -> Path:
    """Return where the slots of the local agent with this state folder are: outside it, and of no other agent."""
    return cache_folder() / f"tmp-{hashlib.sha256(os.fsencode(state)).hexdigest()[:8]}"
