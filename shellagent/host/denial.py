"""Saying that a sandbox may be why a command failed.

The kernel tells nobody but the program what it refused, so nobody can be sure: a program that says that something was
not permitted may have met the sandbox or an ordinary lack of rights. Only a call of another architecture leaves no
doubt, as its end by SIGSYS has no other cause.
"""

from collections.abc import Collection, Sequence
from typing import Final

from shellagent.protocol import OutputSegment

SIGSYS_EXIT: Final = 128 + 31
#: The end of the standard error is where a program says why it failed.
LOOKED_AT_BYTES: Final = 4096
WORDS: Final = (
    b"permission denied",
    b"operation not permitted",
    b"invalid cross-device link",
    b"eacces",
    b"eperm",
    b"permissionerror",
    b"file size limit exceeded",
)
CERTAIN: Final = "The sandbox ended it: it made a system call of another architecture, which no command may."
POSSIBLE: Final = (
    "It says that something was not permitted. It ran in a sandbox, which may be what refused it: what was open to it "
    "is in the decision's grants and obligations."
)


def hint(exit_code: int | None, stderr: Sequence[OutputSegment], protections: Collection[str]) -> str:
    """Return a sentence where the sandbox was, or may have been, why a command failed; else an empty text."""
    if not exit_code or not protections:
        return ""
    if exit_code == SIGSYS_EXIT and "seccomp" in protections:
        return CERTAIN
    said = stderr[-1].content()[-LOOKED_AT_BYTES:].lower() if stderr else b""
    return POSSIBLE if any(word in said for word in WORDS) else ""
