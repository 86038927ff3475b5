"""What nobody means to write, in the trail all the same: a clear verdict on each, and nothing stops."""

import io
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from audit import notes, sealing, verifying
from audit.bundles import bundle_pieces
from audit.models import AuditCheckpoint, AuditEvent, AuditPayload
from audit.selecting import Selection
from audit.standalone.bundle import Options, bundle_verify
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Payload, record, store
from audit.trail_keys import trail_keys, verifier_text
from audit.verifying_report import Verdict
from faults.attacks import CHECKPOINTS, EVENTS, do, small_log
from tests.database import OwnDatabase

MEGABYTES = 10


def verdict() -> Verdict:
    return verifying.verify(trail_keys().public, now=timezone.now()).verdict


def test_flush_is_refused_and_everything_is_there(own_database: OwnDatabase) -> None:
    small_log()
    before = list(AuditEvent.objects.values())
    with pytest.raises(CommandError, match="couldn't be flushed"):
        call_command("flush", interactive=False)
    assert list(AuditEvent.objects.values()) == before
    assert (AuditPayload.objects.count(), verdict()) == (2, Verdict.SOUND)


def test_a_body_of_ten_megabytes_is_one_event_among_others(own_database: OwnDatabase) -> None:
    text = "é" * (MEGABYTES * 2**20 // 2)
    with transaction.atomic():
        record(*(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM, data={"text": said}) for said in ("before", text, "after")))
    sealing.seal(timezone.now())
    assert verdict() is Verdict.SOUND
    keys, until = trail_keys(), AuditCheckpoint.objects.latest("number")
    content = b"".join(bundle_pieces(Selection(), until=until, keys=keys, now=timezone.now()))
    found = bundle_verify(io.BytesIO(content), Options((verifier_text(keys.log, keys.public.keys[keys.id]),)))
    assert (found.verdict, found.events) == ("sound", 3)
    large = AuditEvent.objects.order_by("id")[1]
    do([f"UPDATE {EVENTS} SET body = replace(body, 'éé\"', 'éè\"') WHERE id = {large.pk}"])  # noqa: S608
    report = verifying.verify(keys.public, now=timezone.now())
    assert report.verdict is Verdict.TAMPERED
    assert {(finding.first, finding.last) for finding in report.findings} >= {(1, 1)}


def test_a_payload_that_is_not_utf_8_is_bytes_like_any(own_database: OwnDatabase) -> None:
    payload = Payload(uuid4(), AuditPayload.Kind.STDOUT, b"\xff\xfe\x00half \xc3")
    segment = {"stream": "stdout", "offset": 0, "bytes": len(payload.data), "commitment": payload.commitment}
    with transaction.atomic():
        store([payload], timezone.now())
        record(Event(Tag.SESSION_OUTPUT, SYSTEM, SYSTEM, data={"segments": [segment]}))
    sealing.seal(timezone.now())
    assert verdict() is Verdict.SOUND


def test_a_checkpoint_of_a_later_version_is_not_said_to_be_sound(own_database: OwnDatabase, tmp_path: Path) -> None:
    """In the database, and as published: who reads less than is said cannot say that all of it holds."""
    published = small_log()
    keys = trail_keys()
    later = notes.note_sign(replace(notes.note_read(published[-1]), more=("promise 7",)), keys)
    digest = notes.note_digest(later).hex()
    do([f"UPDATE {CHECKPOINTS} SET note = '{later}', digest = '{digest}' WHERE number = 3"])  # noqa: S608
    report = verifying.verify(keys.public, now=timezone.now())
    assert report.verdict is Verdict.INCOMPLETE
    assert ["later version" in finding.what for finding in report.findings] == [True]
    # One that is not there yet, in a file of anchors: this database is behind what was published.
    ahead = replace(notes.note_read(later), number=4, size=99)
    compared = verifying.verify(keys.public, now=timezone.now())
    verifying.anchored(compared, notes.note_sign(ahead, keys).splitlines(keepends=True), keys.public)
    assert (compared.verdict, compared.findings[-1].first) == (Verdict.TAMPERED, 4)
