"""The plan: a command parsed into what will run. Standard library only; the host process reads plans too.

A word is text, except where the host has something to fill in: a glob, `~`, or one of `$HOME`, `$PWD`, `$USER`. In JSON
a word of text is a string, and any other is `{"parts": [{"text": ".py"}, {"glob": "*"}, {"variable": "HOME"}]}`.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: The variables that a plan may name. Their values never split into words and never hold globs.
VARIABLES: Final = ("HOME", "PWD", "USER")
#: The patterns that a plan may hold: `*`, `?`, and a bracket expression of plain characters, ranges and classes.
GLOB: Final = re.compile(
    r"[*?]|\[[!^]?+\]?+(?:\[:(?:al(?:num|pha)|blank|cntrl|x?digit|graph|lower|print|punct|space|upper):\]|[\w.,:=@%+!^-])*+\]"
)
#: Words that bash does not take for a program where one may stand, unless they are quoted.
KEYWORDS: Final = frozenset(
    (
        *("!", "[[", "]]", "{", "}", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for"),
        *("function", "if", "select", "then", "until", "while"),
    )
)


class PlanError(ValueError):
    """Data that is not a plan."""


class PartKind(StrEnum):
    """What a part of a word is."""

    TEXT = "text"
    #: A pattern as it was written, unquoted: `*`, `?` or `[a-z]`.
    GLOB = "glob"
    #: The name of one of VARIABLES, quoted or not.
    VARIABLE = "variable"
    #: `~` at the start of a word: the value of HOME. Its text is `~`.
    TILDE = "tilde"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a word."""

    kind: PartKind
    text: str

    def source(self) -> str:
        """Return the part as one would type it in bash."""
        if self.kind is PartKind.TEXT:
            return shlex.quote(self.text)
        return f'"${self.text}"' if self.kind is PartKind.VARIABLE else self.text


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command: parts side by side, no two texts next to each other; none for an empty word."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, text: str) -> "Word":
        """Return the word that is just this text."""
        return cls((Part(PartKind.TEXT, text),) if text else ())

    @property
    def literal(self) -> str | None:
        """Return the word's text, or None where the host has something to fill in."""
        if not self.parts:
            return ""
        part = self.parts[0]
        return part.text if len(self.parts) == 1 and part.kind is PartKind.TEXT else None

    @property
    def has_glob(self) -> bool:
        """Return whether the host expands this word to the names that match, in byte order."""
        return any(part.kind is PartKind.GLOB for part in self.parts)

    def resolved(self, variables: Mapping[str, str]) -> "Word":
        """Return the word with `~` and variables replaced by their values. Raises KeyError for one without a value."""
        found: list[Part] = []
        for part in self.parts:
            if part.kind is PartKind.GLOB:
                found.append(part)
                continue
            text = part.text if part.kind is PartKind.TEXT else variables[_variable(part)]
            if found and found[-1].kind is PartKind.TEXT:
                text = found.pop().text + text
            if text:
                found.append(Part(PartKind.TEXT, text))
        return Word(tuple(found))

    def source(self) -> str:
        """Return the word as one would type it in bash."""
        if (literal := self.literal) is not None:
            return literal if literal in _PLAIN_WORDS else shlex.quote(literal)
        return "".join(source for _, source in self.typed())

    def typed(self) -> Iterator[tuple[PartKind, str]]:
        """Yield what each part is, and the part as one would type it in bash."""
        is_after_tilde = False
        for part in self.parts:
            source = part.source()
            if is_after_tilde and source != part.text:
                # With a quoted slash behind it, bash leaves the tilde as it is.
                source = "/" + shlex.quote(part.text[1:])
            yield part.kind, source
            is_after_tilde = part.kind is PartKind.TILDE

    def to_json(self) -> object:
        """Return a string for text, else `{"parts": [{kind: text}]}`."""
        literal = self.literal
        return literal if literal is not None else {"parts": [{str(part.kind): part.text} for part in self.parts]}

    @classmethod
    def from_json(cls, data: object) -> "Word":
        """Read what `to_json` wrote. Raises PlanError for any other shape."""
        if isinstance(data, str):
            return cls.of(data)
        parts: list[Part] = []
        for item in _list(data, "parts"):
            if not isinstance(item, Mapping) or len(item) != 1:
                raise PlanError("plan: a part is an object with one key")
            (kind, text) = next(iter(item.items()))
            if kind not in _KINDS or not isinstance(text, str) or not text:
                raise PlanError("plan: a part is a text, glob, variable or tilde")
            part = Part(PartKind(kind), text)
            _check_part(part, parts)
            parts.append(part)
        return cls(tuple(parts))


