"""Expectations of a policy: rows of commands with what should be decided, judged without a host. Pure but for files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from governance.policy.decide import Policy, decide
from governance.policy.parse import CommandSyntaxError, parse_argv, parse_text
from governance.policy.types import Facts, Maturity, Outcome, Question

#: A host with a sandbox, as expectations are judged on.
FACTS: Final = Facts(
    home="/home/agent",
    user="agent",
    scratch="/home/agent/.cache/atom/scratch",
    is_sandboxed=True,
    protected=("/opt/atom",),
)
#: The agent's own folder, where a row names none.
FOLDER: Final = "/srv/work"
#: HTTP 400: the command does not parse, or its program is on no table and the matrix denies it.
REFUSED: Final = "400"
EXPECTED: Final = (*(str(outcome) for outcome in Outcome), REFUSED)
_KEYS: Final = frozenset(
    ("command", "argv", "maturity", "working_directory", "roots", "agent", "host", "expect", "label", "note")
)


class ExpectationError(ValueError):
    """A row is not an expectation; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One row. `expect` is one of EXPECTED, or empty where only the label's figure counts."""

    place: str
    command: str | tuple[str, ...]
    maturity: Maturity
    working_directory: str
    roots: tuple[str, ...]
    agent: str = ""
    host: str = ""
    expect: str = ""
    #: Any group of rows; those labelled read (genuine reading), escape and oneliner (lines people write) have figures.
    label: str = ""
    note: str = ""

    @property
    def shown(self) -> str:
        """Return the command as it was written."""
        return self.command if isinstance(self.command, str) else json.dumps(self.command, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided on one row."""

    row: Expectation
    #: One of EXPECTED.
    found: str
    is_parsed: bool
    #: The rules that decided and the explanation, or what does not parse.
    rules: tuple[str, ...]
    why: str

    @property
    def holds(self) -> bool:
        """Return whether it is as expected. A denied program that is on no table is a 400 and a deny."""
        if self.row.expect == REFUSED:
            return not self.is_parsed or (self.found == Outcome.DENY and "not-allowlisted" in self.rules)
        return self.row.expect in ("", self.found)


@dataclass(frozen=True, slots=True)
class Report:
    """The verdicts over all rows, and the figures that are never shown one without the other."""

    policy_version: str
    verdicts: tuple[Verdict, ...]

    @property
    def failures(self) -> list[Verdict]:
        """Return the rows that are not as expected."""
        return [verdict for verdict in self.verdicts if not verdict.holds]

    @property
    def escapes(self) -> list[Verdict]:
        """Return the escapes that are allowed without a person."""
        return [verdict for verdict in self._labelled("escape") if verdict.found == Outcome.ALLOW]

    def _labelled(self, label: str) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.row.label == label]

    def figures(self) -> dict[str, int]:
        """Return the counts: `read` and `read_allowed`, `escape` and `escape_allowed`, `oneliner` and `…_parsed`."""
        read, oneliners = self._labelled("read"), self._labelled("oneliner")
        return {
            "read": len(read),
            "read_allowed": sum(verdict.found == Outcome.ALLOW for verdict in read),
            "escape": len(self._labelled("escape")),
            "escape_allowed": len(self.escapes),
            "oneliner": len(oneliners),
            "oneliner_parsed": sum(verdict.is_parsed for verdict in oneliners),
        }


def read_expectations(name: str, lines: Iterable[str]) -> list[Expectation]:
    """Return the rows of a JSONL file; empty lines and lines that start with # are left out.

    A row with a list of maturities stands for one row each. Raises ExpectationError for anything else.
    """
    rows: list[Expectation] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        place = f"{name}:{number}"
        try:
            rows += _rows(place, json.loads(line))
        except ValueError as error:
            raise ExpectationError(f"{place}: {error}") from error
    return rows


def judge(rows: Iterable[Expectation], policy: Policy, facts: Facts = FACTS) -> Report:
    """Return what the policy decides on each row."""
    return Report(policy.version, tuple(_verdict(row, policy, facts) for row in rows))


def _verdict(row: Expectation, policy: Policy, facts: Facts) -> Verdict:
    try:
        plan = parse_text(row.command) if isinstance(row.command, str) else parse_argv(row.command)
    except CommandSyntaxError as error:
        return Verdict(row, REFUSED, False, (), f"{error.message}. {error.hint}")  # noqa: FBT003 - a field of a value
    question = Question(
        plan,
        row.maturity,
        facts,
        row.working_directory,
        agent_roots=row.roots,
        agent=row.agent,
        host=row.host,
    )
    decision = decide(question, policy)
    rules = tuple(rule.id for rule in decision.rules)
    return Verdict(row, str(decision.outcome), True, rules, decision.explanation)  # noqa: FBT003


def _rows(place: str, data: object) -> list[Expectation]:
    if not isinstance(data, Mapping):
        raise ExpectationError("a row is an object")
    if unknown := sorted(set(data) - _KEYS):
        raise ExpectationError(f"a row has no {', '.join(unknown)}")
    command, argv = data.get("command"), data.get("argv")
    if (command is None) == (argv is None):
        raise ExpectationError("a row has either `command` or `argv`")
    expect, label = data.get("expect", ""), data.get("label", "")
    if expect not in ("", *EXPECTED):
        raise ExpectationError(f"`expect` is one of {', '.join(EXPECTED)}")
    if not isinstance(label, str):
        raise ExpectationError("`label` is a text")
    if not (expect or label):
        raise ExpectationError("a row has `expect`, `label` or both")
    folder = _text(data, "working_directory") or FOLDER
    levels = data.get("maturity", str(Maturity.SUPERVISED))
    return [
        Expectation(
            place,
            tuple(_texts(argv, "argv")) if argv is not None else _text(data, "command"),
            Maturity(level),
            folder,
            tuple(_texts(data.get("roots", [folder]), "roots")),
            agent=_text(data, "agent"),
            host=_text(data, "host"),
            expect=str(expect),
            label=label,
            note=_text(data, "note"),
        )
        for level in (levels if isinstance(levels, list) else [levels])
    ]


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise ExpectationError(f"`{key}` is a text")
    return value


def _texts(value: object, key: str) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ExpectationError(f"`{key}` is a list of texts")
    return value
