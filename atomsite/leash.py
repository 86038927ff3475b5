"""Run a program that is told to stop when its parent dies, however the parent dies.

Started as a script (`python -I -S leash.py PARENT_PID PROGRAM ARGUMENT…`) so that it costs milliseconds. On Linux the
kernel sends TERM to the program when the parent is gone (`prctl(2)`, PR_SET_PDEATHSIG, kept over an exec); elsewhere
the program runs without that, and only an orderly stop of the parent ends it.
"""

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_CHILD_SUBREAPER: Final = 36
EXIT_USAGE: Final = 64


def prctl(option: int, value: int) -> bool:
    """Call prctl(2) with one argument. Returns False where the system has no such call or refuses it."""
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)


def hide_memory() -> bool:
    """Keep other processes of this user from this one's memory and environment, and from those of its forks."""
    return prctl(PR_SET_DUMPABLE, 0)


def stop_without_parent(parent: int) -> None:
    """Have this process told to stop when its parent dies; at once where it has died already."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # The parent may have died before the call above; then nobody would ever send the signal.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """Become the program. Returns only when it must not run: 64 for wrong arguments, 0 when the parent is gone."""
    if len(arguments) < 2 or not arguments[0].isdigit():
        sys.stderr.write("usage: leash.py PARENT_PID PROGRAM [ARGUMENT ...]\n")
        return EXIT_USAGE
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # The parent may have died before the call above; then nobody would ever send the signal.
    if os.getppid() == int(arguments[0]):
        os.execv(arguments[1], arguments[1:])  # noqa: S606 - there is no shell on purpose
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
