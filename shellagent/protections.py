"""What can confine commands on a host, by name, as the host reports it. Standard library only: both sides use it."""

from collections.abc import Iterable
from typing import Final

FILE_PROTECTION: Final = "landlock-fs"
#: All that a machine can have, in the order in which people read it. The first is reported with its version.
PROTECTIONS: Final = (
    FILE_PROTECTION,
    "landlock-net",
    "landlock-scope",
    "no-new-privs",
    "capabilities",
    "rlimits",
    "seccomp",
    "seccomp-read",
    "seccomp-net",
)


def missing(found: Iterable[str]) -> tuple[str, ...]:
    """Return the protections that are not among those that a host found to hold."""
    names = {FILE_PROTECTION if name.startswith(f"{FILE_PROTECTION}-v") else name for name in found}
    return tuple(name for name in PROTECTIONS if name not in names)
