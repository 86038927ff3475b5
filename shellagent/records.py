"""What an agent did and what it earned by it, from its sessions. Cheap however many there are.

The counts of all time are kept by day; the worker counts on from where it was, and what is newer is counted on the way.
What the present maturity was earned with are the newest sessions since the agent has it, as many as `WINDOW`. Only what
the agent asked for itself counts: what a person asked for in its name says nothing of it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet, Sum
from django.utils import timezone

from governance.models import Agent, AgentDay, AgentDaysCounted, PromotionProposal, PromotionRow, Violation
from governance.policy.types import Maturity
from governance.trust import VIOLATION_DAYS, WINDOW, Criterion, Earned, Ending, Gap, earned_of
from shellagent.models import ShellSession
from shellagent.protocol import Reason
from shellagent.queries import rows_in
from shellagent.states import ACTIVE, Status

#: A session's id is made this long before its transaction ends, at most.
_SETTLES_AFTER: Final = timedelta(minutes=2)
_BATCH: Final = 5000
#: What is newer than the days' counts is counted on the way, up to as many sessions.
_OPEN_MOST: Final = 5000
_COLUMNS: Final = ("status", "approval_required", "warrant", "intervention", "requester_user_id")
_ENDINGS: Final = {
    Status.SUCCEEDED: Ending.SUCCEEDED,
    Status.FAILED: Ending.FAILED,
    Status.TIMED_OUT: Ending.TIMED_OUT,
    Status.REFUSED: Ending.REFUSED,
    Status.REJECTED: Ending.INTERVENED,
}

#: Why a host refuses what its agent could have known. The others are the product's own mishaps.
_ITS_OWN_FAULT: Final = frozenset((Reason.HOST_CEILING.value, Reason.SCRIPT_CHANGED.value))


@dataclass(frozen=True, slots=True)
class Counts:
    """How many sessions became what. `allowed`, `approved`, `denied`, `rejected` and what nobody decided is `asked`."""

    asked: int = 0
    allowed: int = 0
    approved: int = 0
    denied: int = 0
    rejected: int = 0
    stopped: int = 0
    succeeded: int = 0
    failed: int = 0
    refused: int = 0


COUNTED: Final = tuple(item.name for item in fields(Counts))


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent's record: all that it ever asked for, and what it earned at its present maturity.

    `next` is None for AUTONOMOUS and where no rule says what is needed. `mix` has the categories of the counted
    sessions, the most frequent first.
    """

    agent_id: int
    maturity: Maturity
    since: datetime
    counts: Counts
    violations: int
    earned: Earned
    mix: tuple[tuple[str, int], ...]
    next: Criterion | None
    gaps: tuple[Gap, ...]

    @property
    def is_ready(self) -> bool:
        """Return whether the next maturity may be proposed."""
        return self.next is not None and not self.gaps

    @property
    def score(self) -> float:
        """Return the score, from 0 to 1."""
        return self.earned.score


def agent_record(agent: Agent) -> AgentRecord:
    """Return an agent's record as it is now. Reads a bounded number of rows."""
    now = timezone.now()
    maturity, since = Maturity(agent.maturity), _since(agent)
    violations = Violation.objects.filter(agent=agent)
    newest = violations.filter(happened_at__gt=now - timedelta(days=VIOLATION_DAYS))
    sessions = _window(agent, since)
    earned = earned_of(
        [(digest, ending) for digest, _category, ending in sessions],
        # 0.9 to the power of some hundred is nothing, and an agent could make any number of them.
        len(newest.values_list("pk")[:WINDOW]),
    )
    rows = PromotionRow.objects.all()
    criterion = next((row.criterion for row in rows if Maturity(row.maturity).rank == maturity.rank + 1), None)
    return AgentRecord(
        agent_id=agent.pk,
        maturity=maturity,
        since=since,
        counts=_counts_of(agent),
        violations=violations.count(),
        earned=earned,
        mix=tuple(Counter(category for _digest, category, _ending in sessions).most_common()),
        next=criterion,
        gaps=earned.gaps(criterion) if criterion else (),
    )


def agent_days(agent: Agent, first: date) -> dict[date, Counter[str]]:
    """Return an agent's counts by day since `first`, with `violations` among them."""
    found: dict[date, Counter[str]] = {}
    for row in AgentDay.objects.filter(agent=agent, day__gte=first):
        found[row.day] = Counter({name: getattr(row, name) for name in COUNTED})
    for day, counts in _by_day(_open_rows(agent)).items():
        if day[1] >= first:
            found.setdefault(day[1], Counter()).update(counts)
    begin = datetime(first.year, first.month, first.day, tzinfo=timezone.get_default_timezone())
    moments = Violation.objects.filter(agent=agent, happened_at__gte=begin).values_list("happened_at", flat=True)
    for moment in moments[:_OPEN_MOST]:
        found.setdefault(timezone.localdate(moment), Counter())["violations"] += 1
    return found


def agent_days_count(now: datetime, *, most: int = 40) -> int:
    """Count sessions that have ended into the days, up to the oldest that has not. Returns how many were counted.

    At most `most` batches, each in a transaction of its own with the place where the next one begins.
    """
    counted = 0
    for _batch in range(most):
        with transaction.atomic():
            number, is_more = _count_batch(now)
        counted += number
        if not is_more:
            break
    return counted


