"""What the local agent prints: lines with the time, and nothing of a command's that could act on a terminal."""

import re
import sys
import time
from typing import Final

from shellagent.protocol import ExecutionReport, Rung

MOST_SHOWN: Final = 200
#: Sequences that act on a terminal: CSI, OSC and the like, and then any control character but tab and newline.
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x1b\\|\x07|\Z)|[ -/]*[0-~])", re.DOTALL)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def say(message: str) -> None:
    """Print one line with the time to the standard error."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {message}\n")
    sys.stderr.flush()


def shown_command(text: str) -> str:
    """Return a command on one line in which control characters are written out."""
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


def shown_end(report: ExecutionReport) -> str:
    """Return how a run ended, in a few words."""
    code = f" {report.exit_code}" if report.exit_code is not None else ""
    left = f", left behind: {', '.join(map(str, report.left_behind))}" if report.left_behind else ""
    rung = f", {report.rung}" if report.rung is not Rung.NONE else ""
    return f"{report.outcome} ({report.reason}{code}) after {report.duration_us / 1_000_000:.3f} s{rung}{left}"


def without_escapes(text: str) -> str:
    """Return text without what would act on a terminal."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text).replace("\r\n", "\n"))
