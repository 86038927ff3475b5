"""Every pair of states: an arrow moves and writes one event; anything else is refused and changes nothing."""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from django.db import DataError, IntegrityError, connection, transaction

from audit.models import AuditEvent
from audit.trail import SYSTEM
from shellagent.models import ExecutionRecord, ShellSession
from shellagent.services import moving
from shellagent.services.moving import Move, sessions_move, sessions_move_locked
from shellagent.states import ACTIVE, BEGINNINGS, TERMINAL, TRANSITIONS, Status, sources_of
from tests.shellagent.scene import Scene, report, reread, tags

SOON = datetime(2030, 1, 1, tzinfo=UTC)
#: What the database demands of a row in each state besides the status.
DEMANDED: Mapping[Status, Mapping[str, Any]] = {
    Status.CLAIMED: {"lease_expires_at": SOON},
    Status.RUNNING: {"lease_expires_at": SOON, "start_key": "start-1", "started_at": SOON},
}


def session_in(scene: Scene, status: Status) -> ShellSession:
    """Return a session that was put into a state by force, with the one event of its request."""
    session = scene.session()
    ShellSession.objects.filter(pk=session.pk).update(status=status, **DEMANDED.get(status, {}))
    return reread(session)


def columns_of(session_id: UUID) -> dict[str, Any]:
    return dict(ShellSession.objects.values().get(pk=session_id))


@pytest.mark.parametrize("source", Status, ids=str)
def test_every_pair_of_states(scene: Scene, source: Status) -> None:
    for target in Status:
        session = session_in(scene, source)
        if (source, target) in TRANSITIONS:
            arrow_moves(session, source, target)
        else:
            nothing_moves(session, source, target)


def arrow_moves(session: ShellSession, source: Status, target: Status) -> None:
    columns = DEMANDED.get(target, {})
    assert sessions_move([session.pk], target, actor=SYSTEM, sources=[source], **columns) == [session.pk]
    assert reread(session).status == target
    assert tags(session) == ["queued", target.value]
    assert AuditEvent.objects.get(session_id=session.pk, session_seq=2).outcome == target
    # The same arrow again: somebody else won, and the answer says so.
    assert sessions_move([session.pk], target, actor=SYSTEM, sources=[source], **columns) == []
    assert tags(session) == ["queued", target.value]


def seen_in(session: ShellSession, status: Status) -> ShellSession:
    """Return a session as somebody read it who saw it in another state."""
    seen = copy.copy(session)
    seen.status = status
    return seen


def nothing_moves(session: ShellSession, source: Status, target: Status) -> None:
    columns = DEMANDED.get(target, {})
    before = columns_of(session.pk)
    with pytest.raises(ValueError, match="no arrow"):
        sessions_move([session.pk], target, actor=SYSTEM, sources=[source], **columns)
    with pytest.raises(ValueError, match="no arrow"):
        ShellSession.objects.filter(pk=session.pk).move(target, [source], **columns)
    # By the arrows that do lead to the target, from wherever they begin, this session does not move either.
    assert sessions_move([session.pk], target, actor=SYSTEM, **columns) == []
    with pytest.raises(ValueError, match="no arrow"):
        sessions_move_locked([Move(seen_in(session, source), target, {}, columns)], actor=SYSTEM)
    for begin, end in TRANSITIONS:
        if end is target:
            with pytest.raises(RuntimeError, match="changed by somebody else"), transaction.atomic():
                sessions_move_locked([Move(seen_in(session, begin), target, {}, columns)], actor=SYSTEM)
    assert columns_of(session.pk) == before
    assert tags(session) == ["queued"]


