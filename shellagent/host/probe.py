"""Trying to break out of a confinement, to know what it holds. What gets out is not counted as a protection."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shellagent.host.limits import Limits

PROBE_SECONDS: Final = 20.0

#: What each protection must refuse to be counted. The first are tried without the filter, which would refuse some too.
WITHOUT_FILTER: Final = {
    "landlock-fs": ("read", "write"),
    "landlock-net": ("connect", "bind"),
    "landlock-scope": ("signal", "abstract"),
    "no-new-privs": ("privileges",),
    "capabilities": ("capabilities",),
    "rlimits": ("limits",),
}
WITH_FILTER: Final = {
    "seccomp": ("ptrace", "priority", "limit_of_host", "own_limit", "namespace", "io_uring", "shared_memory"),
    "seccomp-read": ("chmod", "chown", "utime", "setxattr"),
    "seccomp-net": ("tcp", "mptcp", "udp", "unix", "raw_netlink", "connect", "bind", "abstract"),
}

#: Run by the probe's child: it prints which of the named attempts the kernel refused.
_SOURCE: Final = """
import ctypes, json, os, resource, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
secret, port, host, names = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split()
sys.stdin.readline()
def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result
def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return line.split()[1]
def held(is_held):
    if is_held:
        raise PermissionError
def abstract():
    socket.socket(socket.AF_UNIX).connect(chr(0) + sys.argv[5])
def bind():
    socket.create_server(("127.0.0.1", 0))
def shared_memory():
    call(libc.shmctl(call(libc.shmget(0, 1, 0o1600)), 0, None))
attempts = dict(
    read=lambda: os.open(secret, os.O_RDONLY),
    write=lambda: os.close(os.open(secret + ".escaped", os.O_CREAT | os.O_WRONLY, 0o600)),
    connect=lambda: socket.create_connection(("127.0.0.1", port), 2),
    bind=bind,
    signal=lambda: os.kill(host, 0),
    abstract=abstract,
    privileges=lambda: held(status("NoNewPrivs") == "1"),
    capabilities=lambda: held(int(status("CapPrm"), 16) == 0 == int(status("CapEff"), 16)),
    limits=lambda: held(resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)),
    ptrace=lambda: call(libc.ptrace(0, 0, 0, 0)),
    priority=lambda: os.setpriority(os.PRIO_PROCESS, host, os.getpriority(os.PRIO_PROCESS, host)),
    limit_of_host=lambda: resource.prlimit(
        host, resource.RLIMIT_NOFILE, resource.prlimit(host, resource.RLIMIT_NOFILE)
    ),
    own_limit=lambda: resource.prlimit(0, resource.RLIMIT_FSIZE, resource.prlimit(0, resource.RLIMIT_FSIZE)),
    namespace=lambda: call(libc.unshare(0x10000000)),
    io_uring=lambda: call(libc.syscall(425, 1, None)),
    shared_memory=shared_memory,
    chmod=lambda: os.chmod(secret, 0o600),
    chown=lambda: os.chown(secret, -1, -1),
    utime=lambda: os.utime(secret),
    setxattr=lambda: os.setxattr(secret, "user.escaped", b"x"),
    tcp=lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    mptcp=lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262),
    udp=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    unix=lambda: socket.socket(socket.AF_UNIX),
    raw_netlink=lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9),
)
def is_refused(attempt):
    try:
        attempt()
    except PermissionError:
        return True
    except Exception:
        return False
    return False
print(json.dumps({name: is_refused(attempts[name]) for name in names}))
"""

Start = Callable[[Callable[[], "subprocess.Popen[bytes]"]], "subprocess.Popen[bytes]"]


def held_by(start: Start, expected: dict[str, tuple[str, ...]], folder: Path) -> list[str]:
    """Return which protections refused all that they must, to a child that `start` starts confined.

    `folder` is one that no command may reach. Raises OSError, ValueError or SubprocessError where nothing can be tried.
    """
    secret = folder / f"probe-{secrets.token_hex(8)}"
    secret.write_text("nobody reads this")
    abstract = f"probe-{secrets.token_hex(8)}"
    names = " ".join(dict.fromkeys(name for group in expected.values() for name in group))
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"\0{abstract}")
            listening.listen()
            port = listener.getsockname()[1]
            arguments = ["-I", "-S", "-c", _SOURCE, str(secret), str(port), str(os.getpid()), names, abstract]
            process = start(
                lambda: subprocess.Popen(  # noqa: S603 - our own program
                    [os.path.realpath(sys.executable), *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": "/usr/bin:/bin"},
                    cwd="/",
                    start_new_session=True,
                )
            )
            Limits().hold(process.pid)
            held = json.loads(_answer(process))
    finally:
        secret.unlink(missing_ok=True)
        secret.with_name(secret.name + ".escaped").unlink(missing_ok=True)
    return [name for name, attempts in expected.items() if all(held.get(attempt) is True for attempt in attempts)]


def _answer(process: "subprocess.Popen[bytes]") -> bytes:
    try:
        return process.communicate(b"\n", timeout=PROBE_SECONDS)[0]
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
