"""What a program table says once it is loaded: programs, subcommands, options, and the types of their values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from governance.policy.types import Access, Category


class Recursion(IntEnum):
    """How far below a path operand a program goes."""

    NONE = 0
    #: It lists names and metadata below the path.
    NAMES = 1
    #: It reads, copies or removes what is below the path.
    CONTENTS = 2


class Style(StrEnum):
    """How a program reads its arguments."""

    #: Bundled short options, long options by exact name, options after operands, `--` ends them.
    GNU = "gnu"
    #: As GNU, but the first operand ends the options.
    POSIX = "posix"
    #: Each option is a whole word, as in `find`.
    WORDS = "words"
    #: Every argument is text, as in `echo`.
    TEXT = "text"
    #: The arguments are not read, because the program is refused whatever they are.
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of an option's value or of an operand. `pattern` must match the whole text."""

    name: str
    pattern: re.Pattern[str] | None = None
    access: Access | None = None
    #: Code or the name of a program: it is never read, so a person decides.
    is_code: bool = False
    #: The category of a word of this type, where it is more than its program's.
    category: Category = Category.READ
    #: What is read appears elsewhere under its own name, so that the name is written too.
    keeps_name: bool = False

    def accepts(self, text: str) -> bool:
        """Return whether `text` is a value of this type."""
        return self.pattern is None or self.pattern.fullmatch(text) is not None


def _pattern(name: str, pattern: str) -> ValueType:
    return ValueType(name, re.compile(pattern, re.DOTALL))


VALUE_TYPES: Final[Mapping[str, ValueType]] = {
    kind.name: kind
    for kind in (
        ValueType("text"),
        ValueType("regex"),
        _pattern("int", r"[+-]?[0-9]+"),
        _pattern("int-list", r"[0-9]+(,[0-9]+)*"),
        _pattern("number", r"[+-]?[0-9]+(\.[0-9]+)?"),
        _pattern("size", r"[+-]?[0-9]+([A-Za-z]{0,3}|%)"),
        _pattern("duration", r"([0-9]+(\.[0-9]*)?|\.[0-9]+)[smhd]?|infinity"),
        _pattern("fields", r"[0-9]*(-[0-9]*)?(,[0-9]*(-[0-9]*)?)*"),
        _pattern("word", r"[A-Za-z0-9_.:,+=@-]+"),
        _pattern("reference", r"[A-Za-z0-9_][A-Za-z0-9_.:,+/=@-]*"),
        _pattern("name", r"[A-Za-z0-9_][A-Za-z0-9_.-]*"),
        _pattern("mode", r"[0-7]{1,4}|[ugoa]*[-+=][rwxX]*(,[ugoa]*[-+=][rwxX]*)*"),
        _pattern("date-format", r"\+.*"),
        _pattern("sort-key", r"[0-9]+(\.[0-9]+)?[bdfgiMhnRrV]*(,[0-9]+(\.[0-9]+)?[bdfgiMhnRrV]*)?"),
        # The letter e would show every process's environment, where secrets live.
        _pattern("ps-flags", r"[aAfgjlmnrSTuvwxXhHL]+"),
        _pattern("ps-format", r"(?!.*environ)[a-z%_]+(=[A-Za-z0-9_ ]*)?([, ][a-z%_]+(=[A-Za-z0-9_ ]*)?)*"),
        _pattern("ps-sort", r"[+-]?[a-z%_]+(,[+-]?[a-z%_]+)*"),
        _pattern("host", r"[A-Za-z0-9\[:][A-Za-z0-9._:%\[\]-]*"),
        _pattern("url", r"(?i:https?://)[^\s@]+|[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[^\s@]*)?"),
        ValueType("read-path", access=Access.READ),
        ValueType("copied-path", access=Access.READ, keeps_name=True),
        ValueType("write-path", access=Access.WRITE),
        #: `@FILE` reads a file; anything else is text.
        ValueType("at-path"),
        #: A revision of a repository, or a path in it.
        ValueType("revision"),
        #: The name of something that is made or changed.
        ValueType("changed", category=Category.WRITE),
        #: What is handed to code that the program runs.
        ValueType("argument"),
        ValueType("code", is_code=True),
        ValueType("program", is_code=True),
    )
}


def value_type(text: str) -> ValueType:
    """Return the type that a table names; `enum:a,b` lists its values. Raises ValueError for any other name."""
    if text.startswith("enum:"):
        choices = "|".join(re.escape(choice) for choice in text.removeprefix("enum:").split(","))
        return ValueType(text, re.compile(choices))
    try:
        return VALUE_TYPES[text]
    except KeyError:
        raise ValueError(f"no value type {text!r}") from None


@dataclass(frozen=True, slots=True)
class Operand:
    """One place in the row of operands: its type, the least number of words, and whether it may repeat."""

    kind: ValueType
    least: int = 1
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One option under all its exact names. `value` is None where it takes none."""

    names: tuple[str, ...]
    value: ValueType | None = None
    #: The value may only be glued on (`--color=always`), and may be missing.
    is_optional: bool = False
    category: Category | None = None
    effect: str = ""
    recursion: Recursion = Recursion.NONE
    #: The row of operands when this option is given, where it differs.
    operands: tuple[Operand, ...] | None = None
    needs_sandbox: bool = False
    #: What the program does when this option is its only argument (`python3 --version` runs no code).
    alone: Category | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One program or subcommand."""

    name: str
    category: Category
    justification: str
    style: Style = Style.GNU
    options: Mapping[str, Option] = field(default_factory=dict)
    operands: tuple[Operand, ...] = ()
    recursion: Recursion = Recursion.NONE
    #: `-5` is an option, as in `head -5`.
    is_numeric: bool = False
    has_network: bool = False
    #: The id of a rule that makes every use ask, or an empty text.
    ask: str = ""
    subcommands: Mapping[str, "Entry"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tables:
    """Every program that governance knows. `digest` is a SHA-256 over the files' names and bytes."""

    programs: Mapping[str, Entry] = field(default_factory=dict)
    #: Names such as `mkfs.*`, as (prefix, entry). Only blocked programs are listed like this.
    prefixes: tuple[tuple[str, Entry], ...] = ()
    #: What is wrong with the files, one sentence each, with the file and the entry.
    problems: tuple[str, ...] = ()
    digest: str = ""

    def find(self, name: str) -> Entry | None:
        """Return the program's entry, or None. A name with a slash is never known: it could be any file."""
        if "/" in name:
            return None
        entry = self.programs.get(name)
        if entry is not None:
            return entry
        return next((entry for prefix, entry in self.prefixes if name.startswith(prefix)), None)
