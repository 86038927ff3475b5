"""What the worker does on a schedule, twice as well as once."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import Schedule, Task

from audit.models import AuditCheckpoint, AuditErasure, AuditEvent, AuditPayload, AuditPending
from audit.tags import Tag
from shellagent import limits, tasks
from shellagent.models import IdempotencyKey, ServerStart, ShellSession
from shellagent.services import erasing, payloads_retire
from shellagent.states import Status
from tests.shellagent.scene import ALLOWED, ASKED, Scene, report, reread, tags


def test_tidy_settles_all_that_is_due_and_then_nothing(scene: Scene) -> None:
    running, claimed = scene.running(), scene.claimed()
    expired = [scene.session(kind) for kind in (ALLOWED, ASKED)]
    now = timezone.now()
    ServerStart.objects.update(started_at=now - timedelta(hours=1))
    ShellSession.objects.filter(pk__in=[item.pk for item in expired]).update(expires_at=now)
    dead = now - timedelta(seconds=limits.LOST_AFTER_SECONDS + 1)
    ShellSession.objects.filter(pk__in=[running.pk, claimed.pk]).update(lease_expires_at=dead)
    assert tasks.tidy() == {"expired": 2, "lost": 1, "queued": 1, "stopped": 0}
    events = AuditEvent.objects.count()
    assert tasks.tidy() == {"expired": 0, "lost": 0, "queued": 0, "stopped": 0}
    assert AuditEvent.objects.count() == events
    assert [tags(item)[-1] for item in expired] == ["expired", "expired"]
    assert (reread(running).status, reread(claimed).status) == (Status.LOST, Status.QUEUED)


def test_tidy_settles_more_than_one_batch(scene: Scene) -> None:
    """Also on PostgreSQL, whose notifications hold less than the names of so many."""
    made = [scene.session() for _ in range(210)]
    ShellSession.objects.update(expires_at=timezone.now())
    assert tasks.tidy()["expired"] == 210
    assert tags(made[-1]) == ["queued", "expired"]


def test_retire_removes_what_is_old_of_sessions_that_ended(scene: Scene, settings: Any) -> None:
    ended, waiting = scene.running(), scene.session(ASKED)
    scene.record(report(ended))
    long_ago = timezone.now() - timedelta(days=100)
    AuditPayload.objects.update(created_at=long_ago)
    assert payloads_retire(AuditErasure.Part.REQUEST, 101) == 0
    settings.ATOM_RETENTION_OUTPUT_DAYS = 0
    assert tasks.retire() == {
        "requests": 2,
        "output": 0,
        "idempotency_keys": 0,
        "messages": 0,
        "failures": 0,
    }  # the request and the decision
    settings.ATOM_RETENTION_OUTPUT_DAYS = 99
    assert tasks.retire() == {"requests": 0, "output": 1, "idempotency_keys": 0, "messages": 0, "failures": 0}
    assert tasks.retire() == {"requests": 0, "output": 0, "idempotency_keys": 0, "messages": 0, "failures": 0}
    assert set(AuditPayload.objects.filter(erased_at=None).values_list("session_id", flat=True)) == {waiting.pk}
    # The rows stay, with the commitments that the events of the request and of the retention name.
    gone = AuditPayload.objects.filter(session_id=ended.pk)
    assert {(bytes(row.data), bytes(row.salt)) for row in gone} == {(b"", b"")}
    events = AuditEvent.objects.filter(tag=Tag.RETENTION_APPLIED).order_by("id")
    told = [json.loads(event.body)["data"] for event in events]
    assert [(data["part"], data["days"], data["removed"]) for data in told] == [("request", 90, 2), ("output", 99, 1)]
    assert {row.commitment for row in gone} == {item for data in told for item in data["commitments"]}
    asked = json.loads(AuditEvent.objects.get(session_id=ended.pk, session_seq=1).body)["data"]
    assert asked["request_commitment"] in told[0]["commitments"]
    # What is left of the session is shown without them.
    shown = scene.as_agent(ALLOWED[0]).get(f"/api/local-agent/sessions/{ended.pk}").json
    assert (shown["command"], shown["stdout"], shown["exit_code"]) == (None, "", 0)


def test_ageing_out_leaves_time_for_the_rest_of_the_task(settings: Any) -> None:
    assert settings.Q_CLUSTER["timeout"] - 30 >= 2 * erasing._AGE_OUT_SECONDS


def test_failed_tasks_of_the_last_week_stay(db: None) -> None:
    now = timezone.now()
    for days, is_success in ((6, False), (8, False), (8, True)):
        stopped = now - timedelta(days=days)
        Task.objects.create(
            id=f"{days}{is_success}", name="x", func="x", started=stopped, stopped=stopped, success=is_success
        )
    assert tasks.retire()["failures"] == 1
    assert set(Task.objects.values_list("id", flat=True)) == {"6False", "8True"}


def test_keys_of_the_last_day_stay(scene: Scene) -> None:
    session = scene.session()
    for number, hours in enumerate((23, 25)):
        IdempotencyKey.objects.create(
            scope="agent:1",
            key=str(number),
            body_sha256="a" * 64,
            session=session,
            created_at=timezone.now() - timedelta(hours=hours),
        )
    assert tasks.retire()["idempotency_keys"] == 1
    assert IdempotencyKey.objects.get().key == "0"


def test_what_no_server_sealed_is_sealed_and_published(scene: Scene, settings: Any, tmp_path: Path) -> None:
    settings.ATOM_AUDIT_ANCHORS = f"file:{tmp_path / 'anchors.txt'}"
    waiting = AuditPending.objects.count()
    assert waiting
    assert (tasks.seal(), tasks.seal(), AuditPending.objects.count()) == (waiting, 0, 0)
    assert (tmp_path / "anchors.txt").read_text() == AuditCheckpoint.objects.get().note + "\n"


def test_schedules_are_what_the_list_says(db: None) -> None:
    Schedule.objects.create(func="os.system", name="bad", schedule_type=Schedule.DAILY)
    Schedule.objects.create(func="shellagent.tasks.tidy", name="odd", schedule_type=Schedule.DAILY, repeats=3)
    for _ in range(2):
        tasks.schedules_install()
        found = {item.func: (item.schedule_type, item.minutes, item.repeats) for item in Schedule.objects.all()}
        assert found == {name: (Schedule.MINUTES, minutes, -1) for name, minutes in tasks.SCHEDULED.items()}
    assert all(callable(getattr(tasks, name.rpartition(".")[2])) for name in tasks.SCHEDULED)


def test_a_schedule_that_two_made_at_once_is_one_again(db: None) -> None:
    tasks.schedules_install()
    Schedule.objects.create(func="shellagent.tasks.tidy", name="shellagent.tasks.tidy", schedule_type=Schedule.MINUTES)
    tasks.schedules_install()
    assert Schedule.objects.count() == len(tasks.SCHEDULED)


@pytest.mark.parametrize("away", [timedelta(days=400), timedelta(days=-400), timedelta(hours=1)])
def test_what_a_wrong_clock_or_a_long_pause_left_is_due_now(db: None, away: timedelta) -> None:
    tasks.schedules_install()
    now = timezone.now()
    far = Schedule.objects.filter(func="shellagent.tasks.tidy")
    far.update(next_run=now + away)
    assert tasks.schedules_mend(now) == 1
    assert far.get().next_run == now
    assert tasks.schedules_mend(now) == 0
    far.update(next_run=now + away)
    tasks.schedules_install()
    assert abs(far.get().next_run - now) < timedelta(minutes=1)


def test_the_workers_health(db: None) -> None:
    now = timezone.now()
    assert tasks.worker_health(now) == "not scheduled"
    tasks.schedules_install()
    Schedule.objects.update(next_run=now)
    assert tasks.worker_health(now) == "ok"
    assert tasks.worker_health(now + timedelta(minutes=2)) == "ok"
    assert tasks.worker_health(now + timedelta(minutes=4)) == "late"
    # The clock was set back, and nothing runs before then.
    assert tasks.worker_health(now - timedelta(minutes=4)) == "late"