def _count_batch(now: datetime) -> tuple[int, bool]:
    if not AgentDaysCounted.objects.filter(pk=1).exists():
        first = ShellSession.objects.order_by("id").values_list("created_at", flat=True).first()
        begin = {"counted_to": (first or now) - _SETTLES_AFTER}
        AgentDaysCounted.objects.get_or_create(pk=1, defaults=begin)
    # Two that count at once: the second waits here, and goes on from where the first one ended.
    place = AgentDaysCounted.objects.select_for_update().get(pk=1)
    # Of what has not ended counts may still change, and of all that began after the oldest of it.
    until = min([now, *(began for (began,) in rows_in(ACTIVE, "created_at"))]) - _SETTLES_AFTER
    if until <= place.counted_to:
        return 0, False
    due = ShellSession.objects.filter(id__gte=_id_at(place.counted_to), id__lt=_id_at(until)).order_by("id")
    rows = list(due.values_list("id", "agent_id", *_COLUMNS)[: _BATCH + 1])
    is_more = len(rows) > _BATCH
    if is_more:
        # Up to the millisecond in which the next batch begins, so that none of it is counted twice.
        until = _moment_of(rows[-1][0])
        rows = [row for row in rows if row[0] < _id_at(until)]
        if not rows:
            raise RuntimeError(f"more than {_BATCH} sessions began in one millisecond")
    for (agent_id, day), counts in _by_day(rows).items():
        AgentDay.objects.get_or_create(agent_id=agent_id, day=day)
        more: Any = {name: F(name) + number for name, number in counts.items()}
        AgentDay.objects.filter(agent_id=agent_id, day=day).update(**more)
    place.counted_to = until
    place.save(update_fields=["counted_to"])
    return len(rows), is_more


def _since(agent: Agent) -> datetime:
    """Return since when the agent earns: it has its maturity, or a person declined to raise it."""
    declined = agent.proposals.filter(status=PromotionProposal.Status.DECLINED).order_by("-decided_at")
    said = declined.values_list("decided_at", flat=True).first()
    return max(filter(None, (agent.maturity_since, agent.created_at, said)))


def _counts_of(agent: Agent) -> Counts:
    days = AgentDay.objects.filter(agent=agent).aggregate(**{name: Sum(name) for name in COUNTED})
    total = Counter({name: number or 0 for name, number in days.items()})
    for counts in _by_day(_open_rows(agent)).values():
        total.update(counts)
    return Counts(**total)


def _open_rows(agent: Agent) -> Sequence[tuple[Any, ...]]:
    """Return the agent's sessions that no day has counted yet, the newest of them."""
    place = AgentDaysCounted.objects.filter(pk=1).values_list("counted_to", flat=True).first()
    sessions = ShellSession.objects.filter(agent=agent)
    if place is not None:
        sessions = sessions.filter(id__gte=_id_at(place))
    return list(sessions.order_by("-id").values_list("id", "agent_id", *_COLUMNS)[:_OPEN_MOST])


def _by_day(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[int, date], Counter[str]]:
    """Count rows of (id, agent, `_COLUMNS`) by agent and day."""
    found: dict[tuple[int, date], Counter[str]] = {}
    for session_id, agent_id, *columns in rows:
        names = _became(*columns)
        if names:
            found.setdefault((agent_id, timezone.localdate(_moment_of(session_id))), Counter()).update(names)
    return found


def _became(status: str, approval_required: bool, warrant: str, intervention: str, person: int | None) -> list[str]:
    """Return what a session counts as; nothing where a person asked for it."""
    if person is not None:
        return []
    names = ["asked"]
    if status == Status.DENIED:
        names.append("denied")
    elif status == Status.REJECTED:
        names.append("rejected")
    elif not approval_required:
        names.append("allowed")
    elif warrant:
        names.append("approved")
    if intervention in ("cancelled", "aborted"):
        names.append("stopped")
    elif status == Status.SUCCEEDED:
        names.append("succeeded")
    elif status in (Status.FAILED, Status.TIMED_OUT):
        names.append("failed")
    elif status == Status.REFUSED:
        names.append("refused")
    return names


def sessions_since(agent_id: int, since: datetime) -> QuerySet[ShellSession]:
    """Return an agent's sessions that began since then, the newest first, at most `WINDOW`."""
    return ShellSession.objects.filter(agent_id=agent_id, id__gte=_id_at(since)).order_by("-id")[:WINDOW]


def _window(agent: Agent, since: datetime) -> list[tuple[str, str, Ending]]:
    """Return (digest, category, ending) of the agent's decided sessions since then, newest first."""
    columns = ("digest", "category", "status", "intervention", "requester_user_id", "termination_reason")
    rows: Iterable[tuple[Any, ...]] = sessions_since(agent.pk, since).values_list(*columns)
    found: list[tuple[str, str, Ending]] = []
    for digest, category, status, intervention, person, reason in rows:
        is_stopped = bool(intervention) and status not in ACTIVE
        ending = Ending.INTERVENED if is_stopped else _ENDINGS.get(Status(status))
        if ending is Ending.REFUSED and reason not in _ITS_OWN_FAULT:
            continue
        if ending is not None and person is None:
            found.append((digest, category, ending))
    return found


def _id_at(moment: datetime) -> UUID:
    """Return the least id of a session that began at that time: ids are UUIDv7, which begin with milliseconds."""
    return UUID(int=(max(0, int(moment.timestamp() * 1000)) << 80) | (7 << 76) | (0b10 << 62))


def _moment_of(session_id: UUID) -> datetime:
    return datetime.fromtimestamp((session_id.int >> 80) / 1000, tz=timezone.get_default_timezone())
