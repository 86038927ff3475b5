"""What happens where the trail cannot be kept: strict hosts stop, hosts in best effort go on and are told of."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from audit import triggers, verifying
from audit.key_files import KeyFileError
from audit.models import AuditEvent, AuditLoss
from audit.sealer import Sealer
from audit.sealing import seal_all
from audit.standing import LASTS_SECONDS, Standing, is_failure, standing
from audit.trail_keys import trail_keys
from audit.verifying_report import Verdict
from governance.errors import ConflictError
from governance.services import user_party
from shellagent import protocol
from shellagent.errors import TrailFailedError
from shellagent.models import Host
from shellagent.services import host_set_audit_mode, hosts_in_best_effort
from shellagent.states import AuditMode, Status
from tests.admin.conftest import Reader, staff
from tests.conftest import person
from tests.shellagent.scene import ALLOWED, Scene, poll_request, report, reread


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """This process's own standing, on a clock of the test's, and as it was afterwards."""
    made = Clock()
    monkeypatch.setattr(standing, "_clock", made)
    yield made
    made.now += 1000
    standing.looked("")
    standing.best_effort = ()


def look(clock: Clock, seconds: float = LASTS_SECONDS) -> None:
    """Have the server's thread look, and once more after some time."""
    sealer = Sealer(best_effort=hosts_in_best_effort)
    sealer.look()
    clock.now += seconds
    sealer.look()


def refusal(statement: str) -> Exception:
    """Return the error by which the database refuses to write once this was run on a connection of its own."""
    own = connection.copy()
    try:
        with own.cursor() as cursor:
            cursor.execute(statement)
            cursor.execute("UPDATE audit_auditwatch SET looked_at = looked_at")
            cursor.execute("CREATE TABLE too_much (what TEXT)")
            for _ in range(100):
                cursor.execute("INSERT INTO too_much VALUES (%s)", ["x" * 100_000])
    except DatabaseError as error:
        return error
    finally:
        own.close()
    raise AssertionError("it was written")


@pytest.mark.usefixtures("own_database")
def test_what_is_a_failure_and_what_is_waiting() -> None:
    if connection.vendor == "sqlite":
        assert is_failure(refusal("PRAGMA query_only = ON"))
        assert is_failure(refusal("PRAGMA max_page_count = 1"))  # SQLite's own full disk
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE audit_auditwatch SET looked_at = looked_at")
            busy = refusal("PRAGMA busy_timeout = 1")
        assert "locked" in str(busy)
    else:
        assert is_failure(refusal("SET default_transaction_read_only = on"))
        assert is_failure(refusal("SET ROLE pg_monitor"))
        busy = refusal("SET statement_timeout = 1; SELECT pg_sleep(1)")
    assert not is_failure(busy)
    assert is_failure(refusal("ALTER TABLE audit_auditwatch RENAME TO gone"))
    assert is_failure(KeyFileError("no key"))
    assert not is_failure(DatabaseError("the server has gone away"))


def test_a_failure_counts_once_it_has_lasted_and_ends_with_a_write(clock: Clock) -> None:
    known = Standing(clock=clock)
    known.failed(KeyFileError("no key"))
    clock.now += LASTS_SECONDS - 1
    assert (known.failure, known.stops(1)) == ("", False)
    clock.now += 1
    known.best_effort = {2}
    assert (known.failure, known.stops(1), known.stops(2)) == ("no key", True, False)
    assert (known.spares([2]), known.spares([2, 1]), known.spares([None])) == (True, False, False)
    known.looked("")
    assert known.failure == ""
    # A small write finds room where others just did not.
    known.failed(KeyFileError("full"))
    clock.now += LASTS_SECONDS
    known.failed(KeyFileError("full"))
    known.looked("")
    assert known.failure == "full"
    # What can be written and is not kept is no reason to leave it unwritten.
    other = Standing(clock=clock)
    other.looked("a trigger is missing")
    assert other.failure == ""
    clock.now += LASTS_SECONDS
    other.looked("another trigger is missing")
    assert (other.failure, other.cannot_write, other.spares([])) == ("another trigger is missing", "", False)


