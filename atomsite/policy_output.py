"""A decision, expectations and a replay, as a person reads them in a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from atomsite.terminal import paint, visible
from governance.policy.expectations import Report
from governance.policy.plan import Join, Plan
from governance.policy.types import Decision, Outcome
from governance.previews import Replay

_COLOURS: Final[Mapping[str, str]] = {"allow": "32", "ask": "33", "deny": "31"}
_JOINS: Final = {
    Join.FIRST: "",
    Join.AND: "then, only if that succeeded:",
    Join.OR: "then, only if that failed:",
    Join.THEN: "then, in any case:",
}


def decision_lines(decision: Decision, *, is_coloured: bool) -> Iterator[str]:
    """Yield a decision, drawn: the plan's steps, the outcome, the rules, each word, and what would allow it."""
    outcome = paint(str(decision.outcome), _COLOURS[decision.outcome], on=is_coloured)
    yield f"{outcome}: {visible(decision.explanation)}"
    yield ""
    yield from plan_lines(decision.plan)
    yield ""
    yield from _table([(str(rule.outcome), rule.id, rule.justification) for rule in decision.rules], ("rule", "", ""))
    yield ""
    words = [(token.text, token.role, str(token.category), token.effect) for token in decision.tokens]
    yield from _table(words, ("word", "role", "category", "effect"))
    if decision.would_allow:
        yield ""
        yield f"What would allow it: {visible(decision.would_allow)}"
    if decision.obligations:
        yield ""
        yield f"Obligations of the host: {', '.join(decision.obligations)}"


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield the steps of a plan, each command with its number, and how it follows the one before."""
    number = 0
    for step in plan.steps:
        if said := _JOINS[step.join]:
            yield f"     {said}"
        for place, command in enumerate(step.pipeline):
            number += 1
            before = "| " if place else "! " if step.is_negated else "  "
            yield f"{number:>3} {before}{visible(command.source())}"


def _table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> Iterator[str]:
    """Yield rows in columns; only the last column is of any length."""
    shown = [tuple(visible(cell) for cell in row) for row in [head, *rows] if any(row)]
    widths = [min(40, max(len(row[column]) for row in shown)) for column in range(len(head) - 1)]
    for row in shown:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join(["", *cells, row[-1]]).rstrip()


def report_lines(report: Report) -> Iterator[str]:
    """Yield what does not hold, with why, and then every figure, never one without the others."""
    for verdict in report.failures:
        row = verdict.row
        yield f"{row.place}: {visible(row.shown)}"
        yield f"    expected {row.expect} at {row.maturity}, found {verdict.found}: {visible(verdict.why)}"
    for verdict in report.escapes:
        if verdict.holds:
            yield f"{verdict.row.place}: {visible(verdict.row.shown)}"
            yield f"    an escape is allowed at {verdict.row.maturity}: {visible(verdict.why)}"
    figures = report.figures()
    expected = sum(bool(verdict.row.expect) for verdict in report.verdicts)
    yield f"Expectations:        {expected - len(report.failures)} of {expected} hold"
    yield f"Reading allowed:     {_share(figures['read_allowed'], figures['read'])}"
    yield f"Escapes allowed:     {figures['escape_allowed']} of {figures['escape']}"
    yield f"One-liners parsed:   {_share(figures['oneliner_parsed'], figures['oneliner'])}"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)" if whole else "no row"


def report_json(report: Report) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "policy_version": report.policy_version,
        "rows": len(report.verdicts),
        "failures": [
            {
                "place": verdict.row.place,
                "command": verdict.row.shown,
                "maturity": str(verdict.row.maturity),
                "expected": verdict.row.expect,
                "found": verdict.found,
                "rules": list(verdict.rules),
                "why": verdict.why,
            }
            for verdict in report.failures
        ],
        "escapes": [
            {"place": verdict.row.place, "command": verdict.row.shown, "maturity": str(verdict.row.maturity)}
            for verdict in report.escapes
        ],
        **report.figures(),
    }


def replay_lines(replay: Replay, *, is_coloured: bool) -> Iterator[str]:
    """Yield each session whose decision would be another, and the counts."""
    for change in replay.changes:
        arrow = f"{_painted(change.before, is_coloured)} -> {_painted(change.after, is_coloured)}"
        yield f"{arrow}  {visible(change.command)}"
        yield f"    {change.agent} ({change.maturity}) on {change.host}, {change.session_id}: {visible(change.why)}"
    yield " ".join(replay.sentences())


def replay_json(replay: Replay) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "total": replay.total,
        "erased": replay.erased,
        "allowed_before": replay.allowed_before,
        "allowed_after": replay.allowed_after,
        "changes": [change.to_json() for change in replay.changes],
    }


def _painted(outcome: Outcome, is_coloured: bool) -> str:
    return paint(str(outcome), _COLOURS[outcome], on=is_coloured)