class Mode(StrEnum):
    """What a redirect does with its target."""

    READ = "<"
    #: Creates the file or empties it; `>|` is the same here.
    WRITE = ">"
    APPEND = ">>"
    #: The descriptor becomes a copy of another one, as in `2>&1`.
    COPY = ">&"


@dataclass(frozen=True, slots=True)
class Redirect:
    """One redirect, in the order in which it takes effect. `target` is a file, or the descriptor that is copied."""

    descriptor: int
    mode: Mode
    target: Word | int

    @property
    def operator(self) -> str:
        """Return what one would type in front of the file, as in `2>>`; all of it for a copy, as in `2>&1`."""
        usual = 0 if self.mode is Mode.READ else 1
        number = "" if self.descriptor == usual else str(self.descriptor)
        return f"{number}{self.mode}{self.target if isinstance(self.target, int) else ''}"

    def source(self) -> str:
        """Return the redirect as one would type it in bash."""
        return self.operator if isinstance(self.target, int) else f"{self.operator} {self.target.source()}"

    def to_json(self) -> dict[str, object]:
        """Return `{"descriptor": int, "mode": str, "target": word or int}`."""
        target = self.target if isinstance(self.target, int) else self.target.to_json()
        return {"descriptor": self.descriptor, "mode": str(self.mode), "target": target}

    @classmethod
    def from_json(cls, data: object) -> "Redirect":
        """Read what `to_json` wrote. Raises PlanError for any other shape."""
        if not isinstance(data, Mapping):
            raise PlanError("plan: a redirect is an object")
        descriptor, mode, target = data.get("descriptor"), data.get("mode"), data.get("target")
        if type(descriptor) is not int or descriptor not in _DESCRIPTORS or mode not in _MODES:
            raise PlanError("plan: a redirect has a descriptor from 0 to 2 and a mode")
        if (mode == Mode.COPY) != (type(target) is int) or (type(target) is int and target not in _DESCRIPTORS):
            raise PlanError("plan: a redirect's target is a word, or a descriptor from 0 to 2 for a copy")
        return cls(descriptor, Mode(mode), target if isinstance(target, int) else Word.from_json(target))


@dataclass(frozen=True, slots=True)
class Command:
    """One program with its arguments and redirects; `argv[0]` is the program as it was written, always text."""

    argv: tuple[Word, ...]
    redirects: tuple[Redirect, ...] = ()

    @classmethod
    def of(cls, *argv: str) -> "Command":
        """Return the command whose words are text."""
        return cls(tuple(Word.of(text) for text in argv))

    @property
    def program(self) -> str:
        """Return the program as it was written."""
        return self.argv[0].literal or ""

    def source(self) -> str:
        """Return the command as one would type it in bash."""
        words = [self.program_source(), *(word.source() for word in self.argv[1:])]
        return " ".join([*words, *(redirect.source() for redirect in self.redirects)])

    def program_source(self) -> str:
        """Return the program as one would type it, quoted where bash would read a keyword or an assignment."""
        typed = self.argv[0].source()
        is_taken = typed in KEYWORDS or _ASSIGNMENT.match(typed)
        return f"'{typed}'" if is_taken else typed

    def to_json(self) -> dict[str, object]:
        """Return `{"argv": [word], "redirects": [redirect]}`; without redirects the key is left out."""
        data: dict[str, object] = {"argv": [word.to_json() for word in self.argv]}
        if self.redirects:
            data["redirects"] = [redirect.to_json() for redirect in self.redirects]
        return data

    @classmethod
    def from_json(cls, data: object) -> "Command":
        """Read what `to_json` wrote. Raises PlanError for any other shape, an empty argv or a program with a glob."""
        argv = tuple(Word.from_json(word) for word in _list(data, "argv"))
        if not argv[0].literal:
            raise PlanError("plan: a program's name is text")
        has_redirects = isinstance(data, Mapping) and "redirects" in data
        redirects = [Redirect.from_json(item) for item in _list(data, "redirects")] if has_redirects else []
        return cls(argv, tuple(redirects))


