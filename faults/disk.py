"""A disk under a host's state folder that can be filled and emptied again."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

SIZE_MIB: Final = 160
CHUNK: Final = b"\0" * (1024 * 1024)


class Disk:
    """A small file system of its own where this may mount one, else a limit on how large the host's files may get.

    `kind` says which; `pid` gives the host's process now, or 0.
    """

    def __init__(self, folder: Path, pid: Callable[[], int]) -> None:
        self._folder = folder
        self._pid = pid
        self.is_mounted = _mount(folder)
        self.kind = f"a file system of {SIZE_MIB} MiB" if self.is_mounted else "RLIMIT_FSIZE of the host's process"

    def fill(self) -> bool:
        """Leave no room at all. Returns whether that was done."""
        if not self.is_mounted:
            return self._limit(0)
        with contextlib.suppress(OSError), (self._folder / "filler").open("ab", buffering=0) as filler:
            while True:
                filler.write(CHUNK)
        with contextlib.suppress(OSError), (self._folder / "filler").open("ab", buffering=0) as filler:
            while True:
                filler.write(b"\0" * 512)
        return True

    def free(self) -> None:
        """Make room again."""
        if self.is_mounted:
            (self._folder / "filler").unlink(missing_ok=True)
        else:
            self._limit(resource.RLIM_INFINITY)

    def close(self) -> None:
        """Unmount; lazily, because a process that is about to be gone may still be there."""
        if self.is_mounted:
            subprocess.run(["umount", "-l", str(self._folder)], check=False, capture_output=True)

    def _limit(self, size: int) -> bool:
        pid = self._pid()
        if not pid:
            return False
        with contextlib.suppress(OSError):
            _soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size == resource.RLIM_INFINITY else size, hard))
            return True
        return False


def _mount(folder: Path) -> bool:
    if os.geteuid() != 0:
        return False
    options = f"size={SIZE_MIB}m,mode=0700"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "atom-faults", str(folder)], check=False, capture_output=True
    )
    return done.returncode == 0
