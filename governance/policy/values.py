"""What one value or operand does, by its type: which paths and hosts it names, and what its code would do."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from governance.policy.entries import Handling, Recursion, ValueType
from governance.policy.hosts import split_remote
from governance.policy.reading import Arg, HostUse, PathUse, Reading, shown
from governance.policy.scripts.awk import read_awk
from governance.policy.scripts.jq import read_jq
from governance.policy.scripts.reading import ScriptReading
from governance.policy.scripts.sed import read_sed
from governance.policy.types import Access, Category

_READERS: Final[Mapping[Handling, Callable[[str], ScriptReading]]] = {
    Handling.SED: read_sed,
    Handling.AWK: read_awk,
    Handling.JQ: read_jq,
}
#: Names of the standard input, of which nobody knows what it holds.
_STANDARD_INPUT: Final = frozenset(["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
_PIECES: Final = re.compile("[,;]")
#: What git lets stand before a path: a stage of the index (`:0:`), or how the path is meant (`:/`, `:(top)`).
_MAGIC: Final = re.compile(r":(?:[0-3]:|\([^)]*\)|)/*")
_STARTS_WITH_SCHEME: Final = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")
_SCHEME_AT_END: Final = re.compile(r"[A-Za-z][A-Za-z0-9.-]*$")
#: The path of a Go module starts with the host that has it.
_STARTS_WITH_HOST: Final = re.compile(r"[^/@]*\.[^/@]*/")


def apply(reading: Reading, index: int, kind: ValueType, arg: Arg, recursion: Recursion = Recursion.NONE) -> None:
    """Note what the token at `index` does as a value of this type. `arg` is the value, without its option."""
    if not kind.accepts(arg.text):
        _unfit(reading, index, kind, arg)
    else:
        _APPLIED[kind.handling](reading, index, kind, arg, recursion)
        if kind.category is not Category.READ:
            reading.retoken(index, reading.tokens[index].effect, kind.category)
    if not reading.tokens[index].effect:
        reading.retoken(index, f"is {_article(kind.name)} {kind.name}", Category.READ)


def read_code(reading: Reading) -> None:
    """Read the code in small languages that was met: several pieces are one script, joined by line ends."""
    for handling in dict.fromkeys(handling for handling, _, _ in reading.code):
        pieces = [(index, text) for language, index, text in reading.code if language is handling]
        found = _READERS[handling]("\n".join(text for _, text in pieces))
        for problem in dict.fromkeys(found.problems):
            reading.find("never-read", problem)
        first, *others = [index for index, _ in pieces]
        if found.problems:
            reading.retoken(first, f"is {handling} code that is not accepted", Category.UNKNOWN)
        for access, paths in ((Access.READ, found.reads), (Access.WRITE, found.writes)):
            for path in dict.fromkeys(paths):
                note_path(reading, first, Arg.literal(path), access)
                verb = "reads" if access is Access.READ else "writes"
                reading.retoken(first, f"is {handling} code that {verb} {shown(path)}", Category.READ)
        for index in others:
            # Which piece does what is not known: they are read as one.
            reading.retoken(index, reading.tokens[first].effect, reading.tokens[first].category)


def takes_glob(kind: ValueType) -> bool:
    """Return whether any number of names may stand where a value of this type repeats."""
    return kind.pattern is None and kind.handling in (
        Handling.PATH,
        Handling.PLAIN,
        Handling.GUESSED,
        Handling.REVISION,
        Handling.PACKAGE,
    )


def note_path(reading: Reading, index: int, arg: Arg, access: Access, recursion: Recursion = Recursion.NONE) -> None:
    """Note that a token names a path. A lone `-` that is read is the standard input."""
    token = reading.tokens[index]
    if access is Access.READ:
        if arg.text == "-":
            reading.retoken(index, "is the standard input", Category.READ)
            return
        reading.retoken(index, token.effect or "is read", Category.READ)
    else:
        is_deleted = any(known.category is Category.DELETE for known in reading.tokens)
        category = Category.DELETE if is_deleted else Category.WRITE
        effect = token.effect or ("is deleted" if is_deleted else "is written")
        reading.retoken(index, effect, category)
    if arg.has_glob and ".." in arg.text.split("/"):
        reading.find("glob-place", f"{shown(arg.text)} goes up behind a pattern, so where it leads is not known.")
    reading.paths.append(PathUse(reading.place(arg.text), access, recursion, has_glob=arg.has_glob))


def _unfit(reading: Reading, index: int, kind: ValueType, arg: Arg) -> None:
    reading.retoken(index, f"is not of the type {kind.name}", Category.UNKNOWN)
    reading.find("invalid-value", f"{shown(arg.text)} is not of the type {kind.name}.")
    reading.guess(arg)


def _plain(reading: Reading, index: int, kind: ValueType, arg: Arg, _recursion: Recursion) -> None:
    if arg.has_glob:
        note_path(reading, index, arg, Access.READ, Recursion.NAMES)


def _guessed(reading: Reading, index: int, kind: ValueType, arg: Arg, _recursion: Recursion) -> None:
    reading.guess(arg)
    if arg.has_glob:
        note_path(reading, index, arg, Access.READ, Recursion.NAMES)


def _revision(reading: Reading, index: int, kind: ValueType, arg: Arg, recursion: Recursion) -> None:
    if arg.text.startswith("/") or ".." in arg.text.split("/"):
        # Outside of a repository, and with paths that lead out of it, `git diff` compares any two files.
        note_path(reading, index, arg, Access.READ, recursion)
    else:
        _guessed(reading, index, kind, arg, recursion)
        if magic := _MAGIC.match(arg.text):
            reading.guess(Arg(arg.text[magic.end() :], arg.shown, arg.has_glob))


def _path(reading: Reading, index: int, kind: ValueType, arg: Arg, recursion: Recursion) -> None:
    note_path(reading, index, arg, kind.access or Access.WRITE, recursion)
    if kind.keeps_name:
        name = arg.text.rstrip("/").rpartition("/")[2]
        reading.paths.append(PathUse(name, Access.WRITE, is_guess=True, has_glob=arg.has_glob))


def _at_path(reading: Reading, index: int, kind: ValueType, arg: Arg, _recursion: Recursion) -> None:
    for sign in "@<":
        _, found, files = arg.text.partition(sign)
        for file in _PIECES.split(files) if found else ():
            note_path(reading, index, Arg(file, arg.shown, arg.has_glob), Access.READ)
    reading.guess(arg)


def _script_file(reading: Reading, index: int, kind: ValueType, arg: Arg, _recursion: Recursion) -> None:
    if arg.text in _STANDARD_INPUT:
        _code(reading, index, kind, arg, _recursion)
        return
    reading.retoken(index, reading.tokens[index].effect or "is code that is run", Category.BUILD)
    note_path(reading, index, arg, Access.READ)
    reading.scripts.append(reading.place(arg.text))


def _code(reading: Reading, index: int, kind: ValueType, arg: Arg, _recursion: Recursion) -> None:
    what = "names a program to run" if kind.handling is Handling.PROGRAM else "is code"
    reading.retoken(index, f"{what}, which is never read", Category.UNKNOWN)
    reading.find("never-read", f"{shown(arg.shown)} {what}, which governance never reads.")
    reading.guess(arg)


def _script(reading: Reading, index: int, kind: ValueType, arg: Arg, _recursion: Recursion) -> None:
    reading.code.append((kind.handling, index, arg.text))
    reading.retoken(index, reading.tokens[index].effect or f"is {kind.handling} code", Category.READ)


def _host(reading: Reading, index: int, kind: ValueType, arg: Arg, _recursion: Recursion) -> None:
    reading.retoken(index, reading.tokens[index].effect or "is reached over the network", Category.NETWORK)
    reading.hosts.append(HostUse(arg.text.removeprefix("@"), is_url=kind.handling is Handling.URL))
    reading.has_network = True
    if kind.handling is Handling.URL:
        reading.guess(arg)


def _remote_path(reading: Reading, index: int, kind: ValueType, arg: Arg, recursion: Recursion) -> None:
    if _STARTS_WITH_SCHEME.match(arg.text):
        _url(reading, index, arg.text)
    elif (remote := split_remote(arg.text)) is not None:
        _host(reading, index, kind, Arg(remote[0], arg.shown), recursion)
    else:
        _path(reading, index, kind, arg, recursion)


def _package(reading: Reading, index: int, kind: ValueType, arg: Arg, _recursion: Recursion) -> None:
    before, is_url, rest = arg.text.partition("://")
    if is_url:
        # `NAME @ git+https://…`: pip's and npm's ways to name one.
        scheme = _SCHEME_AT_END.search(before)
        _url(reading, index, f"{scheme[0] if scheme else before}://{rest}")
    elif ":" in arg.text:
        # A host as in `git@HOST:PATH`, or a service that stands for one.
        _unfit(reading, index, kind, arg)
    elif arg.has_glob or arg.text[:1] in (".", "/", "~"):
        note_path(reading, index, arg, Access.READ, Recursion.CONTENTS)
    elif _STARTS_WITH_HOST.match(arg.text):
        _url(reading, index, arg.text.partition("@")[0])
    else:
        reading.guess(arg)


def _url(reading: Reading, index: int, url: str) -> None:
    reading.retoken(index, reading.tokens[index].effect or "is fetched over the network", Category.NETWORK)
    reading.hosts.append(HostUse(url, is_url=True))
    reading.has_network = True


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


_APPLIED: Final[Mapping[Handling, Callable[[Reading, int, ValueType, Arg, Recursion], None]]] = {
    Handling.PLAIN: _plain,
    Handling.GUESSED: _guessed,
    Handling.REVISION: _revision,
    Handling.AT_PATH: _at_path,
    Handling.PATH: _path,
    Handling.REMOTE_PATH: _remote_path,
    Handling.SCRIPT_FILE: _script_file,
    Handling.CODE: _code,
    Handling.PROGRAM: _code,
    Handling.COMMAND: _code,
    Handling.SED: _script,
    Handling.AWK: _script,
    Handling.JQ: _script,
    Handling.HOST: _host,
    Handling.URL: _host,
    Handling.PACKAGE: _package,
}
