"""What a program table says once it is loaded: programs, subcommands, options, and the types of their values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from governance.policy.types import Access, Category

#: A program may be named by its path in one of these.
SYSTEM_FOLDERS: Final = frozenset(["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"])


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
    #: Each option is a whole word, as in `find`; its value is the next word.
    WORDS = "words"
    #: Each option is a whole word with one dash or two, its value behind `=` or in the next word, as in `terraform`.
    FLAGS = "flags"
    #: Every argument is text, as in `echo`.
    TEXT = "text"
    #: The arguments are not read, because the program is refused whatever they are.
    UNREAD = "unread"


class Handling(StrEnum):
    """What is done with a value or an operand, besides comparing it with its type's pattern."""

    #: Nothing: it is text.
    PLAIN = "plain"
    #: It is text that may hold a path: a protected one counts wherever it stands.
    GUESSED = "guessed"
    #: A name of a commit or of a path in a repository; one that could leave the repository is a path that is read.
    REVISION = "revision"
    #: `@FILE` reads a file; anything else is text that may hold one.
    AT_PATH = "at-path"
    PATH = "path"
    #: A path, or `[USER@]HOST:PATH` on another machine.
    REMOTE_PATH = "remote-path"
    #: A file of code that is run: the host keeps its SHA-256.
    SCRIPT_FILE = "script-file"
    #: Code, or the name of a program: it is never read, so a person decides.
    CODE = "code"
    PROGRAM = "program"
    #: Code in a small language that is read: what it reads, writes and runs is known.
    SED = "sed"
    AWK = "awk"
    JQ = "jq"
    #: A machine on the network.
    HOST = "host"
    URL = "url"
    #: What a package manager installs: a name at its registry, a folder or file here, or a URL.
    PACKAGE = "package"
    #: The rest of the words are a command of its own.
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of an option's value or of an operand. `pattern` must match the whole text."""

    name: str
    handling: Handling = Handling.PLAIN
    pattern: re.Pattern[str] | None = None
    access: Access | None = None
    #: The category of a word of this type, where it is more than its program's.
    category: Category = Category.READ
    #: What is read appears elsewhere under its own name, so that the name is written too.
    keeps_name: bool = False

    def accepts(self, text: str) -> bool:
        """Return whether `text` is a value of this type."""
        return self.pattern is None or self.pattern.fullmatch(text) is not None


def _pattern(name: str, pattern: str) -> ValueType:
    return ValueType(name, pattern=re.compile(pattern, re.DOTALL))


def _path(name: str, access: Access, handling: Handling = Handling.PATH) -> ValueType:
    return ValueType(name, handling, access=access)


_LOCAL: Final = re.compile("[^:/]*(/.*)?", re.DOTALL)
_UNIT: Final = (
    r"(?!(?:systemd-|initrd|debug-shell|rescue|emergency|reboot|poweroff|halt|kexec|shutdown|ctrl-alt-del|suspend|hibernate"
    r"|hybrid-sleep|runlevel|single|sendsigs|umount))(?!.*\.(?:target|mount|automount|swap|slice|scope|path|device)$)"
    r"[A-Za-z0-9_][A-Za-z0-9_@:.\\-]*"
)

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
        # A service, but none that stops this machine or opens a root shell.
        _pattern("unit", _UNIT),
        _pattern("date-format", r"\+.*"),
        _pattern("sort-key", r"[0-9]+(\.[0-9]+)?[bdfgiMhnRrV]*(,[0-9]+(\.[0-9]+)?[bdfgiMhnRrV]*)?"),
        # The letter e would show every process's environment, where secrets live.
        _pattern("ps-flags", r"[aAfgjlmnrSTuvwxXhHL]+"),
        _pattern("ps-format", r"(?!.*environ)[a-z%_]+(=[A-Za-z0-9_ ]*)?([, ][a-z%_]+(=[A-Za-z0-9_ ]*)?)*"),
        _pattern("ps-sort", r"[+-]?[a-z%_]+(,[+-]?[a-z%_]+)*"),
        ValueType("host", Handling.HOST),
        ValueType("at-host", Handling.HOST, re.compile("@.+")),
        ValueType("url", Handling.URL),
        ValueType("package", Handling.PACKAGE),
        _path("read-path", Access.READ),
        _path("directory", Access.READ),
        # Some programs take a word with such a sign for something else: a list of arguments, or a command.
        ValueType("plain-path", Handling.PATH, re.compile(r"[^@+-].*", re.DOTALL), Access.READ),
        # Compilers read more arguments from what stands behind an `@`.
        ValueType("source-path", Handling.PATH, re.compile("[^@].*", re.DOTALL), Access.READ),
        ValueType("copied-path", Handling.PATH, access=Access.READ, keeps_name=True),
        _path("write-path", Access.WRITE),
        # A colon before the first slash would make it a place on another machine.
        ValueType("local-copied", Handling.PATH, _LOCAL, Access.READ, keeps_name=True),
        ValueType("local-written", Handling.PATH, _LOCAL, Access.WRITE),
        _path("remote-read", Access.READ, Handling.REMOTE_PATH),
        _path("remote-write", Access.WRITE, Handling.REMOTE_PATH),
        ValueType("script-path", Handling.SCRIPT_FILE, access=Access.READ, category=Category.BUILD),
        ValueType("at-path", Handling.AT_PATH),
        #: A revision of a repository, or a path in it.
        ValueType("revision", Handling.REVISION),
        #: The name of something that is made or changed.
        ValueType("changed", category=Category.WRITE),
        #: What is handed to code that the program runs.
        ValueType("argument", Handling.GUESSED),
        ValueType("local-argument", Handling.GUESSED, re.compile("(?!.*//)[^@-].*", re.DOTALL)),
        _pattern("assignment", r"[A-Za-z_][A-Za-z0-9_.]*[:+?]?=.*"),
        ValueType("code", Handling.CODE),
        ValueType("program", Handling.PROGRAM),
        ValueType("sed-script", Handling.SED),
        ValueType("awk-script", Handling.AWK),
        ValueType("jq-filter", Handling.JQ),
        ValueType("command", Handling.COMMAND),
    )
}


