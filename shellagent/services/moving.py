"""The one way a session changes its state: a conditional UPDATE and its event, in the caller's transaction."""

from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import UUID

from audit.tags import Tag
from audit.trail import Event, Party, record
from shellagent import wake
from shellagent.models import SessionQuerySet, ShellSession
from shellagent.states import Status, sources_of

Data = Mapping[str, object]


def session_party(session_id: UUID, label: str = "") -> Party:
    """Return a session as the trail names it."""
    return Party("session", str(session_id), label)


def sessions_move(
    sessions: SessionQuerySet,
    to: Status,
    *,
    actor: Party,
    sources: Collection[Status] | None = None,
    data: Data | Callable[[UUID], Data] | None = None,
    **columns: Any,
) -> list[UUID]:
    """Move these sessions, write an event for each, and wake who waits for them.

    Returns the ids of those that moved. Believe the answer: a session that is missing was moved by somebody else.
    """
    moved = sessions.move(to, sources_of(to) if sources is None else sources, **columns)
    if moved:
        record(*(_event(to.tag, actor, session_id, seq, str(to), data) for session_id, seq in moved))
        wake.ring_on_commit(*(wake.session_channel(session_id) for session_id, _seq in moved))
    return [session_id for session_id, _seq in moved]


def session_note(session_id: UUID, tag: Tag, *, actor: Party, data: Data | None = None, **columns: Any) -> bool:
    """Write an event of a session that changes no state. Returns False where there is no such session."""
    for moved_id, seq in ShellSession.objects.filter(pk=session_id).number(**columns):
        record(_event(tag, actor, moved_id, seq, "", data))
        return True
    return False


def _event(
    tag: Tag, actor: Party, session_id: UUID, seq: int, outcome: str, data: Data | Callable[[UUID], Data] | None
) -> Event:
    told = data(session_id) if callable(data) else data
    return Event(tag, actor, session_party(session_id), outcome, told or {}, session_id, seq)
