"""Hosts: enrolled by a code that is shown once, started and stopped by who may."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from audit.models import AuditEvent
from shellagent.admin_hosts import CODE_VARIABLE
from shellagent.host import localagent
from shellagent.models import EnrolmentCode, Host
from shellagent.services import host_enrol
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import FACTS, Scene

LIST = "/admin/shellagent/host/"


def test_enrolling_shows_the_command_that_works(scene: Scene, boss: Reader) -> None:
    html = boss.post(f"{LIST}enrol/", status=200, name="build-7")
    command = r"\.venv/bin/python manage\.py localagent enroll --backend-url (\S+)<"
    found = re.search(rf"{CODE_VARIABLE}=(ate_[\w-]+) {command}", html)
    assert found
    code = found.group(1)
    assert code not in boss.get(f"{LIST}{Host.objects.get(name='build-7').pk}/change/")
    host, _key = host_enrol(code=code, facts=FACTS)
    assert host.name == "build-7"
    assert AuditEvent.objects.filter(tag="host:enrolment_issued", actor_label="superuser").count() == 1


def test_the_variable_is_the_one_that_the_command_reads() -> None:
    assert CODE_VARIABLE == localagent.CODE_VARIABLE


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 61, "x\n"])
def test_a_bad_name_issues_nothing(db: None, boss: Reader, name: str) -> None:
    html = boss.client.post(f"{LIST}enrol/", {"name": name}).content.decode()
    assert "errorlist" in html
    assert not EnrolmentCode.objects.exists()


def test_stopping_and_starting(scene: Scene, boss: Reader) -> None:
    path = f"{LIST}{scene.host.pk}/control/"
    assert "takes nothing more" in boss.post(path, wanted="stop")
    assert Host.objects.get(pk=scene.host.pk).desired_state == "stopped"
    assert "takes commands again" in boss.post(path, wanted="start")
    assert Host.objects.get(pk=scene.host.pk).desired_state == "running"
    assert "opens nothing" in boss.post(path, wanted="disable")
    assert not Host.objects.get(pk=scene.host.pk).is_enabled
    assert "Not done." in boss.post(path, wanted="disable")
    assert "its key works" in boss.post(path, wanted="enable")
    assert "Not done." in boss.post(path, wanted="explode")
    tags = AuditEvent.objects.filter(actor_label="superuser").order_by("id").values_list("tag", flat=True)
    assert [tag for tag in tags if tag.startswith("host:")] == [
        "host:stopped",
        "host:started",
        "host:changed",
        "host:changed",
    ]


def test_control_is_for_who_has_the_permission(scene: Scene) -> None:
    viewer = staff("viewer", "shellagent.view_host")
    html = viewer.get(f"{LIST}{scene.host.pk}/change/")
    assert "Stop taking commands" not in html
    assert "Enrol a host" not in viewer.get(LIST)
    viewer.post(f"{LIST}{scene.host.pk}/control/", status=403, wanted="stop")
    viewer.get(f"{LIST}enrol/", status=403)
    viewer.post(f"{LIST}enrol/", status=403, name="mine")
    assert Host.objects.get(pk=scene.host.pk).desired_state == "running"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "online"),
        ({"last_seen_at": timezone.now() - timedelta(minutes=2)}, "offline"),
        ({"desired_state": "stopped"}, "stopped"),
        ({"is_enabled": False}, "disabled"),
        ({"key_digest": None}, "waiting"),
    ],
)
def test_liveness_is_shown(scene: Scene, boss: Reader, changes: dict[str, object], word: str) -> None:
    Host.objects.filter(pk=scene.host.pk).update(**{"last_seen_at": timezone.now(), **changes})
    for path in (LIST, f"{LIST}{scene.host.pk}/change/", "/admin/"):
        assert re.search(rf'class="atom-badge[^"]*atom-is-{word}">{word}<', boss.get(path)), path


def test_a_host_is_not_changed_by_a_form(scene: Scene, boss: Reader) -> None:
    boss.post(f"{LIST}{scene.host.pk}/change/", status=403, name="other")
    boss.post(f"{LIST}{scene.host.pk}/delete/", status=403, post="yes")
    boss.get(f"{LIST}add/", status=403)


def test_what_a_host_reports_is_shown_as_text(scene: Scene, boss: Reader) -> None:
    Host.objects.filter(pk=scene.host.pk).update(
        facts={"hostname": "<b>x</b>\x1b[2J"}, protections=["<i>"], version="<u>"
    )
    html = boss.get(f"{LIST}{scene.host.pk}/change/") + boss.get(LIST)
    for markup in ("<b>x", "<i>", "<u>", "\x1b"):
        assert markup not in html
