# ruff: noqa: S608  (names of tables and numbers are put into this SQL)
"""What a database administrator could do to the trail, each on a database of its own, and what the verifier says."""

import hashlib
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from audit import notes, sealing, trail_keys, triggers, verifying
from audit.erasing import payloads_erase
from audit.models import AuditCheckpoint, AuditEvent, AuditPayload
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Payload, record, store
from audit.tree import leaf_hash
from audit.verifying_report import Report, Verdict
from tests.database import OwnDatabase

EVENTS, LEAVES, CHECKPOINTS = "audit_auditevent", "audit_auditleaf", "audit_auditcheckpoint"
SESSION = UUID("019a3c1e-7a5b-7c3d-8e9f-0123456789ab")


def run(*statements: str) -> None:
    """Run SQL as somebody who may do anything: the guards are gone, and come back."""
    with connection.cursor() as cursor:
        names = triggers.names(connection.vendor)
        if connection.vendor == "sqlite":
            for name in names:
                cursor.execute(f"DROP TRIGGER {name}")
        else:
            for table in triggers.APPEND_ONLY:
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement in statements:
            cursor.execute(statement)
        if connection.vendor == "sqlite":
            for statement in (*triggers.statements("sqlite"), *triggers.sealing_statements("sqlite")):
                cursor.execute(statement)
        else:
            for name, table in names.items():
                cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")


def keys() -> trail_keys.TrailKeys:
    return trail_keys.trail_keys()


def write(count: int, session: UUID | None = None, first: int = 1) -> None:
    with transaction.atomic():
        for number in range(count):
            payload = Payload(session or uuid4(), AuditPayload.Kind.STDOUT, b"output %d" % number, number)
            if session:
                store([payload], timezone.now())
            data = {"number": number, "parts": [{"commitment": payload.commitment}] if session else []}
            seq = first + number if session else None
            record(Event(Tag.SESSION_OUTPUT, SYSTEM, SYSTEM, data=data, session_id=session, session_seq=seq))


@pytest.fixture
def log(own_database: OwnDatabase) -> list[str]:
    """Three checkpoints of four events each, two events that wait, and the notes as they were published."""
    if connection.vendor == "postgresql":
        # Tests before this one took numbers; here events are numbered from 1.
        with connection.cursor() as cursor:
            cursor.execute("ALTER SEQUENCE audit_auditevent_id_seq RESTART")
    for number in range(3):
        write(2, SESSION, 1 + 2 * number) if number == 0 else write(2)
        write(2)
        sealing.seal(timezone.now())
    published = list(AuditCheckpoint.objects.order_by("number").values_list("note", flat=True))
    write(2)
    return published


def verified(published: list[str]) -> Report:
    report = verifying.verify(keys().public, now=timezone.now())
    verifying.anchored(report, "\n".join(published).splitlines(keepends=True), keys().public)
    return report


def test_a_log_that_nobody_touched_is_sound(log: list[str]) -> None:
    report = verified(log)
    assert (report.verdict, report.size, report.checkpoint, report.findings) == (Verdict.SOUND, 12, 3, [])
    assert verifying.verify_last(keys().public).verdict is Verdict.SOUND
    since = verifying.verify_from(keys().public, 5, now=timezone.now())
    assert (since.verdict, since.first, since.size) == (Verdict.SOUND, 4, 12)
    sealed, waiting = AuditEvent.objects.order_by("id").first(), AuditEvent.objects.order_by("id").last()
    assert sealed
    assert waiting
    assert verifying.verify_entry(keys().public, sealed.uid).verdict is Verdict.SOUND
    assert verifying.verify_entry(keys().public, waiting.uid).verdict is Verdict.INCOMPLETE
    assert verifying.verify_entry(keys().public, uuid4()).verdict is Verdict.INCOMPLETE
    late = verifying.verify(keys().public, now=timezone.now() + timedelta(minutes=3))
    assert late.verdict is Verdict.INCOMPLETE


def test_an_erased_payload_needs_its_event(log: list[str]) -> None:
    with transaction.atomic():
        gone = payloads_erase(AuditPayload.objects.filter(offset=0), timezone.now())
    assert "erased" in verified(log).findings[0].what
    with transaction.atomic():
        record(Event(Tag.RETENTION_APPLIED, SYSTEM, SYSTEM, data={"commitments": gone}))
    assert verified(log).verdict is Verdict.SOUND
    sealing.seal(timezone.now())
    assert verified(log).verdict is Verdict.SOUND


def swap(first: int, second: int) -> list[str]:
    return [
        f'UPDATE {LEAVES} SET event_id = -{first} WHERE "index" = {first}',
        f'UPDATE {LEAVES} SET event_id = {first + 1} WHERE "index" = {second}',
        f'UPDATE {LEAVES} SET event_id = {second + 1} WHERE "index" = {first}',
    ]


