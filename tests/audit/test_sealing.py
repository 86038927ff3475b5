"""Sealing: gapless leaves, one line of checkpoints, and nothing that waits is lost or let in unsigned."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, transaction

from audit import anchors, notes, sealing, trail_keys
from audit.models import AuditAnchor, AuditCheckpoint, AuditEvent, AuditLeaf, AuditPending
from audit.seal_bell import ENOUGH, SealBell
from audit.sealer import Sealer
from audit.tags import Tag
from audit.trail import SYSTEM, Event, record
from audit.trail_keys import trail_keys as keys_of_server
from audit.tree import leaf_hash, root
from tests.database import OwnDatabase

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def write(*counts: int) -> None:
    """Write as many events in each call of `record`."""
    with transaction.atomic():
        for count in counts:
            record(*(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM, data={"number": number}) for number in range(count)))


def checkpoints() -> list[notes.Checkpoint]:
    return [notes.note_read(row.note) for row in AuditCheckpoint.objects.order_by("number")]


def test_what_waits_gets_its_place_and_a_checkpoint(db: None) -> None:
    write(1, 5)
    assert AuditPending.objects.count() == 6
    sealed = sealing.seal(NOW)
    assert sealed == sealing.Sealed(1, 6, 6, 0, is_all=True)
    write(3)
    sealing.seal(NOW + timedelta(seconds=1))
    assert not AuditPending.objects.exists()
    hashes = [leaf_hash(bytes.fromhex(event.hash)) for event in AuditEvent.objects.order_by("id")]
    leaves = list(AuditLeaf.objects.order_by("index").values_list("index", "hash"))
    assert [(index, bytes(found)) for index, found in leaves] == list(enumerate(hashes))
    first, second = checkpoints()
    assert (first.size, first.root, first.previous) == (6, root(hashes[:6]), notes.FIRST)
    assert (second.size, second.root, second.number) == (9, root(hashes), 2)
    row = AuditCheckpoint.objects.get(number=1)
    assert second.previous == notes.note_digest(row.note)
    assert notes.is_note_signed(row.note, keys_of_server().public)


def test_an_hour_without_events_is_said(db: None) -> None:
    assert sealing.seal(NOW) is None
    write(1)
    sealing.seal(NOW)
    assert sealing.seal(NOW + timedelta(minutes=59)) is None
    assert sealing.seal(NOW + timedelta(minutes=60)) == sealing.Sealed(2, 1, 0, 0, is_all=True)


def test_a_forged_event_is_put_aside_and_blocks_no_other(db: None) -> None:
    write(1)
    sealing.seal(NOW)
    write(2)
    real = AuditEvent.objects.order_by("-id")[0]
    unsigned = AuditEvent(**{**values(real), "uid": "0" * 32, "signature": None, "body": real.body})
    borrowed = AuditEvent(
        **{
            **values(real),
            "uid": "1" * 32,
            "body": "{}",
            "hash": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        }
    )
    unsigned.save(force_insert=True)
    borrowed.save(force_insert=True)
    # What is no text, a place without an event, and an event that is sealed already and was put back.
    unreadable = AuditEvent(**{**values(real), "uid": "2" * 32, "body": real.body, "hash": "x", "signature": "é"})
    unreadable.save(force_insert=True)
    if connection.vendor == "sqlite":
        insert = f"INSERT INTO audit_auditevent ({', '.join(values(real))}, id) SELECT "
        copied = ", ".join("CAST(x'ff' AS TEXT)" if name in ("body", "uid") else name for name in values(real))
        with connection.cursor() as cursor:
            cursor.execute(f"{insert} {copied}, 90 FROM audit_auditevent WHERE id = %s", [real.pk])
    sealed_before = AuditEvent.objects.order_by("id")[0].pk
    AuditPending.objects.bulk_create(AuditPending(event_id=number) for number in (sealed_before, 4000))
    sealed = sealing.seal(NOW)
    refusals = dict(AuditPending.objects.values_list("event_id", "refusal"))
    expected = {
        unsigned.pk: "it is not signed",
        borrowed.pk: "its signature is wrong",
        unreadable.pk: "its hash is not that of its body",
        sealed_before: "it is sealed already",
        4000: "there is no such event",
        **({90: "its body is not text"} if connection.vendor == "sqlite" else {}),
    }
    assert refusals == expected
    assert sealed == sealing.Sealed(2, 3, 2, len(expected), is_all=True)
    assert sealing.seal(NOW) is None


def values(event: AuditEvent) -> dict[str, object]:
    names = [field.attname for field in AuditEvent._meta.concrete_fields if field.attname != "id"]
    return {name: getattr(event, name) for name in names}


def test_a_forged_checkpoint_is_not_built_upon(db: None, tmp_path: Path) -> None:
    write(2)
    sealing.seal(NOW)
    trail_keys.create(tmp_path / "other")
    other = trail_keys.read(tmp_path / "other" / trail_keys.FILE)
    (real,) = checkpoints()
    forged = notes.note_sign(
        notes.Checkpoint(real.log, 2, real.root, 2, real.time_us, b"\1" * 32, real.frontier), other
    )
    AuditCheckpoint.objects.create(
        number=2, size=2, sealed_at=NOW, note=forged, digest=notes.note_digest(forged).hex(), previous="01" * 32
    )
    write(1)
    with pytest.raises(sealing.SealError, match="auditverify"):
        sealing.seal(NOW)
    assert AuditPending.objects.count() == 1
    assert not Sealer(rung=SealBell(), clock=lambda: NOW).step()


def test_a_long_queue_is_sealed_in_parts(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "MOST_AT_ONCE", 4)
    write(10)
    assert sealing.seal_all(NOW) == 10
    assert [one.size for one in checkpoints()] == [4, 8, 10]


def test_the_bell_rings_when_enough_wait() -> None:
    bell = SealBell()
    bell.noted(ENOUGH - 1)
    assert not bell.wait(0)
    bell.noted(1)
    assert bell.wait(0)
    assert not bell.wait(0)


def test_a_file_gets_every_checkpoint_once(db: None, tmp_path: Path, settings: object) -> None:
    path = tmp_path / "anchors.txt"
    settings.ATOM_AUDIT_ANCHORS = f"file:{path} file:/proc/nowhere/x"  # type: ignore[attr-defined]
    for _ in range(2):
        write(1)
        sealing.seal(NOW)
    path.write_bytes(b"what a crash left")
    failed = anchors.anchors_publish(NOW)
    assert list(failed) == ["file:/proc/nowhere/x"]
    write(1)
    sealing.seal(NOW)
    anchors.anchors_publish(NOW)
    with path.open() as stream:
        published = list(notes.notes_in(stream))
    assert published[-2:] == list(AuditCheckpoint.objects.order_by("number").values_list("note", flat=True))[1:]
    assert AuditAnchor.objects.order_by("-checkpoint_id").values_list("checkpoint_id", flat=True)[0] == 3
    assert path.stat().st_mode & 0o777 == 0o600 or path.stat().st_mode & 0o077 == 0o044


RACER = """
import django, sys
django.setup()
from datetime import datetime, timezone
from django.db import transaction
from audit.sealing import seal
from audit.tags import Tag
from audit.trail import SYSTEM, Event, record
for number in range(int(sys.argv[1])):
    with transaction.atomic():
        record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM, data={"number": number}))
    seal(datetime.now(timezone.utc))
"""


def test_sealers_at_once_make_one_line(own_database: OwnDatabase, tmp_path: Path) -> None:
    environment = {**own_database.environment(tmp_path), "ATOM_KEYS": str(settings.ATOM_KEYS)}
    racers = [subprocess.Popen([sys.executable, "-c", RACER, "25"], env=environment) for _ in range(3)]
    assert [racer.wait(60) for racer in racers] == [0, 0, 0]
    connection.close()
    sealing.seal_all(NOW)
    line = checkpoints()
    rows = list(AuditCheckpoint.objects.order_by("number").values_list("number", "digest", "previous"))
    assert [number for number, _digest, _previous in rows] == list(range(1, len(line) + 1))
    assert all(after[2] == before[1] for before, after in pairwise(rows))
    assert list(AuditLeaf.objects.order_by("index").values_list("index", flat=True)) == list(range(75))
    leaves = [bytes(one) for one in AuditLeaf.objects.order_by("index").values_list("hash", flat=True)]
    assert all(one.root == root(leaves[: one.size]) for one in line)
    assert line[-1].size == 75
