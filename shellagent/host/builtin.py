"""The few commands that the runner does itself, as bash does them: `cd`, `pwd`, `echo`, `true`, `false` and `:`.

Each is a function of its arguments and the folder that the plan is in; what it prints is returned, for the run's own
loop to write. `test`, `[` and `printf` are the system's programs.
"""

import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shellagent.host.errors import CommandError, RefusedError
from shellagent.host.folder import Folder
from shellagent.host.reach import Reach, shown


@dataclass(slots=True)
class Place:
    """Where a plan is: its folder, the one before, and what its words and its ways are held to."""

    folder: Folder
    home: str
    user: str
    reach: Reach
    previous: str = ""

    def variables(self) -> dict[str, str]:
        """Return the values of the variables that a plan may name."""
        return {"HOME": self.home, "USER": self.user, "PWD": self.folder.path}

    def enter(self, folder: Folder) -> None:
        """Go on in another folder."""
        self.previous = self.folder.path
        self.folder.close()
        self.folder = folder


@dataclass(frozen=True, slots=True)
class Result:
    """What a builtin has to say. `folder` is the one that a `cd` would go to."""

    exit_code: int = 0
    output: bytes = b""
    folder: Folder | None = None


def _cd(arguments: Sequence[str], place: Place) -> Result:
    options, operands = _options("cd", arguments, "LP")
    if len(operands) > 1:
        raise CommandError(1, "cd: too many arguments")
    wanted = operands[0] if operands else place.home
    if wanted == "-":
        if not place.previous:
            raise CommandError(1, "cd: there is no folder before this one")
        wanted = place.previous
    is_physical = options[-1:] == ["P"]
    base = place.folder.real if is_physical else place.folder.path
    path = os.path.join(base, wanted)
    try:
        folder = Folder.open(path if is_physical else _without_dots(path))
    except (RefusedError, ValueError) as error:
        raise CommandError(1, f"cd: {shown(wanted)}: {error}") from error
    if reason := place.reach.refusal_to_enter(folder.real):
        folder.close()
        raise CommandError(1, f"cd: {reason}")
    if is_physical:
        folder.path = folder.real
    output = os.fsencode(folder.path) + b"\n" if operands[:1] == ["-"] else b""
    return Result(output=output, folder=folder)


def _without_dots(path: str) -> str:
    """Return a path with its `..` taken back by name, as long as what they leave is there; else the path as it is."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not os.path.isdir("/" + "/".join(parts)):
                return path
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return posixpath.join("/", *parts)


def _pwd(arguments: Sequence[str], place: Place) -> Result:
    options, _ = _options("pwd", arguments, "LP")
    path = place.folder.real if options[-1:] == ["P"] else place.folder.path
    return Result(output=os.fsencode(path) + b"\n")


def _options(name: str, arguments: Sequence[str], known: str) -> tuple[list[str], Sequence[str]]:
    """Return the letters given as options, and what is left. Raises CommandError for another letter."""
    letters: list[str] = []
    for number, argument in enumerate(arguments):
        if argument == "--":
            return letters, arguments[number + 1 :]
        if not argument.startswith("-") or argument == "-":
            return letters, arguments[number:]
        for letter in argument[1:]:
            if letter not in known:
                raise CommandError(2, f"{name}: -{shown(letter)}: there is no such option")
            letters.append(letter)
    return letters, ()


def _echo(arguments: Sequence[str], _place: Place) -> Result:
    ends_line, is_escaped, position = True, False, 0
    while position < len(arguments) and re.fullmatch("-[neE]+", arguments[position]):
        for letter in arguments[position][1:]:
            ends_line = ends_line and letter != "n"
            is_escaped = letter == "e" or (is_escaped and letter != "E")
        position += 1
    data = os.fsencode(" ".join(arguments[position:]))
    if is_escaped:
        data, ends_all = _unescaped(data)
        ends_line = ends_line and not ends_all
    return Result(output=data + (b"\n" if ends_line else b""))


def _unescaped(data: bytes) -> tuple[bytes, bool]:
    """Return what `echo -e` makes of its arguments, and whether `\\c` ended them."""
    found, position = bytearray(), 0
    for match in _ESCAPE.finditer(data):
        found += data[position : match.start()]
        position = match.end()
        if match["end"]:
            return bytes(found), True
        if match["letter"]:
            found += _LETTERS[match["letter"]]
        elif match["octal"] is not None:
            found.append(int(match["octal"] or b"0", 8) & 0xFF)
        elif match["hex"]:
            found.append(int(match["hex"], 16))
        else:
            number = int(match["short"] or match["long"], 16)
            found += chr(number).encode(errors="surrogatepass") if number <= _LAST_CHARACTER else b""
    return bytes(found + data[position:]), False


_LAST_CHARACTER: Final = 0x10FFFF
_LETTERS: Final = {
    b"a": b"\a",
    b"b": b"\b",
    b"e": b"\x1b",
    b"E": b"\x1b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b"\\": b"\\",
}
_ESCAPE: Final = re.compile(
    rb"\\(?:(?P<letter>[abeEfnrtv\\])|(?P<end>c)|0(?P<octal>[0-7]{0,3})|x(?P<hex>[0-9A-Fa-f]{1,2})"
    rb"|u(?P<short>[0-9A-Fa-f]{1,4})|U(?P<long>[0-9A-Fa-f]{1,8}))"
)


def _nothing(_arguments: Sequence[str], _place: Place) -> Result:
    return Result()


def _failure(_arguments: Sequence[str], _place: Place) -> Result:
    return Result(1)


BUILTINS: Final[Mapping[str, Callable[[Sequence[str], Place], Result]]] = {
    ":": _nothing,
    "cd": _cd,
    "echo": _echo,
    "false": _failure,
    "pwd": _pwd,
    "true": _nothing,
}
