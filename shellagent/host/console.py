"""What the local agent prints: lines with the time, and nothing of a command's that could act on a terminal.

On a terminal the last line is a live one that says what it does now. With `use_json` every line is a JSON object.
"""

import json
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from shellagent.protocol import ExecutionReport, Rung

MOST_SHOWN: Final = 200
#: To the line's beginning, and what stands there away.
_CLEAR: Final = "\r\x1b[K"


class _Output:
    """The standard error, one line at a time, whichever thread speaks.

    What cannot be written, as to a file on a full disk, is not: nothing that is done here depends on it.
    """

    def __init__(self) -> None:
        self.is_json = False
        self._lock = threading.Lock()
        self._live = ""
        self._gathered = threading.local()

    def line(self, text: str) -> None:
        lines: list[str] | None = getattr(self._gathered, "lines", None)
        if lines is not None:
            lines.append(text)
            return
        with self._lock, suppress(OSError):
            # The live line makes room, and stands below again.
            sys.stderr.write(f"{_CLEAR}{text}\n{self._live}" if self._live else f"{text}\n")
            sys.stderr.flush()

    @contextmanager
    def gathering(self) -> Iterator[None]:
        lines = self._gathered.lines = []
        try:
            yield
        finally:
            self._gathered.lines = None
            if lines:
                self.line("\n".join(lines))

    def live(self, text: str) -> None:
        with self._lock, suppress(OSError):
            if text == self._live or self.is_json or not sys.stderr.isatty():
                return
            sys.stderr.write(_CLEAR + text)
            sys.stderr.flush()
            self._live = text


_output: Final = _Output()


def gathering() -> AbstractContextManager[None]:
    """Have the lines that this thread says in a block printed at its end, at once: each print wakes who reads them."""
    return _output.gathering()


class JsonFormatter(logging.Formatter):
    """A log record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        return _json_line(record.levelname.lower(), super().format(record))


def use_json() -> None:
    """Print JSON objects from now on: `time` (ISO 8601, UTC), `level` and `message`."""
    _output.is_json = True


def say(message: str) -> None:
    """Print one line with the time to the standard error."""
    if _output.is_json:
        level = "warning" if message.startswith("WARNING: ") else "info"
        _output.line(_json_line(level, message.removeprefix("WARNING: ")))
    else:
        _output.line(f"{datetime.now().astimezone():%H:%M:%S} {message}")


def complain(program: str, message: str) -> None:
    """Print the error with which a program ends."""
    _output.line(_json_line("error", message) if _output.is_json else f"{program}: {message}")


def show(text: str) -> None:
    """Show what is done now on the live line; an empty text takes it away. Only on a terminal."""
    _output.live(text)


def _json_line(level: str, message: str) -> str:
    return json.dumps({"time": datetime.now(UTC).isoformat(), "level": level, "message": message})


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


def shown_sizes(sizes: Mapping[str, int]) -> str:
    """Return sizes in a line, such as `memory 6000 MiB, processes 1024`, by the names that the ceiling has for them."""
    units = {"mib": "MiB", "seconds": "s"}
    parts = []
    for name, value in sizes.items():
        words, _, unit = name.rpartition("_")
        known = units.get(unit)
        parts.append(f"{words} {value} {known}" if known else f"{name.replace('_', ' ')} {value}")
    return ", ".join(parts)
