"""System calls that a command cannot make. libseccomp writes the filter, once for each kind of command.

Everything is allowed but what is listed: a command may be any program, and what it may reach is Landlock's work. Listed
is what Landlock does not cover, and what has no business in a command. A refused call fails with EPERM, as if the
user lacked the right; another architecture's call (32-bit, x32) ends the program with SIGSYS.
"""

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, Final, cast

PR_SET_SECCOMP: Final = 22
MODE_FILTER: Final = 2

ALWAYS: Final = """
io_uring_setup io_uring_enter io_uring_register
ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd move_pages migrate_pages
mount umount umount2 mount_setattr move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick pivot_root chroot
unshare setns bpf perf_event_open userfaultfd fanotify_init open_by_handle_at lookup_dcookie
keyctl add_key request_key
shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl ipc mq_open mq_unlink
sethostname setdomainname settimeofday stime clock_settime clock_settime64 clock_adjtime clock_adjtime64 adjtimex
kexec_load kexec_file_load init_module finit_module delete_module create_module reboot swapon swapoff
quotactl quotactl_fd acct nfsservctl vhangup iopl ioperm modify_ldt uselib
"""
#: A read command changes nothing, not even what is known about a file.
METADATA: Final = """
chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat chown32 fchown32 lchown32
utime utimes futimesat utimensat utimensat_time64 file_setattr
setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
"""
#: Newer than the libseccomp of some systems; from 424 on a call has one number on all architectures.
NEWER: Final = {
    "process_mrelease": 448,
    "fchmodat2": 452,
    "setxattrat": 463,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_setattr": 469,
}
#: Pushing characters into a terminal: TIOCSTI and TIOCLINUX.
TERMINAL_REQUESTS: Final = (0x5412, 0x541C)
#: FS_IOC_SETFLAGS, its 32-bit form, FS_IOC_SETVERSION and FS_IOC_FSSETXATTR: metadata by another way.
METADATA_REQUESTS: Final = (0x40086602, 0x40046602, 0x40087602, 0x401C5820)
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME.
NAMESPACES: Final = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80)
#: RLIMIT_CPU, FSIZE, CORE, NPROC and AS; raising the number of open files stays free.
HELD_LIMITS: Final = (0, 1, 4, 6, 9)
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
#: NETLINK_ROUTE and NETLINK_SOCK_DIAG: what `ip` and `ss` read. Changing anything there takes a capability.
NETLINK_FACTS: Final = (0, 4)
#: The highest number that can matter; what is above is refused by one rule.
LAST_FAMILY, LAST_NETLINK = 17, 5

#: A condition is an argument's number, an operator's name in pyseccomp, and one or two numbers.
Condition = tuple[int, str, int] | tuple[int, str, int, int]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a filter depends on."""

    is_read_only: bool = False
    may_use_network: bool = False
    may_ask_daemons: bool = False


class _Fprog(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


@dataclass(frozen=True, slots=True)
class Program:
    """A filter as the kernel reads it, eight bytes an instruction."""

    code: bytes

    def load(self) -> None:
        """Hold the calling thread to the filter, for good. Needs no-new-privs. Raises OSError."""
        program = _Fprog(len(self.code) // 8, self.code)
        if _libc().prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0):
            number = ctypes.get_errno()
            raise OSError(number, f"seccomp: {os.strerror(number)}")


@lru_cache(maxsize=8)
def program_for(kind: Kind) -> Program | None:
    """Return the filter for a kind of command; None where libseccomp is missing or cannot make it."""
    library = _library()
    if library is None:
        return None
    try:
        return Program(_compile(library, kind))
    except OSError:
        return None


def _library() -> ModuleType | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        import pyseccomp  # noqa: PLC0415 - it looks for libseccomp when it is imported
    except (ImportError, RuntimeError, OSError):
        return None
    return cast(ModuleType, pyseccomp)


def _compile(library: Any, kind: Kind) -> bytes:
    made = library.SyscallFilter(library.ALLOW)
    made.set_attr(library.Attr.ACT_BADARCH, library.KILL_PROCESS)
    # A tree in place of a list; libseccomp before 2.5 has none.
    with contextlib.suppress(OSError):
        made.set_attr(8, 2)
    refuse = library.ERRNO(errno.EPERM)
    for name in (ALWAYS + (METADATA if kind.is_read_only else "")).split():
        number = _number(library, name)
        if number is not None:
            made.add_rule(refuse, number)
    # Its flags are in memory, where no filter can look; C libraries then take `clone`.
    made.add_rule(library.ERRNO(errno.ENOSYS), "clone3")
    for name, conditions in _conditional(kind):
        arguments = [library.Arg(item[0], getattr(library, item[1]), *item[2:]) for item in conditions]
        made.add_rule(refuse, name, *arguments)
    with os.fdopen(os.memfd_create("seccomp"), "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def _number(library: Any, name: str) -> int | None:
    number: int = library.resolve_syscall(library.Arch.NATIVE, name)
    # A negative number is that of a call which this architecture does not have.
    return NEWER.get(name) if number < 0 else number


def _conditional(kind: Kind) -> Iterator[tuple[str, tuple[Condition, ...]]]:
    for flag in NAMESPACES[:-1]:
        # CLONE_NEWTIME lies where `clone` has its signal, and is for `unshare` only.
        yield "clone", ((0, "MASKED_EQ", flag, flag),)
    for request in (*TERMINAL_REQUESTS, *(METADATA_REQUESTS if kind.is_read_only else ())):
        yield "ioctl", (_equal(1, request),)
    # On itself (0) a program may do these.
    yield "setpriority", ((0, "NE", 0),)
    yield "setpriority", ((1, "NE", 0),)
    yield "ioprio_set", ((0, "NE", 1),)
    yield "ioprio_set", ((1, "NE", 0),)
    for name in ("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"):
        yield name, ((0, "NE", 0),)
    yield "prlimit64", ((0, "NE", 0), (2, "NE", 0))
    for limit in HELD_LIMITS:
        yield "prlimit64", (_equal(1, limit), (2, "NE", 0))
        yield "setrlimit", (_equal(0, limit),)
    yield from _sockets(kind)


def _sockets(kind: Kind) -> Iterator[tuple[str, tuple[Condition, ...]]]:
    families = {AF_NETLINK}
    if kind.may_use_network:
        families |= {AF_INET, AF_INET6}
    if kind.may_ask_daemons:
        families.add(AF_UNIX)
    yield from (("socket", (condition,)) for condition in _others(0, families, LAST_FAMILY))
    for condition in _others(2, NETLINK_FACTS, LAST_NETLINK):
        yield "socket", ((0, "EQ", AF_NETLINK), condition)


def _equal(argument: int, value: int) -> Condition:
    """Return what matches a 32-bit number: the kernel passes over the upper half of its register."""
    return argument, "MASKED_EQ", 0xFFFFFFFF, value


def _others(argument: int, allowed: Iterable[int], last: int) -> Iterator[Condition]:
    """Return what matches every value but those allowed; all from `last` on are others, with them an upper half."""
    kept = set(allowed)
    yield from ((argument, "EQ", value) for value in range(last) if value not in kept)
    yield argument, "GE", last


_kept: list[ctypes.CDLL] = []


def _libc() -> ctypes.CDLL:
    if not _kept:
        _kept.append(ctypes.CDLL(None, use_errno=True))
    return _kept[0]
