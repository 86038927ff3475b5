"""How much of the machine one command, and all that it starts, may take.

The kernel's own limits hold each process; a filter keeps commands from raising them again. What the kernel does not
count, the memory and the processes of a whole tree, is looked at now and then with `measure` and `excess`.
"""

import contextlib
import os
import resource
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shellagent.protocol import Reason

MEBIBYTE: Final = 1024 * 1024
#: Threads count too where the kernel bounds the number: so many for each process that is allowed, and some for the
#: supervisor.
TASKS_PER_PROCESS: Final = 4
MORE_TASKS: Final = 64
#: A file of this size may be written in the first moment of a program, before its own limit is set.
FIRST_FILE_BYTES: Final = 16 * 1024 * MEBIBYTE
#: How often a run should look, in seconds.
LOOK_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 300


def _most_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one session. Sizes are in bytes; 0 stands for no limit."""

    #: Of the whole tree: what its processes hold that is not a file's.
    memory_bytes: int = field(default_factory=_most_memory)
    #: Of the whole tree.
    processes: int = 1024
    #: Of one file.
    file_bytes: int = FIRST_FILE_BYTES
    #: Of one process, on all processors together.
    cpu_seconds: int = LONGEST_SECONDS * (os.cpu_count() or 1)
    #: Of one process.
    open_files: int = 65536
    #: Of one process. Not set by default: several runtimes reserve far more than they use.
    address_space_bytes: int = 0
    #: Processes and threads of the user that commands run as, in all sessions together and whatever else it runs.
    #: For a user of its own where there is no cgroup.
    user_tasks: int = 0

    @property
    def tasks(self) -> int:
        """Return how many processes and threads the kernel should let a session have."""
        return self.processes * TASKS_PER_PROCESS + MORE_TASKS

    def shown(self) -> dict[str, int]:
        """Return what people may set of it, by the names that the ceiling has for it."""
        return {
            "memory_mib": self.memory_bytes // MEBIBYTE,
            "processes": self.processes,
            "file_mib": self.file_bytes // MEBIBYTE,
            "cpu_seconds": self.cpu_seconds,
            "open_files": self.open_files,
        }

    def words_about(self, number: int) -> str:
        """Return a sentence about the limit that a signal stands for, empty where it stands for none."""
        if number == signal.SIGXFSZ:
            return f" This host lets one file have {self.file_bytes // MEBIBYTE} MiB."
        if number == signal.SIGXCPU:
            return f" This host gives one process {self.cpu_seconds} s of processor time."
        return ""

    def hold(self, *pids: int) -> None:
        """Put processes that were just started under the kernel's limits; a lower one that they have is kept.

        A confined thread may not do this to another process, so it is done by the host. Raises PermissionError where
        it may not either.
        """
        wanted = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: self.file_bytes or resource.RLIM_INFINITY,
            resource.RLIMIT_CPU: self.cpu_seconds or resource.RLIM_INFINITY,
            resource.RLIMIT_NOFILE: self.open_files or resource.RLIM_INFINITY,
            resource.RLIMIT_AS: self.address_space_bytes or resource.RLIM_INFINITY,
            resource.RLIMIT_NPROC: self.user_tasks or resource.RLIM_INFINITY,
        }
        for pid in pids:
            # It may have ended meanwhile.
            with contextlib.suppress(ProcessLookupError):
                for number, most in wanted.items():
                    if most != resource.RLIM_INFINITY:
                        soft, hard = resource.prlimit(pid, number)
                        resource.prlimit(pid, number, (_lower(soft, most), _lower(hard, most)))

    def hold_from_birth(self) -> None:
        """Hold this process to what must bind a command from its first moment: core dumps and the size of files."""
        for number, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, max(self.file_bytes, FIRST_FILE_BYTES)),
        ):
            soft, hard = resource.getrlimit(number)
            resource.setrlimit(number, (_lower(soft, most), hard))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree of processes takes now."""

    processes: int
    memory_bytes: int


def measure(roots: Iterable[int]) -> Usage:
    """Return what these processes and all below them take. About 0.2 ms a process."""
    memory, seen, waiting = 0, set[int](), list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in seen:
            seen.add(pid)
            memory += _own_memory(pid)
            waiting += _children(pid)
    return Usage(len(seen), memory)


def excess(limits: Limits, roots: Iterable[int]) -> tuple[Reason, str] | None:
    """Return why a tree must end, and a sentence for people; None where it keeps within its limits.

    Memory that a fork shares with its parent is counted twice in the quick look, so before anything is ended the kernel
    is asked for the exact share of each process.
    """
    kept = tuple(roots)
    usage = measure(kept)
    if limits.processes and usage.processes > limits.processes:
        most = limits.processes
        return Reason.PROCESS_LIMIT, f"It ran {usage.processes} processes at once; this host allows {most}."
    if limits.memory_bytes and usage.memory_bytes > limits.memory_bytes:
        exact = _shared_out(kept)
        if exact > limits.memory_bytes:
            used, most = exact // MEBIBYTE, limits.memory_bytes // MEBIBYTE
            return Reason.MEMORY_LIMIT, f"It took {used} MiB of memory; this host allows {most} MiB."
    return None


def _lower(one: int, other: int) -> int:
    if one == resource.RLIM_INFINITY:
        return other
    return min(one, other)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def _own_memory(pid: int) -> int:
    return _sum(f"/proc/{pid}/status", (b"RssAnon:", b"RssShmem:", b"VmSwap:"))


def _shared_out(roots: Iterable[int]) -> int:
    """Return the memory of a tree, where each page is shared out among those who use it."""
    memory, seen, waiting = 0, set[int](), list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in seen:
            seen.add(pid)
            waiting += _children(pid)
            parts = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")
            memory += _sum(f"/proc/{pid}/smaps_rollup", parts) or _own_memory(pid)
    return memory


def _sum(path: str, names: tuple[bytes, ...]) -> int:
    try:
        with open(path, "rb") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(names))
    except (OSError, ValueError, IndexError):
        return 0
