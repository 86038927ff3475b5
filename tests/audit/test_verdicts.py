"""What the server says of its own trail: as it grows, all of it once a day, signed, and told when it turns."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from atomsite.metrics import AtomCollector
from audit import sealing
from audit.anchors import anchors_publish
from audit.models import AuditEvent, AuditVerdict
from audit.tags import Tag
from audit.trail import SYSTEM, Event, record
from audit.trail_health import trail_health
from audit.verdicts import verdict_answer, verdict_read, verdict_update
from audit.verifying_report import Verdict
from faults.attacks import ATTACKS, EVENTS, do, small_log, unguarded, write
from tests.conftest import person
from tests.database import OwnDatabase

UNDO = f"UPDATE {EVENTS} SET tag = 'session:output' WHERE id = 6"  # noqa: S608


@pytest.fixture
def sealed(own_database: OwnDatabase) -> None:
    """A small log of which nothing waits."""
    small_log()
    sealing.seal(timezone.now())


def turned() -> list[str]:
    events = AuditEvent.objects.filter(tag__in=[Tag.TRAIL_SOUND, Tag.TRAIL_UNSOUND]).order_by("id")
    return [event.outcome for event in events]


def test_it_goes_on_from_where_it_was(sealed: None) -> None:
    now = timezone.now()
    first = verdict_update(now, most=4)
    assert (first.verdict, first.size, first.whole_us) == (Verdict.SOUND, 4, None)
    while (found := verdict_update(now, most=4)).whole_at is None:
        assert found.walk
    assert (found.size, found.whole_size, found.walk) == (14, 14, None)
    assert verdict_read() == found
    assert turned() == []
    # A question is answered with what is kept, until there is a new checkpoint.
    assert verdict_answer(now + timedelta(seconds=5)) == found
    write(1)
    sealing.seal(timezone.now())
    assert verdict_answer(now + timedelta(seconds=6)).size == 15


def test_tampering_with_what_was_verified_is_found_by_the_walk_and_told_once(sealed: None) -> None:
    now = timezone.now()
    verdict_update(now)
    do(ATTACKS["edit a column"].statements())
    assert verdict_update(now + timedelta(minutes=1)).verdict is Verdict.SOUND
    found = verdict_update(now + timedelta(days=1))
    assert (found.verdict, found.lasting[0].first) == (Verdict.TAMPERED, 5)
    assert verdict_update(now + timedelta(days=1, minutes=1)).verdict is Verdict.TAMPERED
    assert turned() == ["tampered"]
    health = trail_health(now + timedelta(days=1, minutes=1))
    assert (health.state, health.is_red, health.is_sound) == ("unsound", True, False)
    assert "columns are not what its body says at 5" in health.text
    do([UNDO])
    sealing.seal(timezone.now())
    assert verdict_update(now + timedelta(days=2, minutes=1)).verdict is Verdict.SOUND
    assert turned() == ["tampered", "sound"]


def test_a_walk_that_a_wrong_clock_began_does_not_put_the_next_one_off(sealed: None) -> None:
    now = timezone.now()
    assert verdict_update(now + timedelta(days=400)).whole_at == now + timedelta(days=400)
    assert verdict_update(now).whole_at == now


def test_new_tampering_a_trigger_and_a_rollback_are_found_at_the_next_look(
    sealed: None, tmp_path: Path, settings: Any
) -> None:
    settings.ATOM_AUDIT_ANCHORS = f"file:{tmp_path}/my%20anchors.txt"
    now = timezone.now()
    anchors_publish(now)
    verdict_update(now)
    with unguarded():
        assert verdict_update(now).verdict is Verdict.TAMPERED
    assert verdict_update(now).verdict is Verdict.SOUND
    do([*ATTACKS["roll back to an earlier time"].statements(), "DELETE FROM audit_auditcheckpoint WHERE number > 2"])
    found = verdict_update(now)
    assert found.verdict is Verdict.TAMPERED
    assert {finding.what for finding in found.findings} >= {
        "published checkpoints are not in the database",
        "a checkpoint that was verified before is gone or another",
    }


def test_a_rollback_is_found_also_where_the_log_has_gone_on_since(sealed: None, tmp_path: Path, settings: Any) -> None:
    settings.ATOM_AUDIT_ANCHORS = f"file:{tmp_path}/anchors.txt"
    now = timezone.now()
    anchors_publish(now)
    do([*ATTACKS["roll back to an earlier time"].statements(), "DELETE FROM audit_auditcheckpoint WHERE number > 2"])
    with transaction.atomic():
        record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM))
    sealing.seal(now)
    do(["DELETE FROM audit_auditanchor"])
    anchors_publish(now)
    found = verdict_update(now)
    assert "published checkpoints are not in the database" in {finding.what for finding in found.findings}


def test_a_forged_verdict_says_nothing(sealed: None) -> None:
    verdict_update(timezone.now())
    row = AuditVerdict.objects.get()
    AuditVerdict.objects.update(body=row.body.replace('"size":14', '"size":99'))
    assert verdict_read() is None
    health = trail_health(timezone.now())
    assert (health.is_sound, "not verified yet" in health.text) == (None, True)


def test_what_waits_too_long_is_an_alarm(own_database: OwnDatabase, superuser_client: Client) -> None:
    small_log()
    now = timezone.now() + timedelta(minutes=2, seconds=1)
    assert verdict_update(now).verdict is Verdict.INCOMPLETE
    assert turned() == ["incomplete"]
    health = trail_health(now)
    assert (health.state, health.is_red) == ("late", True)
    figures = {family.name: family.samples[0].value for family in AtomCollector().collect() if family.samples}
    assert figures["atom_trail_sound"] == 0
    assert figures["atom_trail_sealed_events"] == health.sealed_size > 0
    page = superuser_client.get("/admin/").content.decode()
    assert 'class="atom-warn">Audit trail: cannot be said to be sound: events wait' in page
    sealing.seal(now)
    verdict_update(now)
    assert turned() == ["incomplete", "sound"]
    assert 'class="atom-quiet">Audit trail: sound to event ' in superuser_client.get("/admin/").content.decode()


@pytest.fixture
def superuser_client(own_database: OwnDatabase) -> Client:
    """A browser of somebody who may see everything."""
    client = Client()
    client.force_login(person("root", is_superuser=True))
    return client


def test_the_api_answers_readers_and_records_it(db: None) -> None:
    with transaction.atomic():
        record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM))
    sealing.seal(timezone.now())
    client = APIClient()
    client.force_login(person("nobody"))
    assert client.get("/api/audit/verify").status_code == 403
    client.force_login(person("reader", "audit.view_audit"))
    answer = client.get("/api/audit/verify").json()
    assert (answer["verdict"], answer["findings"]) == ("sound", [])
    assert answer["size"] == answer["sealed_size"] > 0
    assert AuditEvent.objects.filter(tag=Tag.TRAIL_READ, actor_label="reader").exists()
