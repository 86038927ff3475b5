"""Ways out of a sandbox. Run as a program of its own, confined: it tries each in a child and prints how it ended.

Only the standard library: a confined program cannot read the project's files, so this text is its `-c`.
"""
# ruff: noqa: PLW0108, S103, S108, S606, SIM115 - it is a list of things not to do, all as lambdas

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import stat
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

OUTSIDE, STATE, GRANTED, OWN = (Path(os.environ.get(name, "/")) for name in ("OUTSIDE", "STATE", "GRANTED", "OWN"))
HOST = int(os.environ.get("HOST", "0"))
PORT = int(os.environ.get("PORT", "0"))
FILE = OUTSIDE / "file"
IS_X86 = platform.machine() == "x86_64"
#: What a refusal looks like: no right, no such access, another file system (a link out of a domain), no such call.
REFUSALS = (errno.EPERM, errno.EACCES, errno.EXDEV, errno.ENOSYS)

WAYS: dict[str, Callable[[], object]] = {}
libc = ctypes.CDLL(None, use_errno=True)


def way(title: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    def add(attempt: Callable[[], object]) -> Callable[[], object]:
        WAYS[title] = attempt
        return attempt

    return add


def call(number: int, *arguments: object) -> int:
    """Make a system call by its number. Raises OSError."""
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def numbered(x86: int, arm: int) -> int:
    return x86 if IS_X86 else arm


# Files

WAYS |= {
    "read a file outside": lambda: FILE.read_text(),
    "write a file outside": lambda: FILE.write_text("x"),
    "append to a file outside": lambda: os.open(FILE, os.O_APPEND | os.O_WRONLY),
    "truncate a file outside": lambda: os.truncate(FILE, 0),
    "make a file outside": lambda: (OUTSIDE / "new").touch(),
    "make a folder outside": lambda: (OUTSIDE / "new").mkdir(),
    "make a link outside": lambda: (OUTSIDE / "new").symlink_to("/"),
    "make a FIFO outside": lambda: os.mkfifo(OUTSIDE / "new"),
    "remove a file outside": lambda: FILE.unlink(),
    "list a folder outside": lambda: os.listdir(OUTSIDE),
    "a nameless file outside (O_TMPFILE)": lambda: os.open(OUTSIDE, os.O_TMPFILE | os.O_RDWR, 0o600),
    "`..` from a granted folder": lambda: (GRANTED / ".." / OUTSIDE.name / "file").read_text(),
    "`..` from an open folder": lambda: os.open(f"../{OUTSIDE.name}/file", os.O_RDONLY, dir_fd=_open(GRANTED)),
    "openat2 with RESOLVE_IN_ROOT": lambda: call(
        437, _open(Path("/")), os.fsencode(FILE), struct.pack("QQQ", os.O_RDONLY, 0, 0x10), 24
    ),
    "chdir outside and list there": lambda: _list_from_inside(),
    "a path through /proc/self/root": lambda: Path(f"/proc/self/root{FILE}").read_text(),
    "a path through the host's /proc/PID/root": lambda: Path(f"/proc/{HOST}/root{FILE}").read_text(),
    "a path through the host's /proc/PID/cwd": lambda: os.listdir(f"/proc/{HOST}/cwd"),
    "an open file of the host, /proc/PID/fd": lambda: os.open(f"/proc/{HOST}/fd/0", os.O_RDONLY),
    "rename a file from outside in": lambda: FILE.rename(OWN / "moved"),
    "write to a file that may be read": lambda: (GRANTED / "file").write_text("x"),
    "make a file where only reading is granted": lambda: (GRANTED / "new").touch(),
    "read the host's key": lambda: (STATE / "key").read_text(),
    "write to the host's journal": lambda: (STATE / "journal" / "x").touch(),
    "read /etc/shadow": lambda: Path("/etc/shadow").read_text(),
    "list /root": lambda: os.listdir("/root"),
    "write /etc/passwd": lambda: os.open("/etc/passwd", os.O_WRONLY),
    "change a program of the system": lambda: os.open("/usr/bin/env", os.O_WRONLY),
    "make a file in /dev/shm": lambda: _in_shared_memory(),
    "make a device": lambda: os.mknod(OWN / "mem", stat.S_IFCHR | 0o600, os.makedev(1, 1)),
}


def _list_from_inside() -> None:
    os.chdir(OUTSIDE)
    os.listdir(".")


def _in_shared_memory() -> None:
    name = f"/dev/shm/atom-{os.getpid()}"
    os.open(name, os.O_CREAT | os.O_EXCL)
    os.unlink(name)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY)