def value_type(text: str) -> ValueType:
    """Return the type that a table names; `enum:a,b` lists its values, and `match:` is an expression.

    Raises ValueError for any other name, and for an expression that cannot be read.
    """
    if text.startswith("enum:"):
        choices = "|".join(re.escape(choice) for choice in text.removeprefix("enum:").split(","))
        return ValueType(text, pattern=re.compile(choices))
    if text.startswith("match:"):
        try:
            return _pattern(text, text.removeprefix("match:"))
        except re.error as error:
            raise ValueError(f"{text!r} cannot be read: {error}") from error
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
    """One option under all its exact names. `values` is empty where it takes none."""

    names: tuple[str, ...]
    values: tuple[ValueType, ...] = ()
    #: The value may only be glued on (`--color=always`), and may be missing.
    is_optional: bool = False
    #: It raises the category to at least this one.
    category: Category | None = None
    #: The program's category with this option, in place of the entry's. Of several, the most severe counts.
    mode: Category | None = None
    effect: str = ""
    recursion: Recursion = Recursion.NONE
    #: The row of operands when this option is given, where it differs.
    operands: tuple[Operand, ...] | None = None
    #: What happens in the working directory with this option; with `mode` it stands in place of the entry's.
    here: Access | None = None
    has_network: bool = False
    obligations: tuple[str, ...] = ()
    #: It is an option of every subcommand too.
    is_everywhere: bool = False
    #: What the operands say is read is written too, as with `sed -i`.
    is_in_place: bool = False
    #: Its value is a folder that the program goes to before it looks at what stands behind: `git -C`.
    is_entered: bool = False
    #: The words behind it are operands, whatever they look like: `python3 -m`.
    is_last: bool = False
    #: What the program does when this option is its only argument (`python3 --version` runs no code).
    alone: Category | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One program or subcommand, or several that read their arguments alike. `name` is the first of its names."""

    name: str
    category: Category
    justification: str
    style: Style = Style.GNU
    options: Mapping[str, Option] = field(default_factory=dict)
    operands: tuple[Operand, ...] = ()
    recursion: Recursion = Recursion.NONE
    #: `-5` is an option, as in `head -5`.
    is_numeric: bool = False
    #: The first argument may be a bundle of options without its dash, as in `tar xzf`.
    is_dashless: bool = False
    #: The work is done by another process, which the sandbox does not confine.
    is_daemon: bool = False
    has_network: bool = False
    #: It reads or writes the working directory without naming it.
    here: Access | None = None
    #: One of these options must be given.
    needs: frozenset[str] = frozenset()
    #: What the host must meet: `sandbox`, `git-hardened`.
    obligations: tuple[str, ...] = ()
    #: The id of a rule that makes every use ask, or an empty text.
    ask: str = ""
    subcommands: Mapping[str, "Entry"] = field(default_factory=dict)
    #: A word that starts with `+` is an option.
    has_plus: bool = False
    #: Files of code that it runs where no word names one, as from the folder where it works.
    scripts: tuple[str, ...] = ()


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
        """Return the program's entry, or None.

        A name with a slash could be any file, so it is known only in the folders that an administrator alone writes
        to and where a bare name is looked for too. It counts as it is spelled: `/usr/bin/../bin/ls` is not known.
        """
        folder, slash, base = name.rpartition("/")
        if slash and folder not in SYSTEM_FOLDERS:
            return None
        entry = self.programs.get(base)
        if entry is not None:
            return entry
        return next((entry for prefix, entry in self.prefixes if base.startswith(prefix)), None)
