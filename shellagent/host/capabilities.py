"""What a thread may still do as itself: its capabilities, its user, and the right to gain new ones.

On Linux credentials belong to a thread. The C library's own calls for changing the user change it in all threads, so
the bare system calls are made here; what is started by the thread afterwards inherits them.
"""

import ctypes
import os
import platform
import pwd
import sys
from dataclasses import dataclass
from typing import Final

from shellagent.host.errors import StateError

PR_SET_SECUREBITS: Final = 28
#: NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, each with its lock (linux/securebits.h).
SECUREBITS: Final = 0b11101111
CAPABILITY_VERSION_3: Final = 0x20080522
#: setgroups, setresgid, setresuid.
_NUMBERS: Final = {"x86_64": (116, 119, 117), "aarch64": (159, 149, 147)}


@dataclass(frozen=True, slots=True)
class Account:
    """The user that commands run as, where it is another than the host's own."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    def become(self) -> None:
        """Make the calling thread this user, for good. Raises OSError."""
        setgroups, setresgid, setresuid = _NUMBERS[platform.machine()]
        groups = (ctypes.c_uint32 * len(self.groups))(*self.groups)
        _call(setgroups, len(self.groups), groups)
        _call(setresgid, self.gid, self.gid, self.gid)
        _call(setresuid, self.uid, self.uid, self.uid)


def find_account(name: str) -> Account:
    """Return a user to run commands as. Raises StateError where that cannot be."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise StateError(f"There is no user {name!r} on this machine to run commands as.") from None
    if entry.pw_uid == 0:
        raise StateError("Commands cannot be given root as a user of their own. Name an unprivileged one.")
    if os.geteuid() != 0:
        raise StateError(f"Only a local agent that root starts can run commands as {name}.")
    if platform.machine() not in _NUMBERS:
        raise StateError(f"Running commands as another user is not known for {platform.machine()}.")
    return Account(name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)))


def drop_capabilities() -> None:
    """Take every capability from the calling thread, and from what root would gain by starting a program."""
    libc = _libc()
    # Needs a capability itself; whoever lacks that one is given none at a start either.
    libc.prctl(PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing):
        raise _error("capset")


def _call(number: int, *arguments: object) -> None:
    if _libc().syscall(ctypes.c_long(number), *arguments):
        raise _error(f"system call {number}")


def _error(name: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{name}: {os.strerror(number)}")


_kept: list[ctypes.CDLL] = []


def _libc() -> ctypes.CDLL:
    if not _kept:
        if not sys.platform.startswith("linux"):
            raise OSError("capabilities are known to Linux only")
        _kept.append(ctypes.CDLL(None, use_errno=True))
    return _kept[0]