@way("a symbolic link to outside")
def _link() -> None:
    (OWN / "link").symlink_to(FILE)
    (OWN / "link").read_text()


@way("a hard link to a file outside")
def _hard_link() -> None:
    (OWN / "hard").hardlink_to(FILE)
    (OWN / "hard").read_text()


@way("rename a file out")
def _rename_out() -> None:
    (OWN / "mine").touch()
    (OWN / "mine").rename(OUTSIDE / "mine")


@way("exchange two names across the border (renameat2)")
def _exchange() -> None:
    (OWN / "mine").touch()
    call(numbered(316, 276), -100, os.fsencode(OWN / "mine"), -100, os.fsencode(FILE), 2)


@way("a link swapped while it is opened, 3,000 times")
def _swapped() -> None:
    link, spare = OWN / "swapped", OWN / "spare"
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            for target in (OUTSIDE, GRANTED):
                spare.symlink_to(target)
                spare.rename(link)

    link.symlink_to(GRANTED)
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(3000):
            with contextlib.suppress(OSError):
                if (link / "file").read_text() == "outside\n":
                    return
    finally:
        is_over.set()
        swapper.join()
    raise PermissionError(errno.EACCES, "")


# What is known about files

WAYS |= {
    "chmod of a file outside": lambda: os.chmod(FILE, 0o666),
    "chmod of a file that may be read": lambda: os.chmod(GRANTED / "file", 0o666),
    "chmod by the newest number (fchmodat2)": lambda: call(452, -100, os.fsencode(FILE), 0o666, 0),
    "chown of a file outside to a stranger": lambda: os.chown(FILE, 65534, 65534),
    "change a file's times": lambda: os.utime(FILE, (1, 1)),
    "set an extended attribute": lambda: os.setxattr(FILE, "user.atom", b"x"),
    "set one by the newest number (setxattrat)": lambda: call(
        463, -100, os.fsencode(FILE), 0, b"user.atom", struct.pack("QII", 0, 0, 0), 16
    ),
    "remove an extended attribute": lambda: os.removexattr(FILE, "user.kept"),
    "set a file's flags (FS_IOC_SETFLAGS)": lambda: fcntl.ioctl(
        _open(GRANTED / "file"), 0x40086602, struct.pack("l", 0x80)
    ),
}

# The host's process


@way("read the host's memory (process_vm_readv)")
def _read_memory() -> None:
    room = ctypes.create_string_buffer(8)
    local = struct.pack("PN", ctypes.addressof(room), 8)
    call(numbered(310, 270), HOST, local, 1, local, 1, 0)


def _pidfd(pid: int) -> int:
    return os.pidfd_open(pid)


WAYS |= {
    "signal the host": lambda: os.kill(HOST, 0),
    "signal the host by a descriptor": lambda: signal.pidfd_send_signal(_pidfd(HOST), 0),
    "trace the host (ptrace)": lambda: call(numbered(101, 117), 16, HOST, 0, 0),
    "trace it without stopping it (PTRACE_SEIZE)": lambda: call(numbered(101, 117), 0x4206, HOST, 0, 0),
    "read the host's environment": lambda: Path(f"/proc/{HOST}/environ").read_bytes(),
    "open the host's memory, /proc/PID/mem": lambda: os.open(f"/proc/{HOST}/mem", os.O_RDONLY),
    "read the host's memory map": lambda: Path(f"/proc/{HOST}/maps").read_bytes(),
    "take a descriptor from the host (pidfd_getfd)": lambda: call(438, _pidfd(HOST), 0, 0),
    "renice the host": lambda: os.setpriority(os.PRIO_PROCESS, HOST, os.getpriority(os.PRIO_PROCESS, HOST)),
    "change the host's limits (prlimit)": lambda: resource.prlimit(
        HOST, resource.RLIMIT_NOFILE, resource.prlimit(HOST, resource.RLIMIT_NOFILE)
    ),
    "pin the host to a processor": lambda: os.sched_setaffinity(HOST, os.sched_getaffinity(HOST)),
    "slow the host's disk down (ioprio_set)": lambda: call(numbered(251, 30), 1, HOST, 0),
    "give the host to the OOM killer": lambda: Path(f"/proc/{HOST}/oom_score_adj").open("w"),
    "compare descriptors with the host (kcmp)": lambda: call(numbered(312, 272), HOST, os.getpid(), 0, 0, 0),
    "move the host's memory (move_pages)": lambda: call(numbered(279, 239), HOST, 0, 0, 0, 0, 0),
    "become another user": lambda: os.setuid(os.getuid() + 1),
    "keep itself from being ended first (oom_score_adj)": lambda: Path("/proc/self/oom_score_adj").write_text("-999"),
    "raise its own limit of file size": lambda: resource.prlimit(0, resource.RLIMIT_FSIZE, (1, 1)),
}