def test_terminal_states_have_no_way_out_and_every_other_state_is_reached() -> None:
    assert {source for source, _target in TRANSITIONS} == ACTIVE
    assert not ACTIVE & TERMINAL
    reached = {target for _source, target in TRANSITIONS} | set(BEGINNINGS)
    assert reached == set(Status)
    assert all(status.tag.value == f"session:{status}" for status in Status)
    assert sources_of(Status.QUEUED) == {Status.PENDING, Status.CLAIMED}


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite keeps a text of any length")
@pytest.mark.parametrize("count", [1, 2])
def test_a_text_that_is_too_long_is_an_error_and_is_not_cut(scene: Scene, count: int) -> None:
    sessions = [session_in(scene, Status.RUNNING) for _ in range(count)]
    moves = [Move(session, Status.FAILED, {}, {"termination_reason": "x" * 200}) for session in sessions]
    with pytest.raises(DataError), transaction.atomic():
        sessions_move_locked(moves, actor=SYSTEM)
    assert {reread(session).status for session in sessions} == {Status.RUNNING}


def test_a_set_moves_in_one_update_and_each_session_gets_its_event(scene: Scene) -> None:
    sessions = [scene.session() for _ in range(5)]
    ended = session_in(scene, Status.SUCCEEDED)
    wanted = ShellSession.objects.filter(pk__in=[item.pk for item in [*sessions, ended]])
    with transaction.atomic():
        moved = sessions_move(wanted, Status.CANCELLED, actor=SYSTEM)
    assert set(moved) == {item.pk for item in sessions}
    assert all(tags(item) == ["queued", "cancelled"] for item in sessions)
    assert tags(ended) == ["queued"]


def test_where_the_event_cannot_be_written_the_session_stays(scene: Scene) -> None:
    session = scene.session()
    broken = patch.object(moving, "record", side_effect=RuntimeError("no trail"))
    with broken, pytest.raises(RuntimeError), transaction.atomic():
        sessions_move([session.pk], Status.CANCELLED, actor=SYSTEM)
    assert reread(session).status == Status.QUEUED
    assert tags(session) == ["queued"]


@pytest.mark.parametrize(
    ("name", "assignments"),
    [
        ("an unknown status", "status = 'resting'"),
        ("claimed without a lease", "status = 'claimed', lease_expires_at = NULL"),
        ("running without a lease", "status = 'running', start_key = 'k', started_at = created_at"),
        ("running without a start key", "status = 'running', started_at = created_at, lease_expires_at = created_at"),
        ("running without a start", "status = 'running', start_key = 'k', lease_expires_at = created_at"),
        ("no time at all", "timeout_seconds = 0"),
        ("too much time", "timeout_seconds = 301"),
        ("an agent that does not exist", "agent_id = 987654"),
    ],
)
def test_the_database_refuses(scene: Scene, name: str, assignments: str) -> None:
    session = scene.session()
    with pytest.raises(IntegrityError), transaction.atomic():
        write(f"UPDATE shellagent_shellsession SET {assignments}")  # noqa: S608  (from the table above)
    assert reread(session).status == Status.QUEUED


def write(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.check_constraints()


def test_the_database_keeps_one_record_and_one_number(scene: Scene) -> None:
    session = scene.running()
    scene.record(report(session))
    kept = ExecutionRecord.objects.get(session=session)
    kept.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        kept.save(force_insert=True)
    first = AuditEvent.objects.filter(session_id=session.pk).earliest("session_seq")
    first.pk, first.uid = None, session.pk
    with pytest.raises(IntegrityError), transaction.atomic():
        first.save(force_insert=True)


def test_move_needs_no_luck_with_time(scene: Scene) -> None:
    """An approval gives a session new time between the look and the write of what expires; the write asks again."""
    session = scene.session()
    due = ShellSession.objects.filter(expires_at__lte=session.created_at + timedelta(hours=1))
    ShellSession.objects.filter(pk=session.pk).update(expires_at=session.created_at + timedelta(hours=2))
    with transaction.atomic():
        assert sessions_move(due, Status.EXPIRED, actor=SYSTEM) == []
    assert reread(session).status == Status.QUEUED
