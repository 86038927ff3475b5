"""A cgroup for each slot, where the kernel and the rights of this user allow it: then the kernel itself bounds how many
processes a session has, root's too.

Both versions of cgroups are known. In version 2 the local agent's own group has to be its alone, as with `Delegate=` in
a systemd unit: groups below one can only be bounded where no process is in that one itself, so it moves to one below.
"""

import contextlib
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

PROTECTION: Final = "pids-cgroup"
CONTROLLER: Final = "pids"
#: Where the local agent itself goes in version 2.
_OWN: Final = "host"


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The folder where groups can be made. Their names begin with `name`, which is of one local agent alone."""

    folder: Path
    name: str

    def make(self, slot: str, tasks: int) -> str:
        """Make a group that has room for so many processes and threads, and return its folder. Raises OSError."""
        group = self.folder / f"{self.name}-{slot}"
        group.mkdir(exist_ok=True)
        (group / "pids.max").write_text(f"{tasks}\n")
        return str(group)

    def remove(self) -> None:
        """Remove every group, also those that an earlier process has left; one with a process in it stays."""
        for group in self.folder.glob(f"{self.name}-*"):
            with contextlib.suppress(OSError):
                group.rmdir()


def find(name: str, *, proc: Path = Path("/proc/self")) -> Cgroups | None:
    """Return where groups can be made, or None where they cannot. To be called while this process is alone.

    What an earlier local agent of this name left there is removed.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        folder = _bounded_folder(proc)
        if folder is None or not os.access(folder, os.W_OK):
            return None
        groups = Cgroups(folder, name)
        groups.remove()
        # Whether it works is known once it was done.
        groups.make("probe", 1)
    except (OSError, ValueError) as error:
        logger.info("No pids cgroup can be made: %s", error)
        return None
    groups.remove()
    return groups


def enter(group: str) -> bool:
    """Move this process, and with it what it starts from now on, into a group. Returns False where that fails."""
    try:
        Path(group, "cgroup.procs").write_text("0\n")
    except OSError as error:
        logger.error("The cgroup %s cannot be entered: %s", group, error)
        return False
    return True


def _bounded_folder(proc: Path) -> Path | None:
    """Return this process's own group, in the hierarchy that counts processes. Raises OSError or ValueError."""
    own = dict[str, str]()
    for text in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = text.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    for text in (proc / "mountinfo").read_text().splitlines():
        fields, _, filesystem = text.partition(" - ")
        kind, _, options = filesystem.split(" ", 2)
        root, mounted = fields.split(" ")[3:5]
        if kind == "cgroup" and CONTROLLER in options.split(","):
            return _below(Path(mounted), root, own[CONTROLLER])
        if kind == "cgroup2" and CONTROLLER not in own and "" in own:
            return _delegated(_below(Path(mounted), root, own[""]))
    return None


def _below(mounted: Path, root: str, path: str) -> Path:
    return mounted / os.path.relpath(path, root)


def _delegated(group: Path) -> Path | None:
    """Return a group of version 2 once those below it can be bounded, or None where that is not ours to do."""
    if CONTROLLER not in (group / "cgroup.controllers").read_text().split():
        return None
    switch = group / "cgroup.subtree_control"
    if CONTROLLER in switch.read_text().split():
        return group
    if (group / "cgroup.procs").read_text().split() != [str(os.getpid())]:
        # Others are in it: it is a login's or a container's, and not given to this process.
        return None
    own = group / _OWN
    own.mkdir(exist_ok=True)
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    switch.write_text(f"+{CONTROLLER}\n")
    return group