# The network and other programs' sockets

WAYS |= {
    "TCP to a server": lambda: socket.create_connection(("127.0.0.1", PORT), 2),
    "TCP Fast Open": lambda: socket.socket().sendto(b"x", 0x20000000, ("127.0.0.1", PORT)),
    "MPTCP to a server": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(("127.0.0.1", PORT)),
    "UDP to a server": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT)),
    "UDP over IPv6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"x", ("::1", PORT)),
    "raw IP": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "ping": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1),
    "raw packets (AF_PACKET)": lambda: socket.socket(17, socket.SOCK_RAW),
    "the hypervisor (AF_VSOCK)": lambda: socket.socket(40, socket.SOCK_STREAM),
    "the kernel's ciphers (AF_ALG)": lambda: socket.socket(38, socket.SOCK_SEQPACKET),
    "listen on a bound port": lambda: socket.create_server(("127.0.0.1", 0)),
    "listen without a bind": lambda: socket.socket().listen(),
    "a daemon's socket by its path": lambda: socket.socket(socket.AF_UNIX).connect(os.environ["SOCKET"]),
    "a daemon's abstract socket": lambda: socket.socket(socket.AF_UNIX).connect("\0" + os.environ["ABSTRACT"]),
    "netlink: the firewall": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12),
    "netlink: events of the kernel": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15),
    "netlink: any family (generic)": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16),
}


@way("netlink: take an interface down")
def _interface() -> None:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    link.send(struct.pack("IHHIIBxHiII", 32, 16, 5, 1, 0, 0, 0, 1, 0, 1))
    failed = struct.unpack_from("i", link.recv(4096), 16)[0]
    if failed:
        raise OSError(-failed, "")


@way("a socket by io_uring")
def _uring() -> None:
    call(425, 1, ctypes.create_string_buffer(120))


# The kernel

