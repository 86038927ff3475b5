"""How an agent's record becomes a score, and what it lacks for the next maturity. Pure: no ORM, no clock.

    score = quality x 0.9^violations

`quality` is the mean of how the counted sessions ended, the newest first, each weighing 2 % less than the one after it.
`violations` are those of the last 30 days. docs/explanation/maturity.md says why.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from governance.policy.types import Maturity


class Ending(StrEnum):
    """How a decided session ended, as the score has it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"
    #: A person rejected it, cancelled it or had it aborted.
    INTERVENED = "intervened"


#: What each ending is worth. Tests that fail are an agent's daily work; what a person had to stop is not.
WORTH: Final = {
    Ending.SUCCEEDED: 1.0,
    Ending.FAILED: 0.8,
    Ending.TIMED_OUT: 0.5,
    Ending.REFUSED: 0.2,
    Ending.INTERVENED: 0.0,
}
#: How much a session weighs of what the next newer one does.
FADES: Final = 0.98
#: What one violation leaves of a score, and how long it counts.
VIOLATION_LEAVES: Final = 0.9
VIOLATION_DAYS: Final = 30
#: As many of the newest sessions at the present maturity are looked at.
WINDOW: Final = 1000


def trust_score(endings: Sequence[Ending], violations: int) -> float:
    """Return the score of counted sessions, newest first: 0 to 1, and 0 where there is none."""
    return trust_quality(endings) * VIOLATION_LEAVES ** max(0, violations)


def trust_quality(endings: Sequence[Ending]) -> float:
    """Return the weighted mean of how sessions ended, newest first: 0 to 1."""
    if not endings:
        return 0.0
    weight, whole, earned = 1.0, 0.0, 0.0
    for ending in endings:
        whole += weight
        earned += weight * WORTH[ending]
        weight *= FADES
    return min(1.0, earned / whole)


@dataclass(frozen=True, slots=True)
class Criterion:
    """What a record has to be for a maturity to be proposed. Shares are in percent, the score in hundredths."""

    maturity: Maturity
    decided: int
    most_intervention: int
    least_score: int


@dataclass(frozen=True, slots=True)
class Gap:
    """What is lacking: `what` is `decided`, `intervention` or `score`, with the figures as they are shown."""

    what: str
    has: str
    needs: str
    words: str


@dataclass(frozen=True, slots=True)
class Earned:
    """What an agent earned at its present maturity, by `counted` sessions: see `earned_of`."""

    decided: int = 0
    counted: int = 0
    interventions: int = 0
    violations: int = 0
    quality: float = 0.0
    score: float = 0.0

    @property
    def intervention_percent(self) -> float:
        """Return the share of counted sessions that a person rejected, cancelled or aborted."""
        return 100 * self.interventions / self.counted if self.counted else 0.0

    def gaps(self, criterion: Criterion) -> tuple[Gap, ...]:
        """Return what is lacking for a maturity; nothing where it may be proposed."""
        found = []
        if self.decided < criterion.decided:
            missing = criterion.decided - self.decided
            words = f"{missing} more different command{'s' * (missing != 1)} that ran or that a person decided on"
            found.append(Gap("decided", str(self.decided), str(criterion.decided), words))
        if self.intervention_percent > criterion.most_intervention:
            share, most = f"{self.intervention_percent:.1f} %", f"{criterion.most_intervention} %"
            words = f"a person stepped in at {share} of them, and at most {most} are let pass"
            found.append(Gap("intervention", share, most, words))
        # Compared as it is, not as it is shown: 0.949 is not yet 0.95.
        if self.score * 100 < criterion.least_score - 1e-9:
            score, least = f"{int(self.score * 1000) / 1000:.3f}", f"{criterion.least_score / 100:.2f}"
            found.append(Gap("score", score, least, f"a score of {least}; it is {score}"))
        return tuple(found)


def earned_of(sessions: Sequence[tuple[str, Ending]], violations: int) -> Earned:
    """Return what sessions earned, given as (digest, ending), newest first.

    What a person stopped counts each time. Of all else with the same digest the newest counts alone, so that the same
    command a hundred times is one command.
    """
    endings, known = [], set()
    for digest, ending in sessions:
        if ending is Ending.INTERVENED or digest not in known:
            endings.append(ending)
        if ending is not Ending.INTERVENED:
            known.add(digest)
    return Earned(
        decided=len({digest for digest, _ending in sessions}),
        counted=len(endings),
        interventions=endings.count(Ending.INTERVENED),
        violations=violations,
        quality=trust_quality(endings),
        score=trust_score(endings, violations),
    )


def promotion_problems(criteria: Sequence[Criterion]) -> list[str]:
    """Return where a higher maturity would ask for less than a lower one."""
    found = []
    ordered = sorted(criteria, key=lambda one: one.maturity.rank)
    for lower, higher in itertools.pairwise(ordered):
        if higher.decided < lower.decided:
            found.append(f"{higher.maturity} asks for fewer decided sessions than {lower.maturity}.")
        if higher.most_intervention > lower.most_intervention:
            found.append(f"{higher.maturity} lets more interventions pass than {lower.maturity}.")
        if higher.least_score < lower.least_score:
            found.append(f"{higher.maturity} asks for a lower score than {lower.maturity}.")
    found += [f"{one.maturity} asks for more than {WINDOW} sessions." for one in ordered if one.decided > WINDOW]
    return found
