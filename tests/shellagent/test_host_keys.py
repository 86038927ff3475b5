"""A host's key is replaced while it works, and a second process with one key is an alarm."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed

from audit.models import AuditEvent
from shellagent import limits
from shellagent.authentication import host_of_key
from shellagent.errors import InstanceError
from shellagent.models import Host
from tests.conftest import person
from tests.shellagent.scene import Caller, Scene, enrolled


def renewed(key: str) -> str:
    answer = Caller.with_key(key).post("/api/host/key", {"v": 1})
    assert answer.status == 200, answer
    assert answer.headers["Cache-Control"] == "no-store"
    return str(answer.json["key"])


def tags(host: Host) -> list[str]:
    rows = AuditEvent.objects.filter(subject_type="host", subject_id=str(host.pk)).order_by("pk")
    return [tag.removeprefix("host:") for tag in rows.values_list("tag", flat=True) if tag.startswith("host:key")]


def test_the_old_key_works_until_the_new_one_was_used_and_a_little_longer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = scene.host_key, renewed(scene.host_key)
    assert host_of_key(old) == scene.host, "as long as the new one was not used"
    assert host_of_key(new) == scene.host
    assert host_of_key(new) == scene.host
    assert host_of_key(old) == scene.host, "what another connection just sent is not refused"
    later = timezone.now() + timedelta(seconds=limits.KEY_OVERLAP_SECONDS)
    monkeypatch.setattr("shellagent.authentication.timezone.now", lambda: later)
    with pytest.raises(AuthenticationFailed, match="replaced"):
        host_of_key(old)
    assert host_of_key(new) == scene.host
    assert tags(scene.host) == ["key_issued", "key_replaced"]
    assert AuditEvent.objects.filter(tag="key:refused", outcome="replaced").count() == 1


def test_a_lost_answer_is_asked_for_again(scene: Scene) -> None:
    lost, new = renewed(scene.host_key), renewed(scene.host_key)
    with pytest.raises(AuthenticationFailed):
        host_of_key(lost)
    assert host_of_key(new) == host_of_key(scene.host_key)


def test_enrolling_anew_voids_both_keys(scene: Scene) -> None:
    new = renewed(scene.host_key)
    enrolled(scene.host.name)
    for key in (scene.host_key, new):
        with pytest.raises(AuthenticationFailed):
            host_of_key(key)


def test_an_operator_has_the_key_replaced(scene: Scene) -> None:
    body = {"host": scene.host.name}
    assert Caller.logged_in(person("nobody")).post("/api/local-agent/rotate-key", body).status == 403
    operator = Caller.logged_in(person("operator", "shellagent.control_host"))
    assert operator.post("/api/local-agent/rotate-key", body).status == 200
    assert scene.poll().renew_key is True
    assert scene.poll().renew_key is False, "it is told once"
    assert tags(scene.host) == ["key_wished"]
    Host.objects.create(name="new")
    assert operator.post("/api/local-agent/rotate-key", {"host": "new"}).status == 409


def test_a_second_process_with_the_key_is_an_alarm(scene: Scene, superuser: Any) -> None:
    with pytest.raises(InstanceError):
        scene.poll(instance_id="copied")
    shown = Caller.logged_in(superuser)
    (host,) = shown.get("/api/local-agent/status").json["hosts"]
    assert host["another_instance_refused_at"]
    page = shown.client.get(f"/admin/shellagent/host/{scene.host.pk}/change/").content.decode()
    assert "A second process used this host" in page
    assert "copied" in page
    assert AuditEvent.objects.filter(tag="host:instance_refused").count() == 1
    enrolled(scene.host.name)
    (host,) = shown.get("/api/local-agent/status").json["hosts"]
    assert host["another_instance_refused_at"] is None