WAYS |= {
    "a user namespace (unshare)": lambda: call(numbered(272, 97), 0x10000000),
    "a network namespace (unshare)": lambda: call(numbered(272, 97), 0x40000000),
    "a user namespace (clone)": lambda: _child(call(numbered(56, 220), 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)),
    "a user namespace (clone3)": lambda: _child(
        call(435, struct.pack("8Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64)
    ),
    "another's namespace (setns)": lambda: call(numbered(308, 268), _pidfd(HOST), 0x40000000),
    "mount": lambda: call(numbered(165, 40), b"none", os.fsencode(OWN), b"tmpfs", 0, 0),
    "mount by the new calls (fsopen)": lambda: call(430, b"tmpfs", 0),
    "copy a mount (open_tree)": lambda: call(428, -100, b"/", 1),
    "unmount": lambda: call(numbered(166, 39), b"/proc", 0),
    "chroot": lambda: os.chroot(OWN),
    "pivot_root": lambda: call(numbered(155, 41), os.fsencode(OWN), os.fsencode(OWN)),
    "a file by its handle (open_by_handle_at)": lambda: call(numbered(304, 265), -100, struct.pack("IiQ", 8, 1, 0), 0),
    "watch everything (fanotify)": lambda: call(numbered(300, 262), 0x200, 0),
    "load a program into the kernel (bpf)": lambda: call(numbered(321, 280), 0, bytes(128), 128),
    "load a module": lambda: call(numbered(175, 105), bytes(8), 8, b""),
    "start another kernel (kexec)": lambda: call(numbered(246, 104), 0, 0, 0, 0xFFFF),
    "reboot": lambda: call(numbered(169, 142), 0, 0, 0, 0),
    "measure the kernel (perf)": lambda: call(numbered(298, 241), struct.pack("II", 1, 128) + bytes(120), 0, -1, -1, 0),
    "handle page faults (userfaultfd)": lambda: call(numbered(323, 282), 1),
    "keyring: add a key": lambda: call(numbered(248, 217), b"user", b"atom", b"x", 1, -3),
    "keyring: read keys": lambda: call(numbered(250, 219), 0, -4, 0),
    "SysV memory": lambda: call(numbered(29, 194), 0x41746F6D, 4096, 0o1600),
    "SysV messages": lambda: call(numbered(68, 186), 0x41746F6D, 0o1600),
    "POSIX messages": lambda: call(numbered(240, 180), b"atom", os.O_RDWR | os.O_CREAT, 0o600, 0),
    "set the clock": lambda: call(numbered(227, 112), 0, struct.pack("ll", 1, 0)),
    "set the host's name": lambda: call(numbered(170, 161), b"atom", 4),
    "swap": lambda: call(numbered(168, 225), b"/nonexistent"),
    "disk quotas": lambda: call(numbered(179, 60), 0x80000100, b"/dev/null", 0, 0),
    "type into a terminal (TIOCSTI)": lambda: fcntl.ioctl(0, 0x5412, b"x"),
    "the same with the upper half set": lambda: call(numbered(16, 29), 0, ctypes.c_ulong(0x100005412), b"x"),
    "write a sysctl": lambda: Path("/proc/sys/kernel/hostname").open("w"),
    "the pattern of core dumps": lambda: Path("/proc/sys/kernel/core_pattern").open("w"),
    "a cgroup of its own": lambda: os.mkdir(_cgroup() / "atom-was-here"),
    "leave its cgroup": lambda: (_cgroup() / "cgroup.procs").open("w"),
}
for title, device in (
    ("the machine's memory (/dev/mem)", "/dev/mem"),
    ("the kernel's log (/dev/kmsg)", "/dev/kmsg"),
    ("the key of SysRq", "/proc/sysrq-trigger"),
    ("the first disk", "/dev/vda"),
):
    if os.path.exists(device):
        WAYS[title] = lambda device=device: os.open(device, os.O_WRONLY)  # type: ignore[misc]
if IS_X86:
    WAYS["a call of the x32 ABI"] = lambda: call(0x40000000 + 39)


def _cgroup() -> Path:
    return next((path for path in (Path("/sys/fs/cgroup/unified"),) if path.is_dir()), Path("/sys/fs/cgroup"))


def _child(pid: int) -> None:
    """End the child that a bare `clone` made; the parent waits for it."""
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


# What is not closed: each is written down in the documentation.

OPEN: dict[str, Callable[[], object]] = {}


def _inotify() -> None:
    watch = libc.inotify_init()
    if libc.inotify_add_watch(watch, os.fsencode(OUTSIDE), 0x100) < 0:
        raise OSError(ctypes.get_errno(), "")


def _memfd() -> None:
    descriptor = os.memfd_create("program")
    os.write(descriptor, Path("/bin/true").read_bytes())
    pid = os.fork()
    if pid == 0:
        os.execve(descriptor, ["true"], {})
    if os.waitpid(pid, 0)[1]:
        raise PermissionError(errno.EACCES, "")


OPEN |= {
    "learn whether a path exists (stat)": lambda: os.stat(FILE),
    "read the command line of other processes": lambda: Path(f"/proc/{HOST}/cmdline").read_bytes(),
    "watch a folder outside for changes (inotify)": _inotify,
    "run a program from memory (memfd), in the same sandbox": _memfd,
    "read the machine's own addresses (netlink)": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
}


def tried(attempt: Callable[[], object]) -> str:
    """Return how an attempt in a child of its own ended: an error's name, a signal's name, or `out`."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        result = "out"
        with contextlib.suppress(OSError):
            # Where an earlier one got out, it may have changed the file.
            FILE.write_text("outside\n")
        try:
            attempt()
        except OSError as error:
            result = errno.errorcode.get(error.errno or 0, str(error))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            result = type(error).__name__
        os.write(write_end, result.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        text = file.read().decode()
    status = os.waitpid(pid, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else text


if __name__ == "__main__":
    everything = {**WAYS, **OPEN}
    json.dump({title: tried(everything[title]) for title in everything}, sys.stdout)
