"""Printing for people: colour only where a terminal shows it, and no escape sequence from anybody else."""

import os
from typing import Protocol


class Stream(Protocol):
    """Something that knows whether it is a terminal."""

    def isatty(self) -> bool:
        """Return whether a person looks at it."""
        ...


def is_coloured(stream: Stream) -> bool:
    """Return whether colour belongs on this stream: a terminal, and NO_COLOR (https://no-color.org) not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, code: str, *, on: bool) -> str:
    """Return the text in the colour of an SGR code, or as it is."""
    return f"\x1b[{code}m{text}\x1b[0m" if on else text


def visible(text: str) -> str:
    """Return the text with every character that a terminal might obey written as an escape; tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character == "\t" or character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
