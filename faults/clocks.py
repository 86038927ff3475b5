"""A clock that one program sees, by a small library loaded before its own: the machine's own clock is never touched.

Only the time of day is stepped, as an operator or NTP steps it. The monotonic clock goes on as it does then.
"""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("clock.c")
#: As clock.c reads it.
OFFSET: Final = struct.Struct("=q")


def build(folder: Path) -> Path | None:
    """Compile the library into a folder, and return it, or None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "clock.so"
    argv = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)]
    done = subprocess.run(argv, check=False, capture_output=True)
    return library if done.returncode == 0 else None


class Clock:
    """The offset from the true time that programs with `environment` see, in whole seconds."""

    def __init__(self, path: Path, library: Path | None) -> None:
        self.offset = 0
        self.library = library
        self._path = path
        path.write_bytes(OFFSET.pack(0).ljust(mmap.PAGESIZE, b"\0"))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 0)

    def environment(self) -> dict[str, str]:
        """Return what a program needs in its environment to see this clock; empty where that cannot be had."""
        if self.library is None:
            return {}
        return {"LD_PRELOAD": str(self.library), "ATOM_FAULTS_CLOCK": str(self._path)}

    def step(self, offset: int) -> None:
        """Let programs see the true time and `offset` seconds from now on."""
        self.offset = offset
        OFFSET.pack_into(self._page, 0, offset)
