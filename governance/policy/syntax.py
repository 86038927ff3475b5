"""What a command's text may hold: the limits, the characters, and the one error that says where and what instead."""

import unicodedata
from typing import Final

MAX_BYTES: Final = 8192
MAX_ARGUMENTS: Final = 256
MAX_COMMANDS: Final = 32
#: Patterns in one word: matching names takes longer with each of them.
MAX_GLOBS: Final = 32

#: Code points that show nothing although their general category would let them pass (Unicode's property
#: Default_Ignorable_Code_Point, and the blank Braille pattern). A person cannot approve what cannot be seen.
_INVISIBLE: Final = frozenset((0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x2800, 0x3164, 0xFFA0)).union(
    range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0000, 0xE1000)
)
_REFUSED_CATEGORIES: Final = {
    "Cc": "control character",
    "Cf": "invisible character",
    "Cs": "lone surrogate",
    "Co": "private-use character",
    "Zl": "line separator",
    "Zp": "paragraph separator",
    "Zs": "unusual space",
}


class CommandSyntaxError(ValueError):
    """The command is not one that can be read.

    `column` counts characters from 1, or is None where no place fits (always None for an argv list); `construct` names
    what stands there, and `hint` says what to send instead.
    """

    def __init__(self, message: str, *, construct: str, hint: str, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.construct = construct
        self.hint = hint
        self.column = column


def at(column: int | None, construct: str, hint: str) -> CommandSyntaxError:
    """Return the error for `construct` at `column`, counted from 1; None where an argv list has no columns."""
    place = f" at column {column}" if column is not None else ""
    return CommandSyntaxError(construct + place, construct=construct, hint=hint, column=column)


def check_size(size: int) -> None:
    """Raise CommandSyntaxError when a command of `size` UTF-8 bytes is over the limit."""
    if size > MAX_BYTES:
        raise CommandSyntaxError(
            f"the command has {size} bytes, and at most {MAX_BYTES} are allowed",
            construct="too long",
            hint="Put the data into a file and name the file.",
        )


def check_count(count: int) -> None:
    """Raise CommandSyntaxError when a command has more words than a plan may hold."""
    if count > MAX_ARGUMENTS:
        raise CommandSyntaxError(
            f"the command has more than {MAX_ARGUMENTS} arguments",
            construct="too many arguments",
            hint=f"Send several commands of at most {MAX_ARGUMENTS} words.",
        )


def check_commands(count: int) -> None:
    """Raise CommandSyntaxError when a plan would hold more commands than it may."""
    if count > MAX_COMMANDS:
        raise CommandSyntaxError(
            f"there are more than {MAX_COMMANDS} commands",
            construct="too many commands",
            hint=f"Send them in parts of at most {MAX_COMMANDS} commands.",
        )


def check_characters(text: str) -> None:
    """Raise CommandSyntaxError at the first character that cannot be shown; a tab is a blank and may stand."""
    if text.isascii() and text.replace("\t", " ").isprintable():
        return
    for column, character in enumerate(text, start=1):
        name = refused_character(character)
        if name is None:
            continue
        code = f"U+{ord(character):04X}"
        if character in "\r\n":
            raise at(column, "newline", "Send one line; join commands with `;` or `&&`.")
        raise at(column, f"{name} {code}", "Leave it out: only characters that a person can see are accepted.")


def refused_character(character: str) -> str | None:
    """Return what kind of refused character this is, or None where it may stand."""
    if character in (" ", "\t"):
        return None
    if ord(character) in _INVISIBLE:
        return "invisible character"
    if ord(character) & 0xFFFE == 0xFFFE:
        return "noncharacter"
    return _REFUSED_CATEGORIES.get(unicodedata.category(character))