class Join(StrEnum):
    """How a step follows the one before it."""

    FIRST = ""
    AND = "&&"
    OR = "||"
    THEN = ";"


@dataclass(frozen=True, slots=True)
class Step:
    """A pipeline of one command or more, and how it follows the step before. `!` negates the pipeline's exit code."""

    pipeline: tuple[Command, ...]
    join: Join = Join.FIRST
    is_negated: bool = False

    def source(self) -> str:
        """Return the pipeline as one would type it in bash, without its join."""
        return ("! " if self.is_negated else "") + " | ".join(command.source() for command in self.pipeline)


@dataclass(frozen=True, slots=True)
class Plan:
    """Pipelines joined by `&&`, `||` and `;`. No shell ever runs it."""

    steps: tuple[Step, ...]

    @classmethod
    def simple(cls, *argv: str) -> "Plan":
        """Return the plan of one command whose words are text."""
        return cls((Step((Command.of(*argv),)),))

    def commands(self) -> Iterator[Command]:
        """Yield every command, in source order."""
        for step in self.steps:
            yield from step.pipeline

    def source(self) -> str:
        """Return the plan on one line, as one would type it in bash."""
        return "".join(_JOINED[step.join] + step.source() for step in self.steps)

    def to_json(self) -> dict[str, object]:
        """Return `{"steps": [{"join": str, "pipeline": [command]}]}`; a negated step also has `"negated": true`."""
        steps = []
        for step in self.steps:
            data: dict[str, object] = {
                "join": str(step.join),
                "pipeline": [command.to_json() for command in step.pipeline],
            }
            if step.is_negated:
                data["negated"] = True
            steps.append(data)
        return {"steps": steps}

    @classmethod
    def from_json(cls, data: object) -> "Plan":
        """Read what `to_json` wrote. Raises PlanError for any other shape, an empty plan or an empty argv."""
        steps = []
        for number, step in enumerate(_list(data, "steps")):
            commands = tuple(Command.from_json(item) for item in _list(step, "pipeline"))
            join = step.get("join") if isinstance(step, Mapping) else None
            negated = step.get("negated", False) if isinstance(step, Mapping) else False
            if join not in _JOINS or (join == Join.FIRST) != (number == 0) or type(negated) is not bool:
                raise PlanError("plan: every step but the first follows with &&, || or ;")
            steps.append(Step(commands, Join(join), negated))
        return cls(tuple(steps))


_DESCRIPTORS: Final = (0, 1, 2)
_KINDS: Final = frozenset(str(kind) for kind in PartKind)
_MODES: Final = frozenset(str(mode) for mode in Mode)
_JOINS: Final = frozenset(str(join) for join in Join)
#: Words that need no quotes although they hold punctuation.
_PLAIN_WORDS: Final = frozenset(["[", "]", "{}", "!"])
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*\+?=", re.ASCII)
_JOINED: Final = {Join.FIRST: "", Join.AND: " && ", Join.OR: " || ", Join.THEN: "; "}


def _variable(part: Part) -> str:
    if part.kind is PartKind.TILDE:
        return "HOME"
    return part.text


def _check_part(part: Part, before: list[Part]) -> None:
    """Raise PlanError for a part that cannot stand behind these ones."""
    if part.kind is PartKind.GLOB and not GLOB.fullmatch(part.text):
        raise PlanError(f"plan: {part.text!r} is no glob")
    if part.kind is PartKind.VARIABLE and part.text not in VARIABLES:
        raise PlanError(f"plan: {part.text!r} is none of {', '.join(VARIABLES)}")
    if part.kind is PartKind.TILDE and (part.text != "~" or before):
        raise PlanError("plan: a tilde is `~`, at the start of a word")
    if before and before[-1].kind is PartKind.TILDE and not (part.kind is PartKind.TEXT and part.text[0] == "/"):
        raise PlanError("plan: behind a tilde stands a text that starts with a slash")
    if before and before[-1].kind is part.kind is PartKind.TEXT:
        raise PlanError("plan: two texts side by side are one")


def _list(data: object, key: str) -> list[object]:
    if not isinstance(data, Mapping):
        raise PlanError(f"plan: expected an object with {key!r}")
    value = data.get(key)
    if not isinstance(value, list) or not value:
        raise PlanError(f"plan: {key!r} must be a list that is not empty")
    return value
