"""Which versions of an AI tool do what its hook answers, and whether the one that is installed is such a version."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from shellagent.client.hook import Mode

ASK_SECONDS: Final = 15

Version = tuple[int, ...]


class Need(NamedTuple):
    """The first version that does something, what an older one does, and the mode in which it matters; None for all."""

    since: Version
    otherwise: str
    mode: Mode | None = None


class Program(NamedTuple):
    """What answers `--version`, and what is needed of it."""

    executable: str
    needs: tuple[Need, ...]


#: From the programs' own release notes: Claude Code 2.0.10 and 2.1.295, Codex 0.124.0 and 0.131.0 (openai/codex#20527).
PROGRAMS: Final[Mapping[str, Program]] = {
    "claude-code": Program(
        "claude",
        (
            Need((2, 0, 10), "ignores a changed command and runs it as it was", Mode.RUN),
            Need((2, 1, 295), "lets a tool run whose hook was killed or took too long"),
        ),
    ),
    "codex": Program(
        "codex",
        (
            Need((0, 124, 0), "calls no hooks unless they are switched on"),
            Need((0, 131, 0), "refuses a changed command and runs it as it was", Mode.RUN),
        ),
    ),
}


def installed(program: str) -> str:
    """Return what a program says of its version, empty where it is not on the PATH or says nothing."""
    path = shutil.which(PROGRAMS[program].executable)
    if path is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - the person's own program
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+(?:\.\d+)+", done.stdout)
    return found[0] if found else ""


def lacks(program: str, version: str, mode: Mode) -> Iterator[tuple[str, str]]:
    """Yield what a version does not do in a mode: what it does in place of it, and the version to have."""
    there = tuple(int(part) for part in version.split("."))
    for need in PROGRAMS[program].needs:
        if need.mode in (None, mode) and there < need.since:
            yield need.otherwise, ".".join(str(part) for part in need.since)
