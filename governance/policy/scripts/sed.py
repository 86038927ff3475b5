"""Reading a sed script: every command and address is understood, or the script is not accepted.

The grammar is that of GNU sed 4.9 and POSIX sed, as far as they agree. They do not agree on a delimiter inside a
bracket expression (`s/[/]/x/`), so such a script is read both ways, and what either reading writes or runs counts.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from governance.policy.scripts.reading import MOST_PIECES, ScriptError, ScriptReading, shown

_BLANKS: Final = re.compile(r"[ \t]*")
_BETWEEN: Final = re.compile(r"[ \t\n;]*")
_NUMBER: Final = re.compile(r"[0-9]+")
_STEP: Final = re.compile(r"~[0-9]+")
_DISTANCE: Final = re.compile(r"[+~][0-9]+")
_LABEL: Final = re.compile(r"[A-Za-z0-9_.-]+")
_COMMENT: Final = re.compile(r"[^\n]*")
_TEXT: Final = re.compile(r"(?:[^\\\n]|\\.)*(\n|\Z)", re.DOTALL)
_SUBSTITUTE_FLAGS: Final = re.compile(r"[gpiImM0-9 \t]*")
_CONTROL: Final = re.compile(r"[^\n\t -\x7e\x80-\U0010ffff]|[\x80-\x9f]")
#: The brackets in which a class, a collating symbol or an equivalence stands: `[[:alpha:]]`.
_CLASSES: Final = ":.="
#: Names that GNU sed keeps for its own streams.
_STREAMS: Final = frozenset(["/dev/stdin", "/dev/stdout", "/dev/stderr"])


def read_sed(text: str) -> ScriptReading:
    """Return what a sed script reads, writes and runs. The texts of several `-e` are one script, joined by newlines."""
    script = _Script(text, knows_brackets=True)
    script.read()
    if not script.is_ambiguous:
        return script.reading()
    other = _Script(text, knows_brackets=False)
    other.read()
    return ScriptReading(
        reads=tuple(dict.fromkeys((*script.reads, *other.reads))),
        writes=tuple(dict.fromkeys((*script.writes, *other.writes))),
        # What the other reading does not understand, a sed that reads so does not run.
        problems=tuple(dict.fromkeys((*script.problems, *script.dangers, *other.dangers))),
    )


class _Script:
    """One reading of a script from left to right."""

    def __init__(self, text: str, *, knows_brackets: bool) -> None:
        self.text = text
        self.knows_brackets = knows_brackets
        self.is_ambiguous = False
        self.position = 0
        self.depth = 0
        self.commands = 0
        self.reads: list[str] = []
        self.writes: list[str] = []
        self.problems: list[str] = []
        #: What runs a program, whatever stands behind it.
        self.dangers: list[str] = []

    def reading(self) -> ScriptReading:
        """Return what was found."""
        return ScriptReading(tuple(self.reads), tuple(self.writes), (*self.problems, *self.dangers))

    def read(self) -> None:
        """Read the whole script, or as far as it is understood."""
        try:
            if found := _CONTROL.search(self.text):
                raise ScriptError(f"The sed script holds the control character {shown(found[0])}.")
            while self.skip(_BETWEEN) and self.peek():
                self.command()
            if self.depth:
                raise ScriptError("The sed script has a `{` without its `}`.")
        except ScriptError as error:
            self.problems.append(str(error))

    def peek(self) -> str:
        """Return the next character, or an empty text at the end."""
        return self.text[self.position : self.position + 1]

    def take(self, pattern: re.Pattern[str]) -> str:
        """Return what matches here, and go behind it; an empty text where nothing does."""
        found = pattern.match(self.text, self.position)
        if found is None:
            return ""
        self.position = found.end()
        return found[0]

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Go behind what matches here."""
        self.take(pattern)
        return True

    def need(self, pattern: re.Pattern[str], what: str) -> str:
        """Return what matches here. Raises ScriptError where nothing does."""
        found = self.take(pattern)
        if not found:
            raise ScriptError(f"The sed script misses {what} before {shown(self.rest())}.")
        return found

    def rest(self) -> str:
        """Return the rest of the line, for a message."""
        return self.text[self.position :].partition("\n")[0]

    def command(self) -> None:
        """Read addresses, `!`, and one command with all that belongs to it."""
        self.commands += 1
        if self.commands > MOST_PIECES:
            raise ScriptError("The sed script is too long to be read.")
        if self.address(is_second=False):
            self.skip(_BLANKS)
            if self.peek() == ",":
                self.position += 1
                self.skip(_BLANKS)
                if not self.address(is_second=True):
                    raise ScriptError(f"The sed script misses an address before {shown(self.rest())}.")
        self.skip(_BLANKS)
        if self.peek() == "!":
            self.position += 1
            self.skip(_BLANKS)
        letter = self.peek()
        self.position += 1
        read = _COMMANDS.get(letter)
        if read is None:
            raise ScriptError(f"The sed command {shown(letter)} is not known.")
        read(self)

    def address(self, *, is_second: bool) -> bool:
        """Read one address, and return whether there was one."""
        letter = self.peek()
        if self.take(_NUMBER):
            self.skip(_STEP)
        elif letter == "$":
            self.position += 1
        elif letter in ("/", "\\") and letter:
            self.position += letter == "\\"
            self.delimited(self.delimiter(), is_expression=True)
            while self.peek() in ("I", "M") and self.peek():
                self.position += 1
        else:
            return is_second and bool(self.take(_DISTANCE))
        return True

    def delimiter(self) -> str:
        """Take the character that ends the parts of `s`, `y` and addresses."""
        letter = self.peek()
        if not letter.isascii() or letter.isalnum() or letter.isspace() or letter in ("", "\\", "[", "]"):
            raise ScriptError(f"The sed script uses the delimiter {shown(letter)}.")
        self.position += 1
        return letter

    def delimited(self, delimiter: str, *, is_expression: bool) -> None:
        """Go behind the next delimiter that is neither escaped nor, in a regular expression, in brackets."""
        while letter := self.peek():
            self.position += 1
            if letter == delimiter:
                return
            if letter == "\\":
                self.position += 1
            elif letter == "\n":
                break
            elif letter == "[" and is_expression and self.knows_brackets:
                self.bracket(delimiter)
        raise ScriptError("The sed script has an expression without its end.")

    def bracket(self, delimiter: str) -> None:
        """Go behind a bracket expression. A backslash means nothing in one."""
        start = position = self.position
        if self.text.startswith("^", position):
            position += 1
        if self.text.startswith("]", position):
            position += 1
        while True:
            letter = self.text[position : position + 1]
            if letter in ("", "\n"):
                raise ScriptError("The sed script has a `[` without its `]`.")
            position += 1
            if letter == "]":
                break
            kind = self.text[position : position + 1]
            if letter == "[" and kind and kind in _CLASSES:
                position = self.text.find(kind + "]", position + 1) + 2
                if position == 1:
                    raise ScriptError("The sed script has a `[` without its `]`.")
        if "\n" in self.text[start:position]:
            raise ScriptError("The sed script has a `[` without its `]`.")
        if delimiter in self.text[start:position] or "\\" in self.text[start:position]:
            self.is_ambiguous = True
        self.position = position

    def end(self) -> None:
        """Go behind the end of a command. Raises ScriptError where something else stands there."""
        self.skip(_BLANKS)
        letter = self.peek()
        if letter in ("", "}", "#"):
            return
        if letter not in (";", "\n"):
            raise ScriptError(f"The sed script has {shown(self.rest())} where a command should end.")
        self.position += 1

    def plain(self) -> None:
        """Read the end of a command that takes nothing."""
        self.end()

    def number(self) -> None:
        """Read a command that may take a number, such as an exit code."""
        self.skip(_BLANKS)
        self.skip(_NUMBER)
        self.end()

    def comment(self) -> None:
        """Go to the end of the line."""
        self.skip(_COMMENT)

    def open_group(self) -> None:
        """Read `{`."""
        self.depth += 1

    def close_group(self) -> None:
        """Read `}`."""
        self.depth -= 1
        if self.depth < 0:
            raise ScriptError("The sed script has a `}` without its `{`.")
        self.end()

    def label(self) -> None:
        """Read `:label`."""
        self.skip(_BLANKS)
        self.need(_LABEL, "a label")
        self.end()

    def jump(self) -> None:
        """Read `b`, `t` or `T` with its label, if it has one."""
        self.skip(_BLANKS)
        self.skip(_LABEL)
        self.end()

    def inserted(self) -> None:
        """Read the text of `a`, `i` or `c`: to the end of the first line that does not end in a backslash."""
        self.skip(_BLANKS)
        if self.peek() == "\\":
            self.position += 1
            if self.peek() == "\n":
                self.position += 1
            elif self.peek() == "\\" or not self.rest().strip(" \t"):
                raise ScriptError("The sed script has a text whose beginning is not clear.")
        if self.peek() in ("", "\n"):
            raise ScriptError("The sed script misses the text of `a`, `i` or `c`.")
        self.need(_TEXT, "the end of a text")

    def file(self, found: list[str]) -> None:
        """Read a file's name: it goes to the end of the line."""
        self.skip(_BLANKS)
        name = self.take(_COMMENT)
        if not name or "\\" in name:
            raise ScriptError(f"The sed script names a file that is not clear: {shown(name)}.")
        if name not in _STREAMS:
            found.append(name)

    def substitute(self) -> None:
        """Read `s/…/…/flags`."""
        delimiter = self.delimiter()
        self.delimited(delimiter, is_expression=True)
        self.delimited(delimiter, is_expression=False)
        while True:
            self.skip(_SUBSTITUTE_FLAGS)
            if self.peek() == "w":
                self.position += 1
                self.file(self.writes)
                return
            if self.peek() != "e":
                break
            self.position += 1
            self.dangers.append("The sed script runs what it substitutes, by the flag `e`.")
        self.end()

    def translate(self) -> None:
        """Read `y/…/…/`."""
        delimiter = self.delimiter()
        self.delimited(delimiter, is_expression=False)
        self.delimited(delimiter, is_expression=False)
        self.end()

    def execute(self) -> None:
        """Read `e`, which runs a command."""
        self.dangers.append("The sed script runs a command, by `e`.")
        self.skip(_COMMENT)


_COMMANDS: Final[Mapping[str, Callable[[_Script], None]]] = {
    **dict.fromkeys("=dDFgGhHnNpPxz", _Script.plain),
    **dict.fromkeys("lqQ", _Script.number),
    **dict.fromkeys("btT", _Script.jump),
    **dict.fromkeys("aic", _Script.inserted),
    **dict.fromkeys("rR", lambda script: script.file(script.reads)),
    **dict.fromkeys("wW", lambda script: script.file(script.writes)),
    "#": _Script.comment,
    "{": _Script.open_group,
    "}": _Script.close_group,
    ":": _Script.label,
    "s": _Script.substitute,
    "y": _Script.translate,
    "e": _Script.execute,
}
