"""From paths that were granted to the rules that a Landlock ruleset can hold.

Landlock opens whole hierarchies and cannot take anything out again. So a granted folder that holds a protected path is
opened entry by entry without it: the folder itself and each level down to the protected path can be listed, but nothing
new can be made on these levels, and nothing is opened that came after the command was started. Links are never
followed below a granted root. A few folders that hold everything can be listed at most.
"""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from landlockpy import AccessFS

from shellagent.host.environment import is_within, real_path
from shellagent.protocol import PathGrant

READ_FILE: Final = AccessFS.READ_FILE | AccessFS.EXECUTE
READ: Final = READ_FILE | AccessFS.READ_DIR
WRITE: Final = (
    READ
    | AccessFS.WRITE_FILE
    | AccessFS.TRUNCATE
    | AccessFS.REMOVE_DIR
    | AccessFS.REMOVE_FILE
    | AccessFS.MAKE_DIR
    | AccessFS.MAKE_REG
    | AccessFS.MAKE_SOCK
    | AccessFS.MAKE_FIFO
    | AccessFS.MAKE_SYM
    | AccessFS.REFER
    | AccessFS.IOCTL_DEV
)
#: What Landlock knows of a file that is not a folder.
FILE_ACCESS: Final = (
    AccessFS.READ_FILE | AccessFS.EXECUTE | AccessFS.WRITE_FILE | AccessFS.TRUNCATE | AccessFS.IOCTL_DEV
)
NEVER: Final = frozenset(
    (
        "/",
        "/etc",
        "/home",
        "/root",
        "/run",
        "/var",
        "/sys",
        "/proc",
        "/dev",
        "/boot",
        "/mnt",
        "/media",
        "/srv",
        "/var/lib",
    )
)
MOST_ENTRIES: Final = 4096

SYSTEM_TREES: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ETC: Final = """
ld.so.cache passwd group nsswitch.conf hosts host.conf resolv.conf gai.conf localtime alternatives ssl/certs
ssl/openssl.cnf services protocols mime.types terminfo os-release locale.alias
"""
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a rule was made from, to see later whether it still is. `mtime_ns` is 0 where contents do not matter."""

    path: str
    device: int
    inode: int
    mtime_ns: int

    def still_holds(self) -> bool:
        """Return whether the same file or folder is at the path."""
        try:
            info = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == (self.device, self.inode) and self.mtime_ns in (0, info.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Rule:
    """One hierarchy to open. `descriptor` is an O_PATH descriptor that whoever takes the rule closes."""

    descriptor: int
    access: AccessFS
    mark: Mark
    #: Whether it stands in a folder that is listed, whose own mark changes when this one is replaced.
    is_listed: bool = False


@lru_cache(maxsize=64)
def real_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return paths without links."""
    return tuple(dict.fromkeys(os.path.realpath(path) for path in paths))


@lru_cache(maxsize=1)
def system_trees(tool_roots: tuple[str, ...]) -> tuple[str, ...]:
    """Return the real paths of the folders that every command may read: the system's programs, Python and tools."""
    return tuple(dict.fromkeys(os.path.realpath(path) for path in (*SYSTEM_TREES, sys.base_prefix, *tool_roots)))


def base_rules(protected: Sequence[str], tool_roots: Iterable[str] = ()) -> list[Rule]:
    """Return what every command needs: the system's programs, this Python, a few files of /etc, /proc and devices."""
    rules: list[Rule] = []
    for tree in system_trees(tuple(tool_roots)):
        rules += rules_for(tree, READ, protected)
    for name in ETC.split():
        rules += rules_for(f"/etc/{name}", AccessFS.READ_FILE | AccessFS.READ_DIR, protected)
    rules += _rule_at("/proc", AccessFS.READ_FILE | AccessFS.READ_DIR)
    for device in DEVICES:
        rules += _rule_at(device, AccessFS.READ_FILE | AccessFS.WRITE_FILE)
    return rules


def granted_rules(grants: Iterable[PathGrant], protected: Sequence[str]) -> list[Rule]:
    """Return the rules for an assignment's grants; a path that is not there is passed over."""
    rules: list[Rule] = []
    for grant in grants:
        rules += rules_for(os.path.realpath(grant.path), WRITE if grant.access == "write" else READ, protected)
    return rules


def rules_for(path: str, access: AccessFS, protected: Sequence[str]) -> list[Rule]:
    """Return the rules that open a real path without what is protected in it."""
    if any(is_within(path, item) for item in protected):
        return []
    if path in NEVER:
        return _rule_at(path, AccessFS.READ_DIR)
    if not any(is_within(item, path) for item in protected):
        return _rule_at(path, access)
    return _split(path, access, protected)


def _rule_at(path: str, access: AccessFS) -> list[Rule]:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return []
    if real_path(descriptor, path) != path:
        # A link came into the path after it was resolved.
        os.close(descriptor)
        return []
    return _rule(descriptor, path, access)


def _rule(descriptor: int, path: str, access: AccessFS, *, with_contents: bool = False) -> list[Rule]:
    info = os.fstat(descriptor)
    if stat.S_ISLNK(info.st_mode):
        os.close(descriptor)
        return []
    if not stat.S_ISDIR(info.st_mode):
        access &= FILE_ACCESS
    mark = Mark(path, info.st_dev, info.st_ino, info.st_mtime_ns if with_contents else 0)
    return [Rule(descriptor, access, mark)]


def _split(path: str, access: AccessFS, protected: Sequence[str]) -> list[Rule]:
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return []
    rules = _rule(os.dup(folder), path, AccessFS.READ_DIR, with_contents=True)
    try:
        for name in os.listdir(folder)[:MOST_ENTRIES]:
            child = os.path.join(path, name)
            if any(is_within(child, item) for item in protected):
                continue
            if any(is_within(item, child) for item in protected):
                rules += _split(child, access, protected)
                continue
            try:
                descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            except OSError:
                continue
            rules += (replace(rule, is_listed=True) for rule in _rule(descriptor, child, access))
    finally:
        os.close(folder)
    return rules
