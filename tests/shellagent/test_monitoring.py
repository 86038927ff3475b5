"""`/healthz` and `/metrics`: what a monitor learns, and who may ask."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from atomsite import health, metrics
from governance.policy.types import Maturity
from shellagent import tasks
from shellagent.models import Host, ShellSession
from tests.conftest import person
from tests.shellagent.scene import Scene, report

TOKEN = "a-token-of-the-metrics"  # noqa: S105


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(health, "_kept", None)
    settings.ATOM_METRICS_TOKEN = TOKEN


def healthz() -> tuple[int, dict[str, Any]]:
    answer = Client().get("/healthz")
    return answer.status_code, answer.json()


def test_healthz_says_ok_to_anybody(scene: Scene) -> None:
    tasks.schedules_install()
    assert healthz() == (200, {"status": "ok", "database": "ok", "worker": "ok", "oldest_queued_seconds": None})
    assert Client().post("/healthz").status_code == 405


def test_healthz_says_how_long_the_queue_waits(scene: Scene) -> None:
    tasks.schedules_install()
    session = scene.session()
    ShellSession.objects.filter(pk=session.pk).update(created_at=timezone.now() - timedelta(seconds=400))
    status, body = healthz()
    assert (status, body["status"]) == (200, "degraded")
    assert 400 <= body["oldest_queued_seconds"] < 410


def test_healthz_without_a_worker(scene: Scene) -> None:
    assert healthz() == (
        200,
        {"status": "degraded", "database": "ok", "worker": "not scheduled", "oldest_queued_seconds": None},
    )


def test_healthz_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(now: object) -> str:
        raise OperationalError("password=secret host=db")

    monkeypatch.setattr(tasks, "worker_health", fail)
    status, body = healthz()
    assert (status, body["status"], body["database"]) == (503, "unavailable", "unreachable")
    assert "secret" not in str(body)


def scraped(**headers: str) -> dict[tuple[str, ...], float]:
    answer = Client().get("/metrics", headers={"authorization": f"Bearer {TOKEN}", **headers})
    assert answer.status_code == 200, answer.content
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> metrics.EventTally:
    """A tally of this test's own: the process keeps what it counted."""
    made = metrics.EventTally()
    (collector,) = metrics._REGISTRY._collector_to_names
    monkeypatch.setattr(collector, "_tally", made)
    return made


def test_metrics_tell_of_sessions_hosts_and_worker(scene: Scene, tally: metrics.EventTally) -> None:
    tasks.schedules_install()
    running = scene.running()
    scene.session()
    scene.session((Maturity.STUDENT, "ls /tmp"))
    found = scraped()
    assert [found["atom_sessions", status] for status in ("pending", "queued", "running")] == [1, 1, 1]
    assert found["atom_host_up", "here"] == found["atom_worker_up",] == 1
    assert found["atom_host_sessions", "here", "running"] == found["atom_host_sessions", "here", "queued"] == 1
    assert found["atom_host_info", "boot-1", "here", "1.0"] == 1
    assert found["atom_events_total", "session:running"] == 1
    assert ("atom_events_total", "session:succeeded") not in found
    scene.record(report(running))
    Host.objects.update(last_seen_at=timezone.now() - timedelta(seconds=31))
    found = scraped()
    assert found["atom_events_total", "session:succeeded"] == 1
    assert (found["atom_sessions", "running"], found["atom_host_up", "here"]) == (0, 0)


def test_events_are_counted_once(scene: Scene, tally: metrics.EventTally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SETTLED_SECONDS", -1.0)
    for expected in range(1, 5):
        scene.session()
        assert tally.counts()["session:queued"] == tally.counts()["session:queued"] == expected


def test_openmetrics_where_it_is_asked_for(scene: Scene) -> None:
    wanted = {"authorization": f"Bearer {TOKEN}", "accept": "application/openmetrics-text;version=1.0.0"}
    answer = Client().get("/metrics", headers=wanted)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


def test_who_may_scrape(scene: Scene, outsider: User, settings: Any) -> None:
    def status(client: Client, **headers: str) -> int:
        answer = client.get("/metrics", headers=headers)
        if answer.status_code != 200:
            assert answer.headers["Content-Type"] == "application/problem+json"
        return answer.status_code

    assert status(Client()) == 401
    assert status(Client(), authorization="Bearer wrong") == 401
    assert status(Client(), authorization=f"Bearer {scene.keys[Maturity.AUTONOMOUS]}") == 401
    client = Client()
    client.force_login(outsider)
    assert status(client) == 403
    client.force_login(person("operator", "shellagent.view_host"))
    assert status(client) == 200
    settings.ATOM_METRICS_TOKEN = ""
    assert status(Client(), authorization="Bearer ") == 401
    assert status(Client(), authorization=f"Bearer {TOKEN}") == 401
