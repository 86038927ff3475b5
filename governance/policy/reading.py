"""What is found out about one command while it is read: its words' roles and effects, the paths and hosts it names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from governance.policy.entries import Entry, Handling, Recursion
from governance.policy.globs import ANY, STAR, typed
from governance.policy.plan import PartKind, Word
from governance.policy.types import Access, Category, Token

_SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Arg:
    """One word of a command with `~` and variables filled in; globs stand as the marks of `governance.policy.globs`."""

    text: str
    #: As the plan holds it.
    shown: str
    has_glob: bool = False
    #: What was filled in, as a few words.
    note: str = ""

    @classmethod
    def literal(cls, text: str) -> "Arg":
        """Return the word that is just this text."""
        return cls(text, text)

    @classmethod
    def of(cls, word: Word, variables: Mapping[str, str]) -> "Arg":
        """Return a plan's word with its variables' values."""
        if (literal := word.literal) is not None:
            return cls(literal, literal)
        text, notes = "", []
        for part in word.parts:
            if part.kind is PartKind.TEXT:
                text += part.text
            elif part.kind is PartKind.GLOB:
                text += STAR if part.text == "*" else ANY
            else:
                name = "HOME" if part.kind is PartKind.TILDE else part.text
                text += variables[name]
                notes.append(f"{part.text if part.kind is PartKind.TILDE else '$' + name} is {shown(variables[name])}")
        return cls(text, word.source(), word.has_glob, "; ".join(notes))


@dataclass(frozen=True, slots=True)
class PathUse:
    """A word that names a path, and what the program does there."""

    text: str
    access: Access
    recursion: Recursion = Recursion.NONE
    #: The word may not be a path at all: only a protected path counts.
    is_guess: bool = False
    #: The host expands it to the names that match.
    has_glob: bool = False


@dataclass(frozen=True, slots=True)
class HostUse:
    """A word that names a machine on the network."""

    text: str
    is_url: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the command that makes it ask, whatever its category: the rule's id and why, in one sentence."""

    rule: str
    justification: str


@dataclass(slots=True)
class Reading:
    """What one command does, as far as the tables know. `entry` is None for a program that is not in them."""

    entry: Entry | None = None
    #: The program and its subcommands, as in `git log`.
    title: str = ""
    tokens: list[Token] = field(default_factory=list)
    paths: list[PathUse] = field(default_factory=list)
    hosts: list[HostUse] = field(default_factory=list)
    #: Code in small languages: which one, the token that holds it, and its text.
    code: list[tuple[Handling, int, str]] = field(default_factory=list)
    #: Files of code that it runs.
    scripts: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    obligations: set[str] = field(default_factory=set)
    #: Where it goes before it looks at what follows, as `git -C` does; empty for where it stands.
    folder: str = ""
    has_network: bool = False
    #: Another process does the work, outside the sandbox.
    is_daemon: bool = False
    #: What a wrapper runs, and where its words start among the wrapper's.
    inner: "Reading | None" = None
    inner_start: int = 0
    #: What was filled into the token at a place.
    notes: dict[int, str] = field(default_factory=dict)

    @property
    def own_category(self) -> Category:
        """Return the most severe category over this command's own words."""
        return max((token.category for token in self.tokens), key=_severity)

    @property
    def category(self) -> Category:
        """Return the most severe category over all words, those of what a wrapper runs too."""
        own = self.own_category
        return own if self.inner is None else more_severe(own, self.inner.category)

    @property
    def categories(self) -> set[Category]:
        """Return the categories whose row of the matrix counts: a word that is not known asks by its finding."""
        if self.entry is None:
            return {Category.UNKNOWN}
        return {
            token.category for token in self.tokens if token.category is not Category.UNKNOWN or token.role == "program"
        }

    def token(self, arg: Arg, role: str, effect: str, category: Category) -> int:
        """Append a token and return its place."""
        self.tokens.append(Token(arg.shown, role, effect, category))
        if arg.note:
            self.notes[len(self.tokens) - 1] = arg.note
        return len(self.tokens) - 1

    def told(self) -> list[Token]:
        """Return the tokens, each with what was filled into it."""
        if not self.notes:
            return self.tokens
        return [
            replace(token, effect="; ".join(filter(None, (token.effect, self.notes.get(index, "")))))
            for index, token in enumerate(self.tokens)
        ]

    def retoken(self, index: int, effect: str, category: Category) -> None:
        """Replace the effect of a token and raise its category."""
        token = self.tokens[index]
        self.tokens[index] = Token(token.text, token.role, effect, more_severe(token.category, category))

    def find(self, rule: str, justification: str) -> None:
        """Note something that makes the command ask."""
        self.findings.append(Finding(rule, justification))

    def place(self, text: str) -> str:
        """Return a path that is meant from the folder where the program went as one from where it stands."""
        return text if not self.folder or text.startswith("/") else f"{self.folder}/{text}"

    def unread(self, args: Sequence[Arg], effect: str) -> None:
        """Note words that are not read; what they may name is guessed."""
        for arg in args:
            self.token(arg, "operand", effect, Category.READ)
            self.guess(arg)

    def guess(self, arg: Arg) -> None:
        """Note every path that a word of unknown meaning may hold: whole, or behind `=`, `@`, `:` or an option."""
        word = arg.text
        if word.startswith("/"):
            self.paths.append(PathUse(word, Access.WRITE, has_glob=arg.has_glob))
        pieces = [word.partition(separator)[2] for separator in "=@:<"]
        pieces.append(word.partition(":")[0])
        pieces += [word[max(0, word.find("/")) :], word[2:] if word.startswith("-") else word]
        self.paths += [
            PathUse(self.place(piece), Access.READ, is_guess=True, has_glob=arg.has_glob)
            for piece in dict.fromkeys(pieces)
            if piece and "://" not in piece and not piece.startswith("//")
        ]


def _severity(category: Category) -> int:
    return category.severity


def more_severe(one: Category, other: Category) -> Category:
    """Return the more severe of two categories."""
    return one if one.severity >= other.severity else other


def shown(text: str) -> str:
    """Return a word for use inside a sentence; the tokens hold it uncut."""
    text = typed(text)
    return f"`{text}`" if len(text) <= _SHOWN_CHARACTERS else f"`{text[:_SHOWN_CHARACTERS]}…`"
