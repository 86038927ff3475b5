"""Retiring: exactly what a sound bundle holds may go, by a signed statement, and nothing else ever."""

import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from audit import retiring, sealing, triggers, verifying
from audit.models import AuditEvent, AuditLeaf, AuditPayload, AuditRetirement
from audit.retiring import Retired, RetireError, range_retire
from audit.selecting import Selection
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Payload, record, store
from audit.trail_keys import trail_keys
from audit.verifying_report import Report, Verdict
from tests.audit.test_bundles import bundle

THEN = datetime(2026, 1, 2, tzinfo=UTC)
CUT = THEN + timedelta(days=5)
#: Sessions of then, as UUIDv7 has their time, and of after the cut.
OLD, NEW = UUID("019b7c00-0000-7000-8000-000000000001"), UUID("019bffff-0000-7000-8000-000000000001")


@pytest.fixture
def log(db: None) -> None:
    """Two checkpoints of before the cut with four events each, and one of after it; a session goes on over the cut."""
    for number, day in enumerate((0, 1, 10)):
        with transaction.atomic():
            for count in range(3):
                record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM, data={"number": count}))
            record(Event(Tag.SESSION_OUTPUT, SYSTEM, SYSTEM, session_id=OLD, session_seq=number + 1))
        sealing.seal(THEN + timedelta(days=day))


def retire(content: bytes, *, is_dry: bool = False, before: datetime = CUT) -> Retired:
    return range_retire(before=before, bundle=io.BufferedReader(io.BytesIO(content)), now=timezone.now(), is_dry=is_dry)


def deleted(event_id: int) -> bool:
    """Return whether the database lets this event go, as raw SQL asks for it."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM audit_auditevent WHERE id = %s", [event_id])
            return bool(cursor.rowcount)
    except DatabaseError:
        return False


def verified() -> Report:
    return verifying.verify(trail_keys().public, now=timezone.now())


def test_what_a_bundle_holds_goes_and_the_trail_still_verifies(log: None) -> None:
    ids = list(AuditEvent.objects.order_by("id").values_list("pk", flat=True))
    assert not any(map(deleted, ids))
    content = bundle()
    assert retire(content, is_dry=True) == Retired(0, 8, 2, 0)
    assert AuditEvent.objects.count() == 12
    assert retire(content) == Retired(0, 8, 2, 8)
    assert list(AuditEvent.objects.filter(pk__in=ids).order_by("id").values_list("pk", flat=True)) == ids[8:]
    assert AuditLeaf.objects.count() == 13
    told = json.loads(AuditEvent.objects.get(tag=Tag.TRAIL_RETIRED).body)["data"]
    assert (told["first"], told["size"], told["bundle"]) == (0, 8, hashlib.sha256(content).hexdigest())
    report = verified()
    assert (report.verdict, report.retired, report.size) == (Verdict.SOUND, 8, 13), report.findings
    # Nothing else may go, or change, and a statement stays.
    assert not any(map(deleted, ids[8:]))
    for change in ("DELETE FROM audit_auditretirement", "UPDATE audit_auditretirement SET size = 99"):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(change)
    assert not triggers.missing(connection)
    # The next range goes behind a bundle of its own, and what is gone already is not asked of it.
    later = retire(bundle(), before=THEN + timedelta(days=11))
    assert (later.first, later.size, later.removed) == (8, 12, 4)
    assert verified().verdict is Verdict.SOUND
    assert retire(bundle()) == Retired(12, 12, 2, 0)


def test_a_bundle_has_to_hold_and_prove_every_one(log: None) -> None:
    for content, why in (
        (bundle(Selection(session=OLD)), "holds 2 of the 8 events"),
        (bundle()[:-40], "cut or damaged"),
        (b"nothing", "no bundle"),
    ):
        with pytest.raises(RetireError, match=why):
            retire(content)
    with pytest.raises(RetireError, match="a day old"):
        retire(bundle(), before=timezone.now())
    with transaction.atomic():
        store([Payload(OLD, AuditPayload.Kind.STDOUT, b"still here")], THEN)
    with pytest.raises(RetireError, match="age out first"):
        retire(bundle())
    assert not AuditRetirement.objects.exists()
    assert AuditEvent.objects.count() == 12


def test_a_crash_behind_the_statement_is_gone_on_with(log: None, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bundle()
    with monkeypatch.context() as patched:
        patched.setattr(retiring, "_remove", lambda size: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            retire(content)
    sealing.seal_all(timezone.now())
    assert (verified().verdict, AuditEvent.objects.count()) == (Verdict.SOUND, 13)
    assert retire(content) == Retired(8, 8, 2, 8)
    assert verified().verdict is Verdict.SOUND


def test_events_that_went_by_a_forged_statement_are_missing(log: None) -> None:
    first = AuditEvent.objects.order_by("id")[0]
    AuditRetirement.objects.create(number=1, size=1, note="atom audit retirement 1\n", retired_at=THEN)
    assert deleted(first.pk)
    told = [finding.what for finding in verified().findings]
    assert "a leaf's event is missing" in told
    assert any(what.startswith("retirement 1 is no statement of this server") for what in told)


def test_a_session_of_after_the_cut_still_has_to_be_whole(log: None) -> None:
    with transaction.atomic():
        record(Event(Tag.SESSION_OUTPUT, SYSTEM, SYSTEM, session_id=NEW, session_seq=2))
    sealing.seal(timezone.now())
    retire(bundle())
    (finding,) = verified().findings
    assert finding.what in [f"session {name} has 1 events, numbered from 2 to 2" for name in (NEW, NEW.hex)]
