"""One command -> what each of its words is and does. It reads tables only: no paths are resolved here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from governance.policy.entries import VALUE_TYPES, Entry, Handling, Operand, Option, Recursion, Style, Tables, ValueType
from governance.policy.plan import Mode, Redirect
from governance.policy.reading import Arg, PathUse, Reading, more_severe, shown
from governance.policy.types import Access, Category
from governance.policy.values import apply, note_path, read_code, takes_glob

_WRITTEN: Final = VALUE_TYPES["write-path"]
_NUMERIC: Final = re.compile(r"-[0-9]+")
#: A value glued to a short option behind `=`: some programs drop the sign, so a type that means something asks.
_SIGN_MATTERS: Final = frozenset(Handling) - {Handling.PLAIN}
_TRUTH: Final = frozenset(["true", "false", "1", "0", "t", "f", "T", "F", "TRUE", "FALSE", "True", "False"])
#: Rules that a table may name in `ask`, and why each asks.
ASK_RULES: Final[Mapping[str, str]] = {
    "outside-sandbox": "What it runs is outside any sandbox and is not read, so a person decides.",
    "shows-secrets": "What it prints may hold secrets, so a person decides.",
    "interactive": "It needs a terminal, and a command has none.",
    "network-untyped": "The hosts that it would reach cannot be checked, so a person decides.",
}


def classify(argv: Sequence[Arg], tables: Tables, *, is_wrapped: bool = False) -> Reading:
    """Return what the command does. Never raises for any list of words that is not empty."""
    reading = Reading()
    entry = tables.find(argv[0].text)
    reading.title = argv[0].text
    if entry is None:
        reading.token(argv[0], "program", "is not in the tables", Category.UNKNOWN)
        reading.unread(argv[1:], "is not read, because the program is not known")
        return reading
    _Reader(reading, argv, tables, is_wrapped=is_wrapped).program(entry)
    read_code(reading)
    return reading


def add_redirects(reading: Reading, redirects: Sequence[tuple[Redirect, Arg | None]]) -> None:
    """Note a command's redirects; each comes with its target, or None for a descriptor that is copied."""
    for redirect, target in redirects:
        if target is None:
            reading.token(Arg.literal(redirect.source()), "redirect", "joins two streams", Category.READ)
            continue
        access = Access.READ if redirect.mode is Mode.READ else Access.WRITE
        arg = Arg(target.text, redirect.source(), target.has_glob, target.note)
        if target.text == "/dev/null":
            reading.token(
                arg, "redirect", "reads nothing" if access is Access.READ else "drops a stream", Category.READ
            )
            continue
        effect = "is read" if access is Access.READ else "is written"
        category = Category.READ if access is Access.READ else Category.WRITE
        index = reading.token(arg, "redirect", effect, category)
        if target.has_glob:
            _misplaced(reading, index, arg)
        # A lone `-` is a file of that name here.
        reading.paths.append(PathUse(target.text, access, has_glob=target.has_glob))


def _misplaced(reading: Reading, index: int, arg: Arg) -> None:
    reading.retoken(index, "is a pattern where one word is expected", Category.UNKNOWN)
    reading.find("glob-place", f"{shown(arg.shown)} may become any number of words, and one is expected there.")
    reading.guess(arg)


