"""From events to notices, in the event's own transaction; and the bell that has a worker deliver them soon.

A command that nobody is to be told of costs a look into a set: what the sinks want is read every two seconds at most.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from audit.listening import Told
from audit.statements import insert_values
from audit.trail import Event, Receipt
from shellagent.models import ShellSession
from shellagent.notifying.kinds import OVER, Kind, kind_of, outcome_of
from shellagent.notifying.models import Bell, Message, Notice, Sink

#: What the sinks of another process want is known here after so long.
LOOK_EVERY_SECONDS: Final = 2.0
DELIVER: Final = "shellagent.tasks.deliver"

_COLUMNS: Final = (
    "uid",
    "kind",
    "occurred_at",
    "session_id",
    "agent_id",
    "host_id",
    "category",
    "outcome",
    "subject",
    "actor",
    "actor_user_id",
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    database: str
    until: float
    kinds: frozenset[str]
    has_callbacks: bool


_wanted = _Wanted("", 0.0, frozenset(), has_callbacks=False)


def events_heard(told: Told) -> None:
    """Write what is to be told of these events, in the caller's transaction."""
    wanted = _wanted_now()
    if not wanted.kinds and not wanted.has_callbacks:
        return
    kinds = [(kind, *pair) for pair in told if (kind := kind_of(pair[0])) in wanted.kinds and kind]
    finished = [event.session_id for kind, event, _receipt in kinds if kind is Kind.FINISHED and event.session_id]
    awaited = _awaited(finished)
    now = timezone.now()
    rows = [
        _row(kind, event, receipt, now)
        for kind, event, receipt in kinds
        if kind is not Kind.FINISHED or event.session_id in awaited
    ]
    insert_values(Notice, _COLUMNS, rows)
    if rows or (wanted.has_callbacks and any(event.tag in OVER for event, _receipt in told)):
        deliver_soon()


def notice_add(
    kind: Kind,
    about: str,
    *,
    now: datetime,
    session_id: UUID | None = None,
    host_id: int | None = None,
    subject: str = "",
    recipient_id: int | None = None,
    sink: Sink | None = None,
) -> bool:
    """Tell once of what is no event of the trail: the same `about` again changes nothing. Returns whether it is new."""
    made = Notice(
        uid=uuid5(NAMESPACE_URL, f"atom:{kind}:{about}"),
        kind=kind,
        occurred_at=now,
        session_id=session_id,
        host_id=host_id,
        subject=subject[:200],
        recipient_id=recipient_id,
        sink=sink,
    )
    if Notice.objects.filter(uid=made.uid).exists():
        return False
    Notice.objects.bulk_create([made], ignore_conflicts=True)
    return True


def callbacks_hold(sessions: Sequence[ShellSession], now: datetime) -> None:
    """Write, in the transaction that keeps these sessions, that each is to be called back once it has ended."""
    Message.objects.bulk_create(
        Message(session_id=session.pk, agent_id=session.agent_id, state=Message.State.HELD, due_at=now, created_at=now)
        for session in sessions
    )
    transaction.on_commit(look_again)


def deliver_soon() -> None:
    """Have a worker look once the caller's transaction is committed. What goes wrong here is made good by its clock."""
    transaction.on_commit(_ring, robust=True)


def is_wanted(kind: Kind) -> bool:
    """Return whether any sink tells of this kind."""
    return kind in _wanted_now().kinds


def look_again() -> None:
    """Have what the sinks want read with the next event, because it was just changed."""
    global _wanted  # noqa: PLW0603  (a cache of one value)
    _wanted = _Wanted("", 0.0, frozenset(), has_callbacks=False)


def _ring() -> None:
    # Whoever rings first has a task queued; until a worker has begun to look, the others need none.
    if Bell.objects.filter(pk=1, is_rung=False).update(is_rung=True):
        # 14 MiB of a web process, and most never tell anybody.
        from django_q.tasks import async_task  # noqa: PLC0415

        async_task(DELIVER)


def _wanted_now() -> _Wanted:
    global _wanted  # noqa: PLW0603  (a cache of one value)
    database, now = str(connection.settings_dict["NAME"]), time.monotonic()
    if _wanted.database != database or _wanted.until <= now:
        lists = Sink.objects.filter(is_enabled=True).values_list("kinds", flat=True)
        _wanted = _Wanted(
            database,
            now + LOOK_EVERY_SECONDS,
            frozenset(kind for kinds in lists for kind in kinds),
            has_callbacks=Message.objects.filter(state=Message.State.HELD).exists(),
        )
    return _wanted


def _awaited(session_ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these sessions a person asked for or was asked about: somebody waits for their end."""
    if not session_ids:
        return set()
    awaited = Q(approval_required=True) | Q(requester_user__isnull=False)
    return set(ShellSession.objects.filter(awaited, pk__in=session_ids).values_list("pk", flat=True))


def _row(kind: Kind, event: Event, receipt: Receipt, now: datetime) -> tuple[object, ...]:
    is_agents = event.subject.type == "agent" and event.subject.id.isdecimal()
    return (
        UUID(receipt.uid),
        str(kind),
        now,
        event.session_id,
        int(event.subject.id) if is_agents else event.about.agent_id,
        event.about.host_id,
        event.about.category or "",
        outcome_of(event)[:20],
        "" if event.session_id else event.subject.label[:200],
        event.actor.label[:200],
        int(event.actor.id) if event.actor.type == "user" and event.actor.id.isdecimal() else None,
    )
