"""Opening what a plan's redirects name, on the host, so that the program gets a descriptor and no path.

The path is resolved and judged first; then the file is opened from the granted root's descriptor on a way without
links, by openat2 where the kernel has it. A link that comes into the way in between is refused and never followed. Only
then is the file looked at, and emptied last: a FIFO or a file with another name elsewhere is left as it was.
"""

import ctypes
import errno
import fcntl
import functools
import os
import stat
import sys
from typing import Final

from governance.policy.plan import Mode
from governance.policy.types import Access
from shellagent.host.environment import real_path
from shellagent.host.errors import CommandError
from shellagent.host.folder import Folder
from shellagent.host.grants import DEVICES
from shellagent.host.reach import Reach, shown

#: These stand for the command's own descriptors, whatever they lead to.
OWN_DESCRIPTORS: Final = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
MOST_LINKS: Final = 40
_PATH: Final = getattr(os, "O_PATH", os.O_RDONLY)
_COMMON: Final = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FLAGS: Final = {
    Mode.READ: os.O_RDONLY,
    Mode.WRITE: os.O_WRONLY | os.O_CREAT,
    Mode.APPEND: os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}
_OPENAT2: Final = 437
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
#: New files are the account's own, as those that a command makes itself under its umask.
_FILE_MODE: Final = 0o600


class _How(ctypes.Structure):
    """struct open_how."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def open_target(target: str, mode: Mode, folder: Folder, reach: Reach) -> int:
    """Open a redirect's file and return its descriptor. Raises CommandError where that may not be."""
    try:
        path = _resolve(target, folder)
        if path in DEVICES:
            return _open_device(path, mode)
        access = Access.READ if mode is Mode.READ else Access.WRITE
        if reason := reach.refusal(path, access):
            raise CommandError(1, reason)
        descriptor = _open_beneath(reach.root_of(path, access) or "/", path, _FLAGS[mode] | _COMMON)
    except (OSError, ValueError) as error:
        raise CommandError(1, f"{shown(target)}: {_said(error)}") from error
    try:
        _admit(descriptor, mode, target)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _said(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "this is not a path"


def _admit(descriptor: int, mode: Mode, target: str) -> None:
    """Let only a regular file pass, for writing only one with a single name; then empty it where that is asked."""
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        kind = "a directory" if stat.S_ISDIR(info.st_mode) else "not a regular file"
        raise CommandError(1, f"{shown(target)} is {kind}")
    if mode is not Mode.READ and info.st_nlink != 1:
        raise CommandError(1, f"{shown(target)} has another name elsewhere (a hard link), so it is not written")
    try:
        if mode is Mode.WRITE and info.st_size:
            os.ftruncate(descriptor, 0)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    except OSError as error:
        raise CommandError(1, f"{shown(target)}: {error.strerror}") from error


def _open_device(path: str, mode: Mode) -> int:
    try:
        descriptor = os.open(path, (_FLAGS[mode] & ~os.O_CREAT) | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW)
    except OSError as error:
        raise CommandError(1, f"{path}: {error.strerror}") from error
    if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CommandError(1, f"{path} is not a device")
    return descriptor


def _resolve(target: str, folder: Folder) -> str:
    """Return the path without links of a file that may not be there yet. Raises OSError where its folder is not."""
    if not target:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    path = folder.absolute(target)
    for _ in range(MOST_LINKS):
        parent, name = os.path.split(path)
        if name in ("", ".", ".."):
            real = os.path.realpath(path, strict=True)
            if not os.path.isdir(real):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            return real
        path = os.path.join(os.path.realpath(parent, strict=True), name)
        if not os.path.islink(path):
            return path
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _open_beneath(root: str, path: str, flags: int) -> int:
    """Open a path at or below a root, both without links, from the root's descriptor."""
    if path == root:
        # A grant may name a single file; then the way starts at its folder.
        root = os.path.dirname(root)
    base = os.open(root, _PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if real_path(base, root) != root:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        relative = path[len(root.rstrip("/")) + 1 :]
        return _openat2(base, relative, flags) if has_openat2() else _walk(base, relative, flags)
    finally:
        os.close(base)


def _openat2(base: int, relative: str, flags: int) -> int:
    mode = _FILE_MODE if flags & os.O_CREAT else 0
    how = _How(flags, mode, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
    found = int(
        _libc().syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(base),
            ctypes.c_char_p(os.fsencode(relative)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
    )
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


def _walk(base: int, relative: str, flags: int) -> int:
    """Do the same one folder at a time, for a kernel without openat2."""
    *folders, name = relative.split("/")
    current = os.dup(base)
    try:
        for folder in folders:
            below = os.open(folder, _PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = below
        return os.open(name, flags | os.O_NOFOLLOW, _FILE_MODE, dir_fd=current)
    finally:
        os.close(current)


@functools.cache
def has_openat2() -> bool:
    """Return whether this kernel opens beneath a folder by itself."""
    if not sys.platform.startswith("linux"):
        return False
    base = os.open("/", _PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(_openat2(base, ".", _PATH | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        os.close(base)
    return True


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
