"""The one way a session changes its state: a conditional UPDATE and its event, in the caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from audit.seal_bell import seal_on_commit
from audit.tags import Tag
from audit.trail import About, Event, Party, record
from shellagent import wake
from shellagent.models import SessionQuerySet, ShellSession
from shellagent.states import TERMINAL, Numbered, Status, sources_of

Data = Mapping[str, object]


def session_party(session_id: UUID, label: str = "") -> Party:
    """Return a session as the trail names it."""
    return Party("session", str(session_id), label)


@dataclass(frozen=True, slots=True)
class Move:
    """One session's arrow: where to, what its event says, and what else is written with it.

    The session is as it was read under its lock, and becomes what the move makes of it.
    """

    session: ShellSession
    to: Status
    data: Data
    columns: Mapping[str, Any]

    @property
    def numbered(self) -> Numbered:
        """Return the place that its event takes."""
        session = self.session
        return Numbered(session.pk, session.event_seq + 1, session.agent_id, session.host_id, session.category)


def sessions_move(
    sessions: SessionQuerySet | Sequence[UUID],
    to: Status,
    *,
    actor: Party,
    sources: Collection[Status] | None = None,
    data: Data | None = None,
    **columns: Any,
) -> list[UUID]:
    """Move these sessions alike, write an event for each, and wake who waits for them.

    Returns the ids of those that moved. Believe the answer: a session that is missing was moved by somebody else.
    """
    states = sources_of(to) if sources is None else sources
    if isinstance(sessions, SessionQuerySet):
        moved = sessions.move(to, states, **columns)
    else:
        moved = ShellSession.objects.move_ids(sessions, to, states, **columns)
    tell([_event(numbered, to.tag, actor, str(to), data) for numbered in moved])
    return [numbered.session_id for numbered in moved]


def sessions_move_locked(moves: Sequence[Move], *, actor: Party) -> None:
    """Make the moves of sessions that the caller has read under a lock, and write their events together.

    Raises MissedError where one is not as it was read: then the caller's transaction must not be committed.
    """
    tell(moves_make(moves, actor=actor))


def moves_make(moves: Sequence[Move], *then: Sequence[Move], actor: Party) -> list[Event]:
    """Make these moves, and return the events that `tell` has to write before the transaction ends.

    `then` are the next moves of the same sessions, in the same order: one UPDATE makes them all, each has its event.
    Raises MissedError as `sessions_move_locked` does.
    """
    alike: dict[tuple[tuple[Status, ...], tuple[str, ...]], list[tuple[UUID, int, Data]]] = {}
    for ways in zip(moves, *then, strict=True):
        session = ways[0].session
        columns = {name: value for move in ways for name, value in move.columns.items()}
        way = (Status(session.status), *(move.to for move in ways))
        alike.setdefault((way, tuple(columns)), []).append((session.pk, session.event_seq, columns))
    for (way, _names), rows in alike.items():
        ShellSession.objects.move_locked(rows, way)
    events = []
    for step in (moves, *then):
        for move in step:
            events.append(_event(move.numbered, move.to.tag, actor, str(move.to), move.data))
            move.session.status = move.to
            move.session.event_seq += 1
            for name, value in move.columns.items():
                setattr(move.session, name, value)
    return events


def tell(events: Sequence[Event]) -> None:
    """Write the events of moves together, and wake who waits for those sessions."""
    if events:
        record(*events)
        # What is about to change something is sealed by then, and not a second later.
        if any(event.tag is Tag.SESSION_RUNNING and event.about.category != "read" for event in events):
            seal_on_commit()
        # Who waits for a session waits for its end.
        ended = [event.session_id for event in events if event.outcome in TERMINAL]
        if ended:
            wake.ring_on_commit(*map(wake.session_channel, ended))


def session_note(session_id: UUID, tag: Tag, *, actor: Party, data: Data | None = None, **columns: Any) -> bool:
    """Write an event of a session that changes no state. Returns False where there is no such session."""
    for numbered in ShellSession.objects.filter(pk=session_id).number(**columns):
        record(_event(numbered, tag, actor, "", data))
        return True
    return False


def _event(numbered: Numbered, tag: Tag, actor: Party, outcome: str, data: Data | None) -> Event:
    session_id, seq, agent_id, host_id, category = numbered
    about = About(agent_id, host_id, category)
    return Event(tag, actor, session_party(session_id), outcome, data or {}, session_id, seq, about)


def session_about(session: ShellSession) -> About:
    """Return what the events of a session are about."""
    return About(session.agent_id, session.host_id, session.category)
