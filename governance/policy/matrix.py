"""The shipped matrix and directory rules, and what must hold for any matrix."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from governance.policy.types import Access, Category, DirectoryRule, Maturity, Outcome

Matrix: TypeAlias = Mapping[tuple[Category, Maturity], Outcome]

_A, _Q, _D = Outcome.ALLOW, Outcome.ASK, Outcome.DENY
#: One row a category: STUDENT, INTERN, SUPERVISED, AUTONOMOUS.
_ROWS: Final = {
    Category.READ: (_Q, _Q, _A, _A),
    Category.WRITE: (_Q, _Q, _Q, _A),
    Category.BUILD: (_Q, _Q, _Q, _A),
    Category.NETWORK: (_Q, _Q, _Q, _A),
    Category.DEVOPS: (_D, _Q, _Q, _A),
    Category.DELETE: (_D, _Q, _Q, _A),
    Category.UNKNOWN: (_D, _D, _Q, _Q),
    Category.BLOCKED: (_D, _D, _D, _D),
}
SHIPPED_MATRIX: Final[Matrix] = MappingProxyType(
    {
        (category, maturity): outcome
        for category, row in _ROWS.items()
        for maturity, outcome in zip(Maturity, row, strict=True)
    }
)
SHIPPED_DIRECTORIES: Final = (
    DirectoryRule("/tmp", Access.WRITE, Maturity.STUDENT),  # noqa: S108 - a rule about /tmp, not a file in it
    DirectoryRule("~/Downloads", Access.WRITE, Maturity.STUDENT),
    DirectoryRule("~/Documents", Access.WRITE, Maturity.INTERN),
    DirectoryRule("~/Desktop", Access.WRITE, Maturity.SUPERVISED),
)


def check_monotone(matrix: Matrix) -> list[str]:
    """Return what is wrong with a matrix, one sentence each: a missing row, more maturity with less, blocked open."""
    problems = []
    for category in Category:
        before: tuple[Maturity, Outcome] | None = None
        for maturity in Maturity:
            outcome = matrix.get((category, maturity))
            if outcome is None:
                problems.append(f"{category} has no outcome for {maturity}.")
                continue
            if before is not None and outcome.strictness > before[1].strictness:
                problems.append(f"{category}: {maturity} gets {outcome}, and {before[0]} gets {before[1]}.")
            if category is Category.BLOCKED and outcome is not Outcome.DENY:
                problems.append(f"blocked is always deny, and {maturity} gets {outcome}.")
            before = (maturity, outcome)
    return problems
