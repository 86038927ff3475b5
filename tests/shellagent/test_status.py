"""The status: who is told what of what has not ended."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from governance.policy.types import Maturity
from shellagent.models import Host
from tests.shellagent.scene import Caller, Scene

STATUS = "/api/local-agent/status"
NOTHING = {"pending": 0, "queued": 0, "claimed": 0, "running": 0}


@pytest.fixture
def busy(scene: Scene) -> Scene:
    """A student's session waits; an autonomous agent's runs, another is in the queue, a third was denied."""
    scene.session((Maturity.STUDENT, "ls /tmp"))
    scene.running()
    scene.session((Maturity.AUTONOMOUS, "ls /tmp"))
    scene.session((Maturity.AUTONOMOUS, "sudo reboot"))
    return scene


def counts(caller: Caller) -> Any:
    answer = caller.call("get", STATUS)
    assert answer.status == 200
    return answer.json["sessions"]


def test_an_agent_counts_its_own(busy: Scene) -> None:
    assert counts(busy.as_agent(Maturity.STUDENT)) == {**NOTHING, "pending": 1}
    assert counts(busy.as_agent(Maturity.AUTONOMOUS)) == {**NOTHING, "queued": 1, "running": 1}
    assert counts(busy.as_agent(Maturity.INTERN)) == NOTHING


def test_a_person_counts_what_they_may_see(busy: Scene, approver: User, outsider: User) -> None:
    everything = {**NOTHING, "pending": 1, "queued": 1, "running": 1}
    assert counts(Caller.logged_in(busy.owner)) == everything
    assert counts(Caller.logged_in(approver)) == everything
    assert counts(Caller.logged_in(outsider)) == NOTHING


def host_seen(scene: Scene) -> Any:
    answer = Caller.logged_in(scene.owner).call("get", STATUS)
    (host,) = answer.json["hosts"]
    return host


def test_a_host_is_seen_from_outside(busy: Scene) -> None:
    ahead_us = (time.time_ns() // 1000) + 7_000_000
    busy.poll(free_slots=0, spool=3, time_us=ahead_us, last_error="The journal cannot be written.")
    host = host_seen(busy)
    assert (host["online"], host["offline_since"], host["boot_id"]) == (True, None, "boot-1")
    assert (host["running"], host["queued"], host["spool"]) == (1, 1, 3)
    assert 6_000 < host["clock_skew_ms"] <= 7_000
    assert host["last_error"] == "The journal cannot be written."
    assert host["last_error_at"]
    Host.objects.update(last_seen_at=timezone.now() - timedelta(seconds=31))
    host = host_seen(busy)
    assert (host["online"], host["offline_since"]) == (False, host["last_seen_at"])
    told = busy.as_agent(Maturity.AUTONOMOUS).execute()
    assert (told.status, told.json["host_online"], told.json["status"]) == (202, False, "queued")
    assert told.json["expires_at"]


def test_an_error_keeps_its_time(scene: Scene) -> None:
    scene.poll(free_slots=0, last_error="No disk.")
    before = host_seen(scene)["last_error_at"]
    scene.poll(free_slots=0, last_error="No disk.")
    assert host_seen(scene)["last_error_at"] == before


def test_a_clock_that_was_set_back_leaves_no_host_online_for_good(scene: Scene) -> None:
    Host.objects.update(last_seen_at=timezone.now() + timedelta(hours=1))
    scene.poll()
    scene.host.refresh_from_db()
    assert scene.host.last_seen_at is not None
    assert scene.host.last_seen_at <= timezone.now()


def test_only_who_may_see_the_trail_is_told_where_it_is_published(busy: Scene, superuser: User, settings: Any) -> None:
    settings.ATOM_AUDIT_ANCHORS = "https://example.com/hooks/a-secret"
    told = {
        name: caller.call("get", STATUS).json["anchors"]
        for name, caller in {
            "agent": busy.as_agent(Maturity.AUTONOMOUS),
            "owner": Caller.logged_in(busy.owner),
            "superuser": Caller.logged_in(superuser),
        }.items()
    }
    assert {name: len(sinks) for name, sinks in told.items()} == {"agent": 0, "owner": 0, "superuser": 1}
