"""Operators' rules: what a person added to the tables and the matrix, as frozen values. Pure: no ORM, no clock.

A rule names the words that a command starts with. A rule that denies or asks fires where one command of the plan
matches. A rule that allows is a grant: it fires only where grants cover every command that asks, and it lifts nothing
but a row of the matrix. Expired rules never come here, so that a policy has another version once one has expired.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from governance.policy.paths import expand_home, is_within
from governance.policy.plan import Command, Mode
from governance.policy.types import Category, Maturity, Outcome, Question, Rule

#: What a grant may cover. Code that runs, and what is not known or blocked, is a person's to decide every time.
GRANTABLE: Final = frozenset((Category.READ, Category.WRITE, Category.NETWORK, Category.DEVOPS, Category.DELETE))
ANY: Final = "*"
#: What the id of an operator's rule begins with, in decisions.
OPERATOR: Final = "operator:"
_WORD: Final = r"(?:'[^']*'|[^\s'|]+)"
_PLACE: Final = re.compile(rf"{_WORD}(?:\|{_WORD})*")
_WORDS: Final = re.compile(_WORD)


class PatternError(ValueError):
    """The text is not a pattern; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The words that a command starts with: one place a word, each with the texts that may stand there.

    A pattern without a place is every command, written `*`.
    """

    places: tuple[tuple[str, ...], ...]
    #: Nothing may follow.
    is_whole: bool = False

    @classmethod
    def read(cls, text: str, *, is_whole: bool = False) -> "Pattern":
        """Read `git push|fetch origin`: a word with a blank, a quote or a bar stands in single quotes.

        Raises PatternError for an empty pattern and for a quote or a bar without its other side.
        """
        if text.strip() == ANY:
            return cls(())
        places: list[tuple[str, ...]] = []
        for chunk, start in _chunks(text):
            if _PLACE.fullmatch(chunk) is None:
                raise PatternError(f"{chunk!r} at column {start + 1} is not a word, or words with | between them.")
            places.append(tuple(word[1:-1] if word[0] == "'" else word for word in _WORDS.findall(chunk)))
        if not places:
            raise PatternError("Name at least the program.")
        if any(not name or "/" in name for name in places[0]):
            raise PatternError("The first word is a program's name, without a path.")
        return cls(tuple(places), is_whole)

    def source(self) -> str:
        """Return the text that `read` reads."""
        return " ".join("|".join(_written(word) for word in place) for place in self.places) or ANY

    def has_program(self, names: Set[str]) -> bool:
        """Return whether the pattern can be about one of these programs."""
        return not self.places or not names.isdisjoint(self.places[0])

    def matches(self, command: Command, *, by_any_path: bool = False) -> bool:
        """Return whether the command starts like this. A word that the host fills in matches no text.

        `by_any_path` takes the program by its last name, so that `/usr/bin/git` counts as `git`.
        """
        argv = command.argv
        if not self.places:
            return True
        if len(argv) < len(self.places) or (self.is_whole and len(argv) > len(self.places)):
            return False
        program = command.program.rpartition("/")[2] if by_any_path else command.program
        if program not in self.places[0]:
            return False
        return all(word.literal in place for word, place in zip(argv[1:], self.places[1:], strict=False))


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a rule is about; each empty part means all."""

    #: Names of agents and of hosts.
    agents: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    least_maturity: Maturity | None = None
    most_maturity: Maturity | None = None
    #: Folders that the command works in or below, absolute or from `~`.
    directories: tuple[str, ...] = ()

    def has(self, question: Question) -> bool:
        """Return whether the rule is about this agent, at its maturity, on its host."""
        rank = question.maturity.rank
        return (
            (not self.agents or question.agent in self.agents)
            and (not self.hosts or question.host in self.hosts)
            and (self.least_maturity is None or rank >= self.least_maturity.rank)
            and (self.most_maturity is None or rank <= self.most_maturity.rank)
        )

    def places(self, folders: Iterable[str], home: str) -> list[bool]:
        """Return for each folder whether it is within one of the rule's directories."""
        if not self.directories:
            return [True for _ in folders]
        roots = [root for text in self.directories if (root := expand_home(text, home)) is not None]
        return [any(is_within(folder, root) for root in roots) for folder in folders]

    def to_json(self) -> dict[str, object]:
        """Return plain texts and lists."""
        return {
            "agents": list(self.agents),
            "hosts": list(self.hosts),
            "least_maturity": str(self.least_maturity or ""),
            "most_maturity": str(self.most_maturity or ""),
            "directories": list(self.directories),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> "Scope":
        """Read what `to_json` wrote; every key may be missing. Raises ValueError for anything else."""
        if unknown := set(data) - {"agents", "hosts", "least_maturity", "most_maturity", "directories"}:
            raise ValueError(f"a scope has no {', '.join(sorted(map(str, unknown)))}")
        return cls(
            agents=_texts(data.get("agents", [])),
            hosts=_texts(data.get("hosts", [])),
            least_maturity=Maturity(str(least)) if (least := data.get("least_maturity")) else None,
            most_maturity=Maturity(str(most)) if (most := data.get("most_maturity")) else None,
            directories=_texts(data.get("directories", [])),
        )


EVERYBODY: Final = Scope()


@dataclass(frozen=True, slots=True)
class OperatorRule:
    """One rule that a person added."""

    #: The row's number, or any text that is unique among the rules.
    id: str
    name: str
    pattern: Pattern
    outcome: Outcome
    justification: str
    scope: Scope = EVERYBODY
    #: Until when, as a person reads it; only shown. Expired rules are left out before they come here.
    until: str = ""

    @property
    def shown(self) -> Rule:
        """Return the rule as a decision shows it."""
        until = f" (until {self.until})" if self.until else ""
        return Rule(f"{OPERATOR}{self.id}", self.outcome, f"{self.name}: {self.justification}{until}")

    def matches(self, command: "RuledCommand", home: str) -> bool:
        """Return whether the rule is about this command; a grant must fit every folder that it may work in."""
        is_grant = self.outcome is Outcome.ALLOW
        if is_grant and not self.pattern.places:
            return False
        if not self.pattern.matches(command.command, by_any_path=not is_grant):
            return False
        if not self.scope.directories:
            return True
        within = self.scope.places(command.folders, home)
        return (bool(within) and all(within)) if is_grant else (not within or any(within))

    def to_json(self) -> dict[str, object]:
        """Return the rule as plain texts and lists, for a policy's digest and content."""
        return {
            "id": self.id,
            "name": self.name,
            "tokens": self.pattern.source(),
            "whole": self.pattern.is_whole,
            "outcome": str(self.outcome),
            "justification": self.justification,
            "scope": self.scope.to_json(),
            "until": self.until,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> "OperatorRule":
        """Read what `to_json` wrote; only `tokens`, `outcome` and `justification` must be there.

        Raises ValueError for anything else.
        """
        if unknown := set(data) - _RULE_KEYS:
            raise ValueError(f"a rule has no {', '.join(sorted(map(str, unknown)))}")
        scope, justification = data.get("scope", {}), data.get("justification")
        if not isinstance(scope, Mapping) or not isinstance(justification, str) or not justification.strip():
            raise ValueError("a rule has a `justification` in one sentence, and its `scope` is an object")
        is_whole = data.get("whole", False)
        if not isinstance(is_whole, bool):
            raise ValueError("`whole` is true or false")
        pattern = Pattern.read(str(data.get("tokens", "")), is_whole=is_whole)
        name = str(data.get("name") or pattern.source())
        outcome = Outcome(str(data.get("outcome")))
        if outcome is Outcome.ALLOW and not pattern.places:
            raise PatternError("A rule that allows names a program.")
        return cls(
            str(data.get("id") or name),
            name,
            pattern,
            outcome,
            justification,
            Scope.from_json(scope),
            str(data.get("until", "")),
        )


_RULE_KEYS: Final = frozenset(("id", "name", "tokens", "whole", "outcome", "justification", "scope", "until"))


@dataclass(frozen=True, slots=True)
class RuledCommand:
    """One command of the plan as the engine judged it. What a wrapper runs is a command of its own besides."""

    command: Command
    #: Every folder that it may work in, absolute; none where that is not known.
    folders: tuple[str, ...]
    #: Every category that it has, not only the most severe.
    categories: frozenset[Category]
    #: The ids of the engine's rules by which this command asks or is denied, its own rows of the matrix among them.
    objections: frozenset[str] = frozenset()
    #: It is a wrapper, or a wrapper runs it.
    is_wrapped: bool = False

    @property
    def is_grantable(self) -> bool:
        """Return whether a grant may cover it: the matrix alone objects, and its words say all that it does."""
        return (
            self.categories <= GRANTABLE
            and not self.is_wrapped
            and all(objection.startswith("matrix:") for objection in self.objections)
            and all(redirect.mode in (Mode.READ, Mode.COPY) for redirect in self.command.redirects)
        )


@dataclass(frozen=True, slots=True)
class Fired:
    """The rules that fired for a plan, strictest first."""

    rules: tuple[Rule, ...] = ()
    #: Grants cover every command that asks: the asking rows of the matrix are lifted, and nothing else.
    is_granted: bool = False


_NOTHING: Final = Fired()


def fire(rules: Sequence[OperatorRule], question: Question, commands: Iterable[RuledCommand]) -> Fired:
    """Return what the operators' rules say of a plan. Strictest wins: a grant never lifts another rule's ask."""
    commands, home = list(commands), question.facts.home
    # Most rules are about programs that the plan does not have.
    names = {name for one in commands for name in (one.command.program, one.command.program.rpartition("/")[2])}
    about = [rule for rule in rules if rule.pattern.has_program(names) and rule.scope.has(question)]
    if not about:
        return _NOTHING
    strict = [
        rule.shown
        for rule in about
        if rule.outcome is not Outcome.ALLOW and any(rule.matches(command, home) for command in commands)
    ]
    strict.sort(key=lambda rule: -rule.outcome.strictness)
    grants = [] if strict else [rule for rule in about if rule.outcome is Outcome.ALLOW]
    used: dict[str, Rule] = {}
    for command in commands if grants else ():
        if not command.objections:
            continue
        grant = next((rule for rule in grants if rule.matches(command, home)), None)
        if grant is None or not command.is_grantable:
            return Fired(tuple(strict))
        used[grant.id] = grant.shown
    return Fired((*strict, *used.values()), is_granted=bool(used))


def _written(word: str) -> str:
    return word if word and not re.search(r"[\s'|]", word) else f"'{word}'"


def _chunks(text: str) -> list[tuple[str, int]]:
    """Return the pieces between blanks that are not quoted, each with its column from 0."""
    return [(match[0], match.start()) for match in re.finditer(r"(?:'[^']*'|[^\s'])+|'.*", text)]


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise ValueError(f"{value!r} is not a list of texts")
    return tuple(value)
