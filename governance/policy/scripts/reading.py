"""What a script in an argument (sed, awk, jq) turns out to do, and why it may not be accepted."""

from dataclasses import dataclass
from typing import Final

_SHOWN_CHARACTERS: Final = 40
#: Tokens of awk and jq, commands of sed: more than anybody writes into an argument, and read in a few milliseconds.
MOST_PIECES: Final = 1000


@dataclass(frozen=True, slots=True)
class ScriptReading:
    """The paths that a script names itself, and one sentence for each reason why it is not accepted.

    Where there are problems, the paths are those that were met before and may be incomplete.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class ScriptError(ValueError):
    """The script is not understood, so nothing behind this place is read; the message is a sentence."""


def shown(text: str) -> str:
    """Return a piece of a script for use inside a sentence: one line, cut where it is long."""
    escaped = text.encode("unicode_escape").decode("ascii")
    return f"`{escaped}`" if len(escaped) <= _SHOWN_CHARACTERS else f"`{escaped[:_SHOWN_CHARACTERS]}…`"
