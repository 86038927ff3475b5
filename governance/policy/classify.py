"""One command -> what each of its words is and does. It reads tables only: no paths are resolved here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from governance.policy.entries import Entry, Handling, Operand, Option, Recursion, Style, Tables, ValueType
from governance.policy.types import Access, Category, Token

_NUMERIC: Final = re.compile(r"-[0-9]+")
_SHOWN_CHARACTERS: Final = 60
#: Rules that a table may name in `ask`, and why each asks.
ASK_RULES: Final[Mapping[str, str]] = {
    "needs-obligations": "A repository's own configuration can name programs to run, so a person decides.",
    "interactive": "It needs a terminal, and a command has none.",
    "network-untyped": "The hosts that it would reach are not checked yet, so a person decides.",
}


@dataclass(frozen=True, slots=True)
class PathUse:
    """A word that names a path, and what the program does there."""

    text: str
    access: Access
    recursion: Recursion = Recursion.NONE
    #: The word may not be a path at all: only a protected path counts.
    is_guess: bool = False


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
    findings: list[Finding] = field(default_factory=list)
    #: The categories whose row of the matrix counts: a word that is not known asks by its finding instead.
    categories: set[Category] = field(default_factory=set)
    has_network: bool = False
    needs_sandbox: bool = False

    @property
    def category(self) -> Category:
        """Return the most severe category over all words."""
        return max((token.category for token in self.tokens), key=lambda category: category.severity)


def classify(argv: Sequence[str], tables: Tables) -> Reading:
    """Return what the command does. Never raises for any list of texts that is not empty."""
    reading = Reading()
    entry = tables.find(argv[0])
    if entry is None:
        reading.tokens.append(Token(argv[0], "program", "is not in the tables", Category.UNKNOWN))
        reading.categories.add(Category.UNKNOWN)
        _unread(reading, argv[1:], "is not read, because the program is not known")
        return reading
    _Reader(reading, argv).program(entry)
    return reading


def _unread(reading: Reading, words: Sequence[str], effect: str) -> None:
    for word in words:
        reading.tokens.append(Token(word, "operand", effect, Category.READ))
        _guess_paths(reading, word)


def _guess_paths(reading: Reading, word: str) -> None:
    """Note every path that a word of unknown meaning may hold: whole, behind `=`, `@` or `:`, or glued to an option."""
    if word.startswith("/"):
        reading.paths.append(PathUse(word, Access.WRITE))
    pieces = [word.partition(separator)[2] for separator in "=@:<"]
    pieces.append(word.partition(":")[0])
    pieces += [word[max(0, word.find("/")) :], word[2:] if word.startswith("-") else word]
    reading.paths += [
        PathUse(piece, Access.READ, is_guess=True)
        for piece in dict.fromkeys(pieces)
        if piece and "://" not in piece and not piece.startswith("//")
    ]


class _Reader:
    """Reads the words of one command from left to right, by one entry of the tables."""

    def __init__(self, reading: Reading, argv: Sequence[str]) -> None:
        self.reading = reading
        self.argv = argv
        self.position = 1
        self.recursion = Recursion.NONE
        self.row: tuple[Operand, ...] = ()
        #: Reading stopped at an option that is not known, so operands may be missing.
        self.is_cut = False
        #: Where the operands stand among the tokens: their types are known only when all of them are.
        self.operands: list[int] = []

    def program(self, entry: Entry) -> None:
        """Read the program's name, then its arguments."""
        self.reading.entry, self.reading.title = entry, entry.name
        alone = entry.options.get(self.argv[1]) if len(self.argv) == 2 else None
        if alone is not None and alone.alone is not None:
            self.token(self.argv[0], "program", entry.justification, alone.alone)
            self.token(self.argv[1], "option", alone.effect or "prints and exits", alone.alone)
            return
        self.start(entry, self.argv[0], "program")

    def start(self, entry: Entry, word: str, role: str) -> None:
        """Read a program or a subcommand whose name was just met."""
        self.reading.entry = entry
        self.reading.title = self.argv[0] if role == "program" else f"{self.reading.title} {word}"
        self.token(word, role, entry.justification, entry.category)
        self.reading.has_network |= entry.has_network
        if entry.ask:
            self.find(entry.ask, ASK_RULES[entry.ask])
        self.recursion, self.row = entry.recursion, entry.operands
        if entry.style is Style.UNREAD:
            _unread(self.reading, self.argv[self.position :], "is not read")
        elif entry.style is Style.TEXT:
            for text in self.argv[self.position :]:
                self.token(text, "operand", "is text", Category.READ)
        else:
            self.arguments(entry)

    def arguments(self, entry: Entry) -> None:
        """Read options, operands and the subcommand, then give every operand its type."""
        are_options_over = False
        while self.position < len(self.argv):
            word = self.argv[self.position]
            self.position += 1
            if not are_options_over and self.is_option(word, entry):
                if word == "--":
                    are_options_over = True
                    self.token(word, "option", "ends the options", Category.READ)
                elif not self.option(word, entry):
                    # What an unknown option takes is not known, so the words behind it are not either.
                    _unread(self.reading, self.argv[self.position :], "is not read, because an option is not known")
                    self.position = len(self.argv)
                    self.is_cut = True
            elif entry.subcommands:
                self.subcommand(word, entry)
                return
            else:
                self.operands.append(len(self.reading.tokens))
                self.token(word, "operand", "", Category.READ)
                are_options_over = are_options_over or entry.style is Style.POSIX
        self.type_operands(entry)

    def is_option(self, word: str, entry: Entry) -> bool:
        """Return whether the program takes `word` as an option."""
        if entry.style is Style.WORDS and word in entry.options:
            return True
        return len(word) > 1 and word.startswith("-")

    def subcommand(self, word: str, entry: Entry) -> None:
        """Go on with the subcommand's own entry, or ask where there is none."""
        found = entry.subcommands.get(word)
        if found is not None:
            self.start(found, word, "subcommand")
            return
        self.unknown(
            word, "subcommand", "unknown-subcommand", f"{self.reading.title} has no known subcommand {shown(word)}."
        )
        _unread(self.reading, self.argv[self.position :], "is not read, because the subcommand is not known")

    def option(self, word: str, entry: Entry) -> bool:
        """Read an option and its value. Return False where it is not known, so that reading must stop."""
        if entry.style is Style.WORDS or word.startswith("--") or word in entry.options:
            return self.long_option(word, entry)
        if entry.is_numeric and _NUMERIC.fullmatch(word):
            self.token(word, "option", "is a count", Category.READ)
            return True
        return self.short_options(word, entry)

    def long_option(self, word: str, entry: Entry) -> bool:
        """Read `--name`, `--name=value` or `--name value`, by exact name: prefixes are never completed."""
        name, equals, glued = (word, "", "") if entry.style is Style.WORDS else word.partition("=")
        option = entry.options.get(name)
        if option is None or (equals and len(option.values) != 1):
            return self.unknown_option(word, name, entry, takes_none=option is not None)
        if not option.values or (option.is_optional and not equals):
            self.meet(word, [option])
            return True
        if equals:
            self.meet(word, [option], option.values[0], glued)
            return True
        return self.meet_next(word, [option])

    def short_options(self, word: str, entry: Entry) -> bool:
        """Read `-a`, `-abc`, `-n5` or `-n 5`: a letter that takes a value ends the bundle."""
        met: list[Option] = []
        for index, letter in enumerate(word[1:], start=1):
            option = entry.options.get("-" + letter)
            if option is None:
                return self.unknown_option(word, "-" + letter, entry)
            met.append(option)
            if not option.values:
                continue
            if word[index + 1 :]:
                self.meet(word, met, option.values[0], word[index + 1 :])
            elif option.is_optional:
                self.meet(word, met)
            else:
                return self.meet_next(word, met)
            return True
        self.meet(word, met)
        return True

    def meet(self, word: str, options: Sequence[Option], kind: ValueType | None = None, value: str = "") -> None:
        """Note known options that share a word, and the value glued to the last of them."""
        category = Category.READ
        for option in options:
            self.recursion = max(self.recursion, option.recursion)
            self.row = self.row if option.operands is None else option.operands
            self.reading.needs_sandbox |= "sandbox" in option.obligations
            category = more_severe(category, option.category or Category.READ)
        effects = [option.effect for option in options if option.effect]
        if kind is None:
            self.token(word, "option", "; ".join(effects), category)
            return
        self.token(word, "option", "; ".join(effects), category)
        self.value(len(self.reading.tokens) - 1, kind, value, Recursion.NONE)

    def meet_next(self, word: str, options: Sequence[Option]) -> bool:
        """Note known options, the last of which takes the next words as its values."""
        self.meet(word, options)
        for kind in options[-1].values:
            self.next_value(word, options, kind)
        return True

    def next_value(self, word: str, options: Sequence[Option], kind: ValueType) -> bool:
        if self.position == len(self.argv):
            self.retoken(len(self.reading.tokens) - 1, "misses its value", Category.UNKNOWN)
            self.find("invalid-value", f"{shown(word)} needs a value.")
            return True
        value = self.argv[self.position]
        self.position += 1
        self.token(value, "value", "; ".join(option.effect for option in options[-1:] if option.effect), Category.READ)
        self.value(len(self.reading.tokens) - 1, kind, value, Recursion.NONE)
        return True

    def unknown_option(self, word: str, name: str, entry: Entry, *, takes_none: bool = False) -> bool:
        """Ask because of an option, and read nothing behind it."""
        reason = "takes no value" if takes_none else "is not listed"
        self.unknown(word, "option", "unknown-option", f"The option {shown(name)} of {self.reading.title} {reason}.")
        _guess_paths(self.reading, word)
        return False

    def unknown(self, word: str, role: str, rule: str, justification: str) -> None:
        """Note a word whose effect is not known."""
        self.reading.tokens.append(Token(word, role, "is not known", Category.UNKNOWN))
        self.find(rule, justification)

    def type_operands(self, entry: Entry) -> None:
        """Give every operand its type by its place in the row: the last one may differ, as in `cp`."""
        spare = len(self.operands) - sum(operand.least for operand in self.row)
        if spare < 0 and not self.is_cut:
            self.find("unknown-operand", f"{self.reading.title} needs more operands.")
            self.retoken(0, self.reading.tokens[0].effect, Category.UNKNOWN)
        left = list(self.operands)
        for operand in self.row:
            extra = max(0, spare) if operand.is_repeated else min(max(0, spare), 1 - operand.least)
            spare -= extra
            taken, left = left[: operand.least + extra], left[operand.least + extra :]
            for index in taken:
                # The one folder that `cp -r` copies into is not gone through.
                goes_down = operand.is_repeated or operand.kind.access is Access.READ
                depth = self.recursion if goes_down else Recursion.NONE
                self.value(index, operand.kind, self.reading.tokens[index].text, depth)
            if not (taken or self.is_cut) and self.recursion and operand.is_repeated and operand.kind.access:
                self.reading.paths.append(PathUse(".", operand.kind.access, self.recursion))
        for index in left:
            text = self.reading.tokens[index].text
            self.retoken(index, "is not known", Category.UNKNOWN)
            self.find("unknown-operand", f"{self.reading.title} does not take the operand {shown(text)}.")
            _guess_paths(self.reading, text)

    def value(self, index: int, kind: ValueType, text: str, recursion: Recursion) -> None:
        """Give the token at `index` the effect of a value of type `kind`."""
        token = self.reading.tokens[index]
        if kind.handling in (Handling.CODE, Handling.PROGRAM):
            what = "is code" if kind.handling is Handling.CODE else "names a program to run"
            self.retoken(index, f"{what}, which is never read", Category.UNKNOWN)
            self.find("never-read", f"{shown(token.text)} {what}, which governance never reads.")
            _guess_paths(self.reading, text)
        elif not kind.accepts(text):
            self.retoken(index, f"is not of the type {kind.name}", Category.UNKNOWN)
            self.find("invalid-value", f"{shown(text)} is not of the type {kind.name}.")
            _guess_paths(self.reading, text)
        elif kind.access is not None:
            self.path(index, kind.access, text, recursion)
            if kind.keeps_name:
                name = text.rstrip("/").rpartition("/")[2]
                self.reading.paths.append(PathUse(name, Access.WRITE, is_guess=True))
        elif kind.handling is Handling.AT_PATH and text.startswith("@"):
            self.path(index, Access.READ, text[1:], Recursion.NONE)
        elif kind.handling in (Handling.GUESSED, Handling.AT_PATH):
            _guess_paths(self.reading, text)
        if kind.category is not Category.READ or not self.reading.tokens[index].effect:
            self.retoken(index, token.effect or f"is a {kind.name}", kind.category)

    def path(self, index: int, access: Access, text: str, recursion: Recursion) -> None:
        """Note that a word names a path. A lone `-` that is read is the standard input."""
        token = self.reading.tokens[index]
        if access is Access.READ:
            if text == "-":
                self.retoken(index, "is the standard input", token.category)
                return
            self.retoken(index, token.effect or "is read", token.category)
        else:
            is_deleted = Category.DELETE in self.reading.categories
            category = Category.DELETE if is_deleted else Category.WRITE
            effect = token.effect or ("is deleted" if is_deleted else "is written")
            self.retoken(index, effect, more_severe(token.category, category))
        self.reading.paths.append(PathUse(text, access, recursion))

    def token(self, text: str, role: str, effect: str, category: Category) -> None:
        """Append a token whose category counts."""
        self.reading.tokens.append(Token(text, role, effect, category))
        self.reading.categories.add(category)

    def retoken(self, index: int, effect: str, category: Category) -> None:
        """Replace the effect and category of a token; an unknown one is judged by its finding, not by the matrix."""
        token = self.reading.tokens[index]
        self.reading.tokens[index] = Token(token.text, token.role, effect, more_severe(token.category, category))
        if category is not Category.UNKNOWN:
            self.reading.categories.add(category)

    def find(self, rule: str, justification: str) -> None:
        """Note something that makes the command ask."""
        self.reading.findings.append(Finding(rule, justification))


def more_severe(one: Category, other: Category) -> Category:
    """Return the more severe of two categories."""
    return one if one.severity >= other.severity else other


def shown(text: str) -> str:
    """Return a word for use inside a sentence; the tokens hold it uncut."""
    return f"`{text}`" if len(text) <= _SHOWN_CHARACTERS else f"`{text[:_SHOWN_CHARACTERS]}…`"
