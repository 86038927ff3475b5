"""Printing what others wrote, so that nothing in it acts on a terminal; and colours where they are wanted."""

import os
import re
import sys
from typing import Any, Final

#: Sequences that act on a terminal: CSI, OSC and the like, and then any control character but tab and newline.
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x1b\\|\x07|\Z)|[ -/]*[0-~])", re.DOTALL)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_COLOURS: Final = {"red": 31, "green": 32, "yellow": 33, "faint": 2, "bold": 1}


def without_escapes(text: str) -> str:
    """Return text without what would act on a terminal."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text).replace("\r\n", "\n"))


def print_bytes(stream: Any, data: bytes) -> None:
    """Write a command's output to a text stream's bytes at once: as it is, but without escapes to a terminal."""
    if data:
        stream.buffer.write(without_escapes(data.decode(errors="replace")).encode() if stream.isatty() else data)
        stream.flush()


def painted(text: str, colour: str) -> str:
    """Return text in a colour where the standard output is a terminal that wants any (NO_COLOR, TERM)."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if is_plain else f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"