class _Reader:
    """Reads the words of one command from left to right, by one entry of the tables."""

    def __init__(self, reading: Reading, argv: Sequence[Arg], tables: Tables, *, is_wrapped: bool) -> None:
        self.reading = reading
        self.argv = argv
        self.tables = tables
        self.is_wrapped = is_wrapped
        self.position = 1
        #: The token of the program or subcommand that is being read.
        self.at = 0
        self.recursion = Recursion.NONE
        self.row: tuple[Operand, ...] = ()
        self.style = Style.GNU
        self.met: list[Option] = []
        #: Reading stopped at an option that is not known, so operands may be missing.
        self.is_cut = False
        #: Where the operands stand among the tokens: their types are known only when all of them are.
        self.operands: list[tuple[int, Arg]] = []

    def program(self, entry: Entry) -> None:
        """Read the program's name, then its arguments."""
        alone = entry.options.get(self.argv[1].text) if len(self.argv) == 2 else None
        if alone is not None and alone.alone is not None:
            self.reading.entry = entry
            self.reading.token(self.argv[0], "program", entry.justification, alone.alone)
            self.reading.token(self.argv[1], "option", alone.effect or "prints and exits", alone.alone)
            return
        self.start(entry, self.argv[0], "program")

    def start(self, entry: Entry, arg: Arg, role: str) -> None:
        """Read a program or a subcommand whose name was just met."""
        reading = self.reading
        reading.entry = entry
        if role == "subcommand":
            reading.title += f" {arg.text}"
        self.at = reading.token(arg, role, entry.justification, entry.category)
        reading.has_network |= entry.has_network
        reading.is_daemon |= entry.is_daemon
        reading.obligations.update(entry.obligations)
        if entry.ask:
            reading.find(entry.ask, ASK_RULES[entry.ask])
        self.style, self.recursion, self.row, self.met = entry.style, entry.recursion, entry.operands, []
        if entry.style is Style.UNREAD:
            reading.unread(self.rest(), "is not read")
        elif entry.style is Style.TEXT:
            for word in self.rest():
                index = reading.token(word, "operand", "is text", Category.READ)
                if word.has_glob:
                    note_path(reading, index, word, Access.READ, Recursion.NAMES)
        else:
            self.arguments(entry)

    def rest(self) -> list[Arg]:
        """Return the words that were not read yet, and go behind them."""
        rest = list(self.argv[self.position :])
        self.position = len(self.argv)
        return rest

    def arguments(self, entry: Entry) -> None:
        """Read options, operands and the subcommand, then give every operand its type."""
        are_options_over = False
        if entry.is_dashless and self.position < len(self.argv) and self.argv[self.position].text[:1] not in ("", "-"):
            self.position += 1
            if not self.dashless(self.argv[self.position - 1], entry):
                self.cut()
        while self.position < len(self.argv):
            arg = self.argv[self.position]
            self.position += 1
            if not are_options_over and self.is_option(arg.text, entry):
                # `find -- . -delete` deletes: only the options before the paths end there.
                if arg.text == "--" and entry.style is not Style.WORDS:
                    are_options_over = True
                    self.reading.token(arg, "option", "ends the options", Category.READ)
                elif arg.has_glob:
                    _misplaced(self.reading, self.reading.token(arg, "option", "", Category.READ), arg)
                    self.cut()
                elif not self.option(arg, entry):
                    self.cut()
                else:
                    are_options_over = any(option.is_last for option in self.met)
            elif entry.subcommands:
                self.finish(entry, has_subcommand=True)
                self.subcommand(arg, entry)
                return
            else:
                self.operands.append((self.reading.token(arg, "operand", "", Category.READ), arg))
                are_options_over = are_options_over or entry.style is Style.POSIX
        self.finish(entry)
        self.type_operands(entry)

    def cut(self) -> None:
        """Read nothing behind an option that is not known: what it takes is not known either."""
        self.reading.unread(self.rest(), "is not read, because an option is not known")
        self.is_cut = True

    def is_option(self, word: str, entry: Entry) -> bool:
        """Return whether the program takes `word` as an option."""
        if len(word) < 2:
            return entry.style is Style.WORDS and word in entry.options
        if word[0] == "-" or (word[0] == "+" and entry.has_plus):
            return True
        return entry.style is Style.WORDS and word in entry.options

    def subcommand(self, arg: Arg, entry: Entry) -> None:
        """Go on with the subcommand's own entry, or ask where there is none."""
        found = None if arg.has_glob else entry.subcommands.get(arg.text)
        if found is not None:
            self.start(found, arg, "subcommand")
            return
        why = f"{self.reading.title} has no known subcommand {shown(arg.text)}."
        self.unknown(arg, "subcommand", "unknown-subcommand", why)
        self.reading.unread(self.rest(), "is not read, because the subcommand is not known")

    def option(self, arg: Arg, entry: Entry) -> bool:
        """Read an option and its value. Return False where it is not known, so that reading must stop."""
        word = arg.text
        if entry.style is Style.FLAGS:
            return self.flag(arg, entry)
        if entry.style is Style.WORDS or word.startswith(("--", "+")) or word in entry.options:
            return self.long_option(arg, entry)
        name, equals, _ = word.partition("=")
        if equals and len(name) > 2 and name in entry.options:
            return self.long_option(arg, entry)
        if entry.is_numeric and _NUMERIC.fullmatch(word):
            self.reading.token(arg, "option", "is a count", Category.READ)
            return True
        return self.short_options(arg, entry)

    def long_option(self, arg: Arg, entry: Entry) -> bool:
        """Read `--name`, `--name=value` or `--name value`, by exact name: prefixes are never completed."""
        name, equals, glued = (arg.text, "", "") if entry.style is Style.WORDS else arg.text.partition("=")
        option = entry.options.get(name)
        if option is None or (equals and len(option.values) != 1):
            return self.unknown_option(arg, name, takes_none=option is not None)
        return self.with_value(arg, option, equals, glued)

    def flag(self, arg: Arg, entry: Entry) -> bool:
        """Read `-name`, `--name`, `-name=value` or `-name value`, by exact name."""
        name, equals, glued = arg.text.partition("=")
        option = entry.options.get(name) or (entry.options.get(name[1:]) if name.startswith("--") else None)
        if option is None:
            return self.unknown_option(arg, name)
        if equals and not option.values:
            if glued not in _TRUTH:
                return self.unknown_option(arg, name, takes_none=True)
            equals = ""
        return self.with_value(arg, option, equals, glued)

    def with_value(self, arg: Arg, option: Option, equals: str, glued: str) -> bool:
        """Note a known option, and the value that is glued to it or stands behind it."""
        if not option.values or (option.is_optional and not equals):
            self.meet(arg, [option])
        elif equals:
            self.meet(arg, [option], option.values[0], glued)
        else:
            self.meet_next(arg, [option])
        return True

    def short_options(self, arg: Arg, entry: Entry) -> bool:
        """Read `-a`, `-abc`, `-n5` or `-n 5`: a letter that takes a value ends the bundle."""
        met: list[Option] = []
        for place, letter in enumerate(arg.text[1:], start=2):
            option = entry.options.get("-" + letter)
            if option is None:
                return self.unknown_option(arg, "-" + letter)
            met.append(option)
            if not option.values:
                continue
            glued = arg.text[place:]
            if glued and len(option.values) > 1:
                return self.unknown_option(arg, "-" + letter, takes_none=True)
            if glued:
                self.meet(arg, met, option.values[0], glued)
                if glued[0] == "=" and option.values[0].handling in _SIGN_MATTERS:
                    self.reading.find("invalid-value", f"Programs read {shown(arg.text)} in different ways.")
                    self.reading.guess(arg)
            elif option.is_optional:
                self.meet(arg, met)
            else:
                self.meet_next(arg, met)
            return True
        self.meet(arg, met)
        return True

    def dashless(self, arg: Arg, entry: Entry) -> bool:
        """Read the bundle of `tar xzf FILE`: the letters' values are the next words, in the letters' order."""
        whole = entry.options.get("-" + arg.text)
        options = [whole] if whole is not None else [entry.options.get("-" + letter) for letter in arg.text]
        if arg.has_glob or None in options:
            return self.unknown_option(arg, arg.text)
        known = [option for option in options if option is not None]
        self.meet(arg, known)
        for option in known:
            for kind in option.values if not option.is_optional else ():
                self.next_value(arg, option, kind)
        return True

    def meet(self, arg: Arg, options: Sequence[Option], kind: ValueType | None = None, value: str = "") -> None:
        """Note known options that share a word, and the value glued to the last of them."""
        category = Category.READ
        for option in options:
            self.recursion = max(self.recursion, option.recursion)
            self.row = self.row if option.operands is None else option.operands
            self.reading.obligations.update(option.obligations)
            self.reading.has_network |= option.has_network
            category = more_severe(category, option.category or Category.READ)
        self.met += options
        effect = "; ".join(option.effect for option in options if option.effect)
        index = self.reading.token(arg, "option", effect, category)
        if kind is not None:
            apply(self.reading, index, kind, Arg.literal(value))
            self.enter(options[-1], value)
        elif not effect:
            self.reading.retoken(index, "is a listed option", Category.READ)

    def meet_next(self, arg: Arg, options: Sequence[Option]) -> None:
        """Note known options, the last of which takes the next words as its values."""
        self.meet(arg, options)
        for kind in options[-1].values:
            self.next_value(arg, options[-1], kind)

    def next_value(self, arg: Arg, option: Option, kind: ValueType) -> None:
        """Read the next word as the value of an option."""
        reading = self.reading
        if self.position == len(self.argv):
            reading.retoken(len(reading.tokens) - 1, "misses its value", Category.UNKNOWN)
            reading.find("invalid-value", f"{shown(arg.text)} needs a value.")
            return
        value = self.argv[self.position]
        self.position += 1
        index = reading.token(value, "value", option.effect, Category.READ)
        # `find . -name *.py`: no name starts with a dash, so more names are at worst more folders to look in.
        is_name = self.style is Style.WORDS and kind.handling is Handling.PLAIN and takes_glob(kind)
        if value.has_glob and not is_name:
            _misplaced(reading, index, value)
        else:
            apply(reading, index, kind, value)
            self.enter(option, value.text)

    def enter(self, option: Option, value: str) -> None:
        """Note that what follows is meant from another folder, where an option says so."""
        if option.is_entered:
            if self.reading.scripts:
                # `make -f FILE -C FOLDER` means FOLDER/FILE, although the file is named first.
                self.reading.find("invalid-value", f"{shown(value)} must stand before the file that is run.")
            self.reading.folder = self.reading.place(value)

    def unknown_option(self, arg: Arg, name: str, *, takes_none: bool = False) -> bool:
        """Ask because of an option."""
        reason = "takes no value there" if takes_none else "is not listed"
        self.unknown(arg, "option", "unknown-option", f"The option {shown(name)} of {self.reading.title} {reason}.")
        self.reading.guess(arg)
        return False

    def unknown(self, arg: Arg, role: str, rule: str, justification: str) -> None:
        """Note a word whose effect is not known."""
        self.reading.token(arg, role, "is not known", Category.UNKNOWN)
        self.reading.find(rule, justification)

    def finish(self, entry: Entry, *, has_subcommand: bool = False) -> None:
        """Note what the options together make of the program: its category, and what it does where it stands."""
        reading, modes = self.reading, [option for option in self.met if option.mode is not None]
        given = {name for option in self.met for name in option.names}
        if entry.needs and not (has_subcommand or self.is_cut or given & entry.needs):
            names = " or ".join(sorted(entry.needs))
            reading.find("needs-option", f"{reading.title} is only understood with {names}.")
        if modes:
            token = reading.tokens[self.at]
            category = max((option.mode for option in modes if option.mode), key=lambda mode: mode.severity)
            reading.tokens[self.at] = replace(token, category=category)
        if not (modes or reading.scripts):
            reading.scripts += [reading.place(name) for name in entry.scripts]
        places = [option.here for option in self.met if option.here] + ([] if modes or not entry.here else [entry.here])
        for access in dict.fromkeys(places):
            reading.paths.append(PathUse(reading.place("."), access, self.recursion))
            if access is Access.WRITE:
                reading.retoken(self.at, reading.tokens[self.at].effect, Category.WRITE)

    def type_operands(self, entry: Entry) -> None:
        """Give every operand its type by its place in the row: the last one may differ, as in `cp`."""
        if any(operand.kind.handling is Handling.COMMAND for operand in self.row):
            self.wrapped()
        reading = self.reading
        is_in_place = any(option.is_in_place for option in self.met)
        spare = len(self.operands) - sum(operand.least for operand in self.row)
        if spare < 0 and not self.is_cut:
            reading.find("unknown-operand", f"{reading.title} needs more operands.")
            reading.retoken(0, reading.tokens[0].effect, Category.UNKNOWN)
        left = list(self.operands)
        for operand in self.row:
            extra = max(0, spare) if operand.is_repeated else min(max(0, spare), 1 - operand.least)
            spare -= extra
            taken, left = left[: operand.least + extra], left[operand.least + extra :]
            kind = _WRITTEN if is_in_place and operand.kind.access is Access.READ else operand.kind
            for index, arg in taken:
                if arg.has_glob and (entry.has_plus or not operand.is_repeated or not takes_glob(kind)):
                    _misplaced(reading, index, arg)
                    continue
                # The one folder that `cp -r` copies into is not gone through.
                goes_down = operand.is_repeated or operand.kind.access is Access.READ
                apply(reading, index, kind, arg, self.recursion if goes_down else Recursion.NONE)
            if not (taken or self.is_cut) and self.recursion and operand.is_repeated and operand.kind.access:
                reading.paths.append(PathUse(".", operand.kind.access, self.recursion))
        for index, arg in left:
            reading.retoken(index, "is not known", Category.UNKNOWN)
            reading.find("unknown-operand", f"{reading.title} does not take the operand {shown(arg.text)}.")
            reading.guess(arg)

    def wrapped(self) -> None:
        """Read the command that a wrapper runs: the operands behind the wrapper's own."""
        reading, own = self.reading, len(self.row) - 1
        self.row = self.row[:-1]
        if len(self.operands) <= own:
            reading.find("unknown-operand", f"{reading.title} needs a command to run.")
            reading.retoken(0, reading.tokens[0].effect, Category.UNKNOWN)
            return
        index = self.operands[own][0]
        args = [arg for _, arg in self.operands[own:]]
        self.operands = self.operands[:own]
        del reading.tokens[index:]
        reading.notes = {place: note for place, note in reading.notes.items() if place < index}
        if self.is_wrapped or args[0].has_glob:
            reading.find("never-read", f"{reading.title} runs a command inside another one, which is never read.")
            reading.unread(args, "is not read")
            reading.retoken(index, "is a command inside another one", Category.UNKNOWN)
            return
        reading.inner = classify(args, self.tables, is_wrapped=True)
        reading.inner_start = len(self.argv) - len(args)