def without(name: str, table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {name}" + (f" ON {table}" if connection.vendor == "postgresql" else ""))


def test_a_missing_trigger_stops_strict_hosts_until_it_is_back(own_scene: Scene, clock: Clock) -> None:
    scene = own_scene
    runs, waits = scene.running(), scene.session(ALLOWED)
    without(triggers.NOTES, triggers.TABLE)
    look(clock)
    answer = scene.poll(running=(runs.pk,))
    assert (answer.audit, answer.sessions, reread(waits).status) == ("failed", (), Status.QUEUED)
    with pytest.raises(TrailFailedError):
        scene.start(waits.pk)
    assert "audit_event_pending" in staff("reader").get("/admin/")
    status = scene.as_agent(ALLOWED[0]).get("/api/local-agent/status").json
    assert (status["audit"], status["hosts"][0]["audit_mode"]) == ("failed", "strict")
    for statement in triggers.sealing_statements(connection.vendor):
        if triggers.NOTES in statement:
            with connection.cursor() as cursor:
                cursor.execute(statement)
    look(clock)
    answer = scene.poll(running=(runs.pk,))
    assert (answer.audit, len(answer.sessions)) == ("ok", 1)


def test_a_poll_that_cannot_be_written_tells_the_host_once_that_lasts(own_scene: Scene, clock: Clock) -> None:
    scene = own_scene
    runs = scene.running()
    body = protocol.encode(poll_request(running=(runs.pk,), hold_seconds=0, version="another"))
    host = scene.as_host()
    Host.objects.update(last_seen_at=None)
    with connection.cursor() as cursor:
        cursor.execute(_READ_ONLY[connection.vendor][0])
        assert host.post("/api/host/poll", body).status == 503
        clock.now += LASTS_SECONDS
        answer = host.post("/api/host/poll", body)
        assert (answer.status, answer.json["audit"], answer.json["sessions"]) == (200, "failed", [])
        cursor.execute(_READ_ONLY[connection.vendor][1])
    look(clock)
    assert host.post("/api/host/poll", body).json["audit"] == "ok"


_READ_ONLY = {
    "sqlite": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
    "postgresql": ("SET default_transaction_read_only = on", "SET default_transaction_read_only = off"),
}


def test_in_best_effort_what_runs_goes_on_and_what_was_lost_is_told(
    own_scene: Scene, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, superuser = own_scene, person("boss", is_superuser=True)
    host_set_audit_mode(host=scene.host, mode=AuditMode.BEST_EFFORT, actor=user_party(superuser))
    with pytest.raises(ConflictError):
        host_set_audit_mode(host=scene.host, mode=AuditMode.BEST_EFFORT, actor=user_party(superuser))
    before, reader = scene.running(), Reader(superuser)
    keys = settings.ATOM_KEYS
    # The key that signs starts is there, and the trail's is not.
    shutil.copytree(keys, tmp_path / "keys", ignore=shutil.ignore_patterns("audit.json"))
    monkeypatch.setattr(settings, "ATOM_KEYS", str(tmp_path / "keys"))
    asked = scene.as_agent(ALLOWED[0]).post("/api/local-agent/execute", {"command": "ls /tmp"})
    assert asked.status == 503
    look(clock)
    assert "Best effort:" in reader.get("/admin/")
    asked = scene.as_agent(ALLOWED[0]).post("/api/local-agent/execute", {"command": "ls /tmp"})
    assert asked.status == 202, (asked, standing.failure, standing.best_effort)
    assert asked.json["receipt"] is None
    assert scene.poll(running=(before.pk,)).audit == "ok"
    scene.record(report(reread(before)))
    assert reread(before).status == Status.SUCCEEDED
    lost = AuditLoss.objects.count()
    assert lost >= 3
    monkeypatch.setattr(settings, "ATOM_KEYS", keys)
    unsure = verifying.verify(trail_keys().public, now=timezone.now())
    assert (unsure.verdict, [finding.what for finding in unsure.findings][-1][:2]) == (
        Verdict.INCOMPLETE,
        f"{lost} "[:2],
    )
    look(clock)
    seal_all(timezone.now())
    told = json.loads(AuditEvent.objects.get(tag="trail:degraded").body)["data"]
    assert (told["lost"], told["hosts"], AuditLoss.objects.count()) == (lost, [scene.host.pk], 0)
    assert verifying.verify(trail_keys().public, now=timezone.now()).verdict is Verdict.SOUND
    host_set_audit_mode(host=scene.host, mode=AuditMode.STRICT, actor=user_party(superuser))
    changes = [json.loads(event.body)["data"] for event in AuditEvent.objects.filter(tag="host:changed").order_by("id")]
    assert [change["audit_mode"]["after"] for change in changes] == ["best_effort", "strict"]


def test_the_mode_is_changed_on_the_hosts_page(scene: Scene) -> None:
    staff("outsider").post(f"/admin/shellagent/host/{scene.host.pk}/control/", 403, wanted="best_effort")
    keeper = staff("keeper", "shellagent.control_host", "shellagent.view_host")
    html = keeper.post(f"/admin/shellagent/host/{scene.host.pk}/control/", wanted="best_effort")
    assert "Run only what is audited" in html
