"""The trail: written with what it tells of or not at all, and never changed by anybody."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

from audit import triggers
from audit.canonical import CanonicalError
from audit.models import AppendOnlyError, AuditEvent, AuditPayload
from audit.tags import Tag
from audit.trail import SYSTEM, About, Event, Party, Payload, TrailError, payloads_of, record, store
from tests.database import OwnDatabase

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture
def event(db: None) -> AuditEvent:
    """One event of a session."""
    session_id = uuid4()
    actor = Party("agent", "7", "student")
    with transaction.atomic():
        record(
            Event(
                Tag.SESSION_DENIED,
                actor,
                Party("session", str(session_id), "a label"),
                "denied",
                {"rules": ["one", "two"], "count": 2, "nothing": None, "text": 'é\u2028"'},
                session_id,
                1,
                About(host_id=3, category="read"),
            )
        )
    return AuditEvent.objects.get(session_id=session_id)


def test_body_and_columns_agree(event: AuditEvent) -> None:
    body = json.loads(event.body)
    assert event.hash == hashlib.sha256(event.body.encode()).hexdigest()
    assert body == {
        "v": 1,
        "uid": str(event.uid),
        "time_us": body["time_us"],
        "monotonic_us": body["monotonic_us"],
        "boot_id": body["boot_id"],
        "tag": event.tag,
        "actor": {"type": event.actor_type, "id": event.actor_id, "label": event.actor_label},
        "subject": {"type": event.subject_type, "id": event.subject_id, "label": event.subject_label},
        "outcome": event.outcome,
        "session_id": str(event.session_id),
        "session_seq": event.session_seq,
        "about": {"agent": 7, "host": 3, "category": "read"},
        "origin": None,
        "data": {"rules": ["one", "two"], "count": 2, "nothing": None, "text": 'é\u2028"'},
    }
    assert (event.agent_id, event.host_id, event.category) == (7, 3, "read")
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=body["time_us"]) == event.occurred_at


def test_a_long_label_is_whole_in_the_body(db: None) -> None:
    with transaction.atomic():
        record(Event(Tag.HOST_CHANGED, SYSTEM, Party("agent", "1", "x" * 300)))
    event = AuditEvent.objects.get()
    assert (len(event.subject_label), json.loads(event.body)["subject"]["label"]) == (200, "x" * 300)


def test_outside_a_transaction_nothing_is_recorded(own_database: OwnDatabase) -> None:
    with pytest.raises(TrailError):
        record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM))
    assert not AuditEvent.objects.exists()


def test_an_event_goes_with_its_transaction(own_database: OwnDatabase) -> None:
    def change_and_fail() -> None:
        with transaction.atomic():
            record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM))
            raise LookupError

    with pytest.raises(LookupError):
        change_and_fail()
    assert not AuditEvent.objects.exists()


def test_what_has_no_canonical_form_is_not_recorded(db: None) -> None:
    with pytest.raises(CanonicalError), transaction.atomic():
        record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM, data={"seconds": 1.5}))
    assert not AuditEvent.objects.exists()


def test_a_sessions_number_is_taken_once(event: AuditEvent) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        record(Event(Tag.SESSION_QUEUED, SYSTEM, SYSTEM, session_id=event.session_id, session_seq=1))


def test_the_orm_refuses(event: AuditEvent) -> None:
    for attempt in (
        event.delete,
        AuditEvent.objects.all().delete,
        lambda: AuditEvent.objects.update(tag="x"),
        lambda: AuditEvent.objects.filter(pk=event.pk).update(body=""),
        lambda: AuditEvent.objects.bulk_update([event], ["tag"]),
        event.save,
    ):
        with pytest.raises((AppendOnlyError, DatabaseError), match="trail"), transaction.atomic():
            attempt()


TABLE = AuditEvent._meta.db_table
COLUMNS = ", ".join(str(field.column) for field in AuditEvent._meta.concrete_fields)
ATTEMPTS = {
    "update": f"UPDATE {TABLE} SET tag = 'x'",  # noqa: S608
    "update of nothing that changes": f"UPDATE {TABLE} SET tag = tag",  # noqa: S608
    "update of the key": f"UPDATE {TABLE} SET id = id + 1000",  # noqa: S608
    "delete": f"DELETE FROM {TABLE}",  # noqa: S608
    "upsert": f"INSERT INTO {TABLE} ({COLUMNS}) SELECT {COLUMNS} FROM {TABLE} WHERE true "  # noqa: S608
    "ON CONFLICT (id) DO UPDATE SET tag = 'x'",
}
ON_SQLITE = {
    "replace": f"INSERT OR REPLACE INTO {TABLE} ({COLUMNS}) SELECT {COLUMNS} FROM {TABLE}",  # noqa: S608
    "replace by uid": f"REPLACE INTO {TABLE} ({COLUMNS}) SELECT "  # noqa: S608
    + COLUMNS.replace("id, uid", "id + 1000, uid", 1)
    + f" FROM {TABLE}",
    "replace by number": f"INSERT OR REPLACE INTO {TABLE} ({COLUMNS}) SELECT "  # noqa: S608
    + COLUMNS.replace("id, uid", "id + 1000, 'f' || substr(uid, 2)", 1)
    + f" FROM {TABLE}",
}
ON_POSTGRESQL = {
    "truncate": f"TRUNCATE {TABLE}",
    "truncate and restart": f"TRUNCATE {TABLE} RESTART IDENTITY CASCADE",
    "update as a replica": f"SET LOCAL session_replication_role = replica; UPDATE {TABLE} SET tag = 'x'",  # noqa: S608
}


@pytest.mark.parametrize("name", [*ATTEMPTS, *ON_SQLITE, *ON_POSTGRESQL])
def test_the_database_refuses(event: AuditEvent, name: str) -> None:
    own = ON_SQLITE if connection.vendor == "sqlite" else ON_POSTGRESQL
    statement = {**ATTEMPTS, **own}.get(name)
    if statement is None:
        pytest.skip("of the other database")
    before = list(AuditEvent.objects.values())
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        run(statement)
    assert list(AuditEvent.objects.values()) == before


def run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_the_check_notices_a_trigger_that_is_gone(own_database: OwnDatabase) -> None:
    def found() -> list[Any]:
        return [item for item in run_checks(tags=[Tags.database], databases=["default"]) if item.id == "audit.E001"]

    assert found() == []
    for name, table in triggers.names(connection.vendor).items():
        run(f"DROP TRIGGER {name}" + ("" if connection.vendor == "sqlite" else f" ON {table}"))
        (error,) = found()
        assert name in error.msg
        assert error.hint
    with pytest.raises(Exception, match=r"audit\.E001"):
        call_command("check", databases=["default"])


def test_a_disabled_trigger_is_a_missing_one(own_database: OwnDatabase) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite's triggers cannot be disabled")
    run(f"ALTER TABLE {TABLE} DISABLE TRIGGER audit_event_no_change")
    assert triggers.missing(connection) == ["audit_event_no_change"]


def test_payloads_are_read_in_order_and_committed_to(db: None) -> None:
    session_id = uuid4()
    parts = [Payload(session_id, AuditPayload.Kind.STDOUT, data, offset) for offset, data in ((3, b"def"), (0, b"abc"))]
    with transaction.atomic():
        store(parts, NOW)
    found = payloads_of([session_id])
    assert [(item.offset, item.data) for item in found] == [(0, b"abc"), (3, b"def")]
    assert payloads_of([session_id], AuditPayload.Kind.STDERR) == []
    assert payloads_of([]) == []
    row = AuditPayload.objects.get(offset=3)
    assert parts[0].commitment == hashlib.sha256(bytes(row.salt) + bytes(row.data)).hexdigest()
    # What is at its place stays, and the first place that is taken breaks the rest without `ignore_known`.
    again = Payload(session_id, AuditPayload.Kind.STDOUT, b"xyz", 0)
    with pytest.raises(IntegrityError), transaction.atomic():
        store([again], NOW)
    with transaction.atomic():
        store([again], NOW, ignore_known=True)
    assert payloads_of([session_id])[0].data == b"abc"


def test_times_and_ids_are_read_as_the_orm_reads_them(db: None) -> None:
    """The rows that compiled statements write look like those that the ORM would write."""
    with transaction.atomic():
        store([Payload(uuid4(), AuditPayload.Kind.REQUEST, b"\x00\xff")], NOW)
    row = AuditPayload.objects.get()
    assert (row.created_at, bytes(row.data), row.offset) == (NOW, b"\x00\xff", 0)
    assert AuditPayload.objects.filter(created_at=NOW, session_id=row.session_id).exists()