def rehashed() -> list[str]:
    """Return an edit that also mends the event's hash and the leaf's."""
    event = AuditEvent.objects.get(pk=6)
    body = event.body.replace('"number":1', '"number":7')
    digest = hashlib.sha256(body.encode())
    leaf = leaf_hash(digest.digest()).hex()
    literal = f"x'{leaf}'" if connection.vendor == "sqlite" else f"decode('{leaf}', 'hex')"
    return [
        f"UPDATE {EVENTS} SET body = '{body}', hash = '{digest.hexdigest()}' WHERE id = 6",
        f"UPDATE {LEAVES} SET hash = {literal} WHERE event_id = 6",
    ]


COPY = "session_id, session_seq, occurred_at, tag, actor_type, actor_id, actor_label, subject_type, subject_id, "
COPY += "subject_label, outcome, agent_id, host_id, category"
#: Each is what somebody did, and part of a finding that tells of it.
ATTACKS: dict[str, tuple[Callable[[], list[str]], str]] = {
    "edit a body": (
        lambda: [f"UPDATE {EVENTS} SET body = replace(body, 'number', 'numbed') WHERE id = 6"],
        "hash is not",
    ),
    "edit a column": (lambda: [f"UPDATE {EVENTS} SET tag = 'host:changed' WHERE id = 6"], "columns are not"),
    "edit a time": (lambda: [f"UPDATE {EVENTS} SET occurred_at = '2020-01-01' WHERE id = 6"], "columns are not"),
    "edit and rehash": (rehashed, "was signed over"),
    "delete an event": (lambda: [f"DELETE FROM {EVENTS} WHERE id = 6"], "event is missing"),
    "delete an event and its leaf": (
        lambda: [f"DELETE FROM {EVENTS} WHERE id = 6", f"DELETE FROM {LEAVES} WHERE event_id = 6"],
        "leaves are missing",
    ),
    "delete and close the gap": (
        lambda: [
            f"DELETE FROM {LEAVES} WHERE event_id = 12",
            f"DELETE FROM {EVENTS} WHERE id = 12",
            f"UPDATE {CHECKPOINTS} SET size = 11 WHERE number = 3",
        ],
        "columns are not what its note says",
    ),
    "swap two events": (lambda: swap(5, 6), "a leaf is not the hash"),
    "take back a leaf": (lambda: [f"DELETE FROM {LEAVES} WHERE event_id = 6"], "neither sealed nor waiting"),
    "forge a waiting event": (
        lambda: [
            f"INSERT INTO {EVENTS} (uid, body, hash, signature, {COPY}) SELECT "
            f"'019a3c1e7a5b7c3d8e9f0123456789ff', body, hash, NULL, {COPY} FROM {EVENTS} WHERE id = 6",
            "INSERT INTO audit_auditpending (event_id) SELECT max(id) FROM audit_auditevent",
        ],
        "not what was written",
    ),
    "edit a waiting event": (
        lambda: [f"UPDATE {EVENTS} SET body = replace(body, 'number', 'numbed') WHERE id = 13"],
        "not what was written",
    ),
    "drop a waiting event's place": (lambda: ["DELETE FROM audit_auditpending WHERE event_id = 13"], "nor waiting"),
    "delete the last checkpoint": (lambda: [f"DELETE FROM {CHECKPOINTS} WHERE number = 3"], "behind the newest"),
    "delete a checkpoint between": (lambda: [f"DELETE FROM {CHECKPOINTS} WHERE number = 2"], "checkpoints are missing"),
    "edit a note": (
        lambda: [f"UPDATE {CHECKPOINTS} SET note = replace(note, 'number 2', 'number 4') WHERE number = 2"],
        "signature is wrong",
    ),
    "roll back to an earlier time": (
        lambda: [
            f"DELETE FROM {CHECKPOINTS} WHERE number = 3",
            f"DELETE FROM {LEAVES} WHERE event_id > 8",
            f"DELETE FROM {EVENTS} WHERE id > 8",
            "DELETE FROM audit_auditpending",
        ],
        "published checkpoints are not in the database",
    ),
    "empty everything": (
        lambda: [f"DELETE FROM {table}" for table in (CHECKPOINTS, LEAVES, EVENTS, "audit_auditpending")],
        "published checkpoints are not in the database",
    ),
    "edit output": (lambda: ["UPDATE audit_auditpayload SET salt = data"], "a payload is not"),
    "delete output": (lambda: ["DELETE FROM audit_auditpayload"], "a payload is not"),
    "erase output quietly": (lambda: ["DELETE FROM audit_auditpayload WHERE 1 = 1"], "a payload is not"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_told(log: list[str], name: str) -> None:
    attack, told = ATTACKS[name]
    run(*attack())
    report = verified(log)
    assert report.verdict is Verdict.TAMPERED
    assert any(told in finding.what for finding in report.findings), report.findings


def test_every_bad_range_is_named(log: list[str]) -> None:
    run(
        f"UPDATE {EVENTS} SET outcome = 'x' WHERE id IN (2, 3, 4, 9)",
        f"DELETE FROM {LEAVES} WHERE event_id IN (6, 7)",
    )
    found = [(finding.what, finding.first, finding.last) for finding in verified(log).findings]
    assert ("an event's columns are not what its body says", 1, 3) in found
    assert ("an event's columns are not what its body says", 8, 8) in found
    assert ("leaves are missing", 5, 6) in found


def test_a_trigger_that_is_gone_is_told(log: list[str]) -> None:
    table = triggers.names(connection.vendor)[triggers.NOTES]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {triggers.NOTES}" + ("" if connection.vendor == "sqlite" else f" ON {table}"))
    assert triggers.NOTES in verified(log).findings[0].what


def test_another_log_signed_with_another_key_is_told(log: list[str], tmp_path: Path) -> None:
    trail_keys.create(tmp_path)
    other = trail_keys.read(tmp_path / trail_keys.FILE)
    row = AuditCheckpoint.objects.get(number=3)
    note = notes.note_sign(notes.note_read(row.note), other)
    run(f"UPDATE {CHECKPOINTS} SET note = '{note}', digest = '{notes.note_digest(note).hex()}' WHERE number = 3")
    assert verified(log).verdict is Verdict.TAMPERED
    cut = verifying.verify(keys().public, now=timezone.now())
    verifying.anchored(cut, ["nonsense\n", "\n", "— x y\n"], keys().public)
    assert any("no checkpoint" in finding.what for finding in cut.findings)


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bytes_are_told(log: list[str], seed: int) -> None:
    """Any byte of what is sealed, in any column of the three tables and in the payloads."""
    chance = random.Random(seed)  # noqa: S311 - a test's choice
    places = [
        *((EVENTS, "id", column) for column in ("body", "hash", "tag", "actor_type", "outcome")),
        (LEAVES, "event_id", "hash"),
        (CHECKPOINTS, "number", "note"),
        (CHECKPOINTS, "number", "digest"),
        ("audit_auditpayload", "id", "data"),
        ("audit_auditpayload", "id", "salt"),
    ]
    for _ in range(20):
        table, key, column = chance.choice(places)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {key}, {column} FROM {table} ORDER BY {key} LIMIT 12")
            number, value = chance.choice([row for row in cursor.fetchall() if row[1]] or [(None, None)])
            if number is None:
                continue
            changed = flipped(value, chance)
        setter = f"UPDATE {table} SET {column} = %s WHERE {key} = {number}"
        change(setter, changed)
        assert verified(log).verdict is Verdict.TAMPERED, (table, column, number)
        change(setter, value)
    assert verified(log).verdict is Verdict.SOUND


def flipped(value: str | bytes | memoryview, chance: random.Random) -> str | bytes:
    data = bytearray(value.encode() if isinstance(value, str) else bytes(value))
    at = chance.randrange(len(data))
    data[at] = data[at] ^ 1 if data[at] not in (0, 1) and data[at] < 128 else (data[at] + 1) % 128
    if isinstance(value, str):
        return data.decode(errors="replace").replace("\0", "x")
    return bytes(data)


def change(statement: str, value: Any) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for name in triggers.names("sqlite"):
                cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
            cursor.execute(statement, [value])
            for made in (*triggers.statements("sqlite"), *triggers.sealing_statements("sqlite")):
                cursor.execute(made)
        else:
            cursor.execute("SET session_replication_role = replica")
            for table in triggers.APPEND_ONLY:
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            cursor.execute(statement, [value])
            for name, table in triggers.names("postgresql").items():
                cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
            cursor.execute("SET session_replication_role = origin")


def test_a_rotated_key_leaves_what_it_signed(log: list[str], tmp_path: Path, settings: Any) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    file = folder / trail_keys.FILE
    file.write_bytes((Path(settings.ATOM_KEYS) / trail_keys.FILE).read_bytes())
    file.chmod(0o600)
    before = trail_keys.read(file)
    settings.ATOM_KEYS = str(folder)
    call_command("rotate_audit_key")
    after = trail_keys.read(file)
    assert (after.log, len(after.public.keys)) == (before.log, 2)
    assert file.read_text().count('"private"') == 1
    write(1)
    sealing.seal(timezone.now())
    assert verified(log).verdict is Verdict.SOUND


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 0), (["--last"], 0), (["--from", "3"], 0), (["--anchor", "/nowhere"], 2)]
)
def test_the_commands_codes(log: list[str], arguments: list[str], code: int) -> None:
    if code:
        with pytest.raises(SystemExit) as left:
            call_command("auditverify", *arguments, "--json")
        assert left.value.code == code
    else:
        call_command("auditverify", *arguments, "--json")
