# ruff: noqa: S608  (names of tables and numbers are put into this SQL)
"""What a database administrator could do to the trail: each an attack on a small log, and what tells of it.

Import it after Django's set-up. The log is `small_log`'s; the guards are put aside as somebody who owns the tables can.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from django.db import connection, transaction
from django.utils import timezone

from audit import sealing, triggers
from audit.models import AuditCheckpoint, AuditEvent, AuditPayload
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Payload, record, store
from audit.tree import leaf_hash

EVENTS, LEAVES, CHECKPOINTS = "audit_auditevent", "audit_auditleaf", "audit_auditcheckpoint"
PAYLOADS, PENDING = "audit_auditpayload", "audit_auditpending"
SESSION = UUID("019a3c1e-7a5b-7c3d-8e9f-0123456789ab")
#: Of each table its key and the columns that a flipped byte has to show in.
COLUMNS = {
    EVENTS: ("id", ("uid", "tag", "actor_type", "actor_label", "outcome", "body", "hash", "signature")),
    LEAVES: ("event_id", ("hash",)),
    CHECKPOINTS: ("number", ("note", "digest", "previous")),
    PAYLOADS: ("id", ("salt", "data", "kind")),
}


def write(count: int, session: UUID | None = None, first: int = 1) -> None:
    """Write events; those of a session have output that they commit to."""
    with transaction.atomic():
        for number in range(count):
            payload = Payload(session or uuid4(), AuditPayload.Kind.STDOUT, b"output %d" % number, first + number)
            if session:
                store([payload], timezone.now())
            segment = {"commitment": payload.commitment, "offset": payload.offset, "stream": "stdout"}
            data = {"number": number, "segments": [segment] if session else []}
            seq = first + number if session else None
            record(Event(Tag.SESSION_OUTPUT, SYSTEM, SYSTEM, data=data, session_id=session, session_seq=seq))


def small_log() -> list[str]:
    """Write three checkpoints of four events each, and two events that wait. Returns the notes as they are published.

    Two events of the first four are a session's. In a database without events they are numbered from 1.
    """
    if connection.vendor == "postgresql" and not AuditEvent.objects.exists():
        with connection.cursor() as cursor:
            cursor.execute("ALTER SEQUENCE audit_auditevent_id_seq RESTART")
    for number in range(3):
        write(2, SESSION if number == 0 else None)
        write(2)
        sealing.seal(timezone.now())
    published = list(AuditCheckpoint.objects.order_by("number").values_list("note", flat=True))
    write(2)
    return published


@contextmanager
def unguarded() -> Iterator[None]:
    """Put the guards aside, as somebody who may do anything, and put them back."""
    names, is_sqlite = triggers.names(connection.vendor), connection.vendor == "sqlite"
    with connection.cursor() as cursor:
        for name, table in names.items():
            cursor.execute(f"DROP TRIGGER {name}" if is_sqlite else f"ALTER TABLE {table} DISABLE TRIGGER {name}")
        yield
        if is_sqlite:
            for statement in (*triggers.statements("sqlite"), *triggers.sealing_statements("sqlite")):
                cursor.execute(statement)
        else:
            for name, table in names.items():
                cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")


def emptied() -> None:
    """Take everything out of the trail, so that the next log is numbered from 1 again."""
    tables = [EVENTS, LEAVES, CHECKPOINTS, PAYLOADS, PENDING, "audit_auditanchor", "audit_auditverdict"]
    counters = ["DELETE FROM sqlite_sequence"] if connection.vendor == "sqlite" else []
    do([*(f"DELETE FROM {table}" for table in tables), *counters])


def do(statements: list[str]) -> None:
    """Run SQL without the guards."""
    with unguarded(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@dataclass(frozen=True, slots=True)
class Attack:
    """What somebody did, part of a finding that tells of it, and whether only an anchor shows it."""

    statements: Callable[[], list[str]]
    told: str
    needs_anchor: bool = False


def _simple(*statements: str, told: str, needs_anchor: bool = False) -> Attack:
    return Attack(lambda: list(statements), told, needs_anchor)


def _swapped(first: int, second: int) -> list[str]:
    return [
        f'UPDATE {LEAVES} SET event_id = -{first} WHERE "index" = {first}',
        f'UPDATE {LEAVES} SET event_id = {first + 1} WHERE "index" = {second}',
        f'UPDATE {LEAVES} SET event_id = {second + 1} WHERE "index" = {first}',
    ]


def _rehashed() -> list[str]:
    """Return an edit that also mends the event's hash and the leaf's."""
    event = AuditEvent.objects.get(pk=6)
    body = event.body.replace('"number":1', '"number":7')
    digest = hashlib.sha256(body.encode())
    return [
        f"UPDATE {EVENTS} SET body = '{body}', hash = '{digest.hexdigest()}' WHERE id = 6",
        f"UPDATE {LEAVES} SET hash = {_bytes(leaf_hash(digest.digest()))} WHERE event_id = 6",
    ]


def _bytes(value: bytes) -> str:
    return f"x'{value.hex()}'" if connection.vendor == "sqlite" else f"decode('{value.hex()}', 'hex')"


def _unreadable() -> list[str]:
    # PostgreSQL keeps no text that is not UTF-8; there it is one that no server wrote.
    text = "CAST(x'7bff' AS TEXT)" if connection.vendor == "sqlite" else "'{'"
    return [f"UPDATE {EVENTS} SET body = {text} WHERE id IN (6, 13)"]


_COPY = (
    "session_id, session_seq, occurred_at, tag, actor_type, actor_id, actor_label, subject_type, subject_id, "
    "subject_label, outcome, agent_id, host_id, category"
)
_BACK = "published checkpoints are not in the database"
ATTACKS: dict[str, Attack] = {
    "edit a body": _simple(
        f"UPDATE {EVENTS} SET body = replace(body, 'number', 'numbed') WHERE id = 6", told="hash is not"
    ),
    "edit a session's id in a body": _simple(
        f"UPDATE {EVENTS} SET body = replace(body, '{SESSION}', 'no{str(SESSION)[2:]}') WHERE id = 1",
        told="hash is not",
    ),
    "edit a column": _simple(f"UPDATE {EVENTS} SET tag = 'host:changed' WHERE id = 6", told="columns are not"),
    "edit a time": _simple(f"UPDATE {EVENTS} SET occurred_at = '2020-01-01' WHERE id = 6", told="columns are not"),
    "edit a signature": _simple(
        f"UPDATE {EVENTS} SET signature = 'B' || substr(signature, 2) WHERE id = 6", told="signatures are not those"
    ),
    "edit and rehash": Attack(_rehashed, "was signed over"),
    "write what is no text": Attack(_unreadable, "cannot be read"),
    "delete an event": _simple(f"DELETE FROM {EVENTS} WHERE id = 6", told="event is missing"),
    "delete an event and its leaf": _simple(
        f"DELETE FROM {EVENTS} WHERE id = 6", f"DELETE FROM {LEAVES} WHERE event_id = 6", told="leaves are missing"
    ),
    "delete and close the gap": _simple(
        f"DELETE FROM {LEAVES} WHERE event_id = 12",
        f"DELETE FROM {EVENTS} WHERE id = 12",
        f"UPDATE {CHECKPOINTS} SET size = 11 WHERE number = 3",
        told="columns are not what its note says",
    ),
    "swap two events": Attack(lambda: _swapped(5, 6), "a leaf is not the hash"),
    "take back a leaf": _simple(f"DELETE FROM {LEAVES} WHERE event_id = 6", told="neither sealed nor waiting"),
    "forge a waiting event": _simple(
        f"INSERT INTO {EVENTS} (uid, body, hash, signature, {_COPY}) SELECT "
        f"'019a3c1e7a5b7c3d8e9f0123456789ff', body, hash, NULL, {_COPY} FROM {EVENTS} WHERE id = 6",
        f"INSERT INTO {PENDING} (event_id) SELECT max(id) FROM {EVENTS}",
        told="not what was written",
    ),
    "edit a waiting event": _simple(
        f"UPDATE {EVENTS} SET body = replace(body, 'number', 'numbed') WHERE id = 13", told="not what was written"
    ),
    "drop a waiting event's place": _simple(f"DELETE FROM {PENDING} WHERE event_id = 13", told="nor waiting"),
    "let a sealed event wait again": _simple(
        f"INSERT INTO {PENDING} (event_id) VALUES (6)", told="waits, though it is sealed"
    ),
    "delete the last checkpoint": _simple(f"DELETE FROM {CHECKPOINTS} WHERE number = 3", told="behind the newest"),
    "delete a checkpoint between": _simple(
        f"DELETE FROM {CHECKPOINTS} WHERE number = 2", told="checkpoints are missing"
    ),
    "edit a note": _simple(
        f"UPDATE {CHECKPOINTS} SET note = replace(note, 'number 2', 'number 4') WHERE number = 2",
        told="signature is wrong",
    ),
    "note as published what is not there": _simple(
        "INSERT INTO audit_auditanchor (checkpoint_id, sink, anchored_at) VALUES (4000, 'file:/x', '2026-01-01')",
        told="are not there",
    ),
    "roll back to an earlier time": _simple(
        f"DELETE FROM {CHECKPOINTS} WHERE number = 3",
        f"DELETE FROM {LEAVES} WHERE event_id > 8",
        f"DELETE FROM {EVENTS} WHERE id > 8",
        f"DELETE FROM {PENDING}",
        told=_BACK,
        needs_anchor=True,
    ),
    "empty everything": _simple(
        *(f"DELETE FROM {table}" for table in (CHECKPOINTS, LEAVES, EVENTS, PENDING, PAYLOADS)),
        told=_BACK,
        needs_anchor=True,
    ),
    "edit output": _simple(f"UPDATE {PAYLOADS} SET salt = data", told="a payload is not"),
    "move output": _simple(
        f'UPDATE {PAYLOADS} SET "offset" = 9 WHERE "offset" = 1',
        f'UPDATE {PAYLOADS} SET "offset" = 1 WHERE "offset" = 2',
        told="a payload is not",
    ),
    "delete output": _simple(f"DELETE FROM {PAYLOADS}", told="a payload is not"),
    "erase output quietly": Attack(
        lambda: [
            f"UPDATE {PAYLOADS} SET erased_at = '2026-01-01', commitment = '{made}', size = 1, "
            f"data = {_bytes(b'')}, salt = {_bytes(b'')} WHERE id = {number}"
            for number, made in (
                (row.pk, hashlib.sha256(bytes(row.salt) + bytes(row.data)).hexdigest())
                for row in AuditPayload.objects.all()
            )
        ],
        "no event says so",
    ),
}


class Flips:
    """Random flipped bytes, one at a time, in what is sealed; each is put back. The guards have to be aside."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - a test's choice
        places = [(table, key, column) for table, (key, columns) in COLUMNS.items() for column in columns]
        known = {place: self._values(*place) for place in places}
        self._known = {place: values for place, values in known.items() if values}

    def _values(self, table: str, key: str, column: str) -> list[tuple[int, str | bytes]]:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {key}, {column} FROM {table} ORDER BY {key} LIMIT 12")
            rows = [(number, _plain(value)) for number, value in cursor.fetchall()]
        return [(number, value) for number, value in rows if value]

    @contextmanager
    def flip(self) -> Iterator[str]:
        """Flip a bit for the length of the block, in a transaction that is rolled back. Yields where it is."""
        place = table, key, column = self._chance.choice(list(self._known))
        number, value = self._chance.choice(self._known[place])
        changed, at = self._changed(value, is_uuid=column == "uid")
        statement = f"UPDATE {table} SET {column} = %s WHERE {key} = {number}"
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, [changed])
            yield f"{table}.{column} of {number} at {at}"
            transaction.set_rollback(True)

    def _changed(self, value: str | bytes, *, is_uuid: bool) -> tuple[str | bytes, int]:
        if isinstance(value, bytes):
            at = self._chance.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1 << self._chance.randrange(8)]) + value[at + 1 :], at
        while True:
            at = self._chance.randrange(len(value))
            sign = chr(ord(value[at]) ^ 1 << self._chance.randrange(7))
            # A database refuses a zero byte in a text, and PostgreSQL what is no UUID: then it is another bit.
            if sign != "\0" and (not is_uuid or (sign in "0123456789abcdef" and value[at] != "-")):
                return value[:at] + sign + value[at + 1 :], at


def _plain(value: object) -> str | bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value or "")
