"""The trail in the admin: for who may, read-only, found by what has an index, and reading it leaves a line."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEvent
from audit.trail import SYSTEM
from governance.policy.types import Maturity
from governance.services import key_issue
from shellagent.services import agent_host_set
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import ASKED, DENIED, Scene

LIST = "/admin/audit/auditevent/"


@pytest.fixture
def auditor(db: None) -> Reader:
    return staff("auditor", "audit.view_audit")


def tags(html: str) -> list[str]:
    return re.findall(r'<code class="atom-tag">([a-z_:]+)</code>', html)


def test_it_is_for_who_has_the_permission(scene: Scene, decider: Reader) -> None:
    decider.get(LIST, status=403)
    decider.get(f"{LIST}{AuditEvent.objects.all()[0].pk}/change/", status=403)
    assert "Audit" not in decider.get("/admin/")


def test_reading_is_itself_an_event(auditor: Reader, scene: Scene) -> None:
    auditor.get(f"{LIST}?q=session:denied")
    auditor.get(f"{LIST}{AuditEvent.objects.order_by('id')[0].pk}/change/")
    read = AuditEvent.objects.filter(tag="trail:read", actor_label="auditor")
    assert read.count() == 2
    assert '"q":"session:denied"' in read.order_by("id")[0].body


def test_search_by_session_tag_party_and_name(auditor: Reader, scene: Scene) -> None:
    denied, waiting = scene.session(DENIED), scene.session(ASKED)
    assert tags(auditor.get(f"{LIST}?q={waiting.pk}")) == ["session:pending"]
    assert tags(auditor.get(f"{LIST}?q=session:denied")) == ["session:denied"]
    agent = scene.agents[Maturity.STUDENT]
    key_issue(agent=agent, actor=SYSTEM)
    agent_host_set(agent=agent, host=scene.host, actor=SYSTEM)
    assert set(tags(auditor.get(f"{LIST}?q=agent:{agent.pk}"))) == {
        "agent_host:changed",
        "key:issued",
        "session:denied",
        "session:pending",
    }
    assert set(tags(auditor.get(f"{LIST}?q=uden"))) >= {"session:denied", "key:issued"}
    assert "Nothing matches" in auditor.get(f"{LIST}?q=nothing-of-that-name")
    assert str(denied.pk)[:13] in auditor.get(f"{LIST}?q={denied.pk}")


def test_filters(auditor: Reader, scene: Scene) -> None:
    scene.session(DENIED)
    key_issue(agent=scene.agents[Maturity.STUDENT], actor=SYSTEM)
    assert tags(auditor.get(f"{LIST}?about=key")) == ["key:issued"]
    assert tags(auditor.get(f"{LIST}?tag=session:denied")) == ["session:denied"]
    assert tags(auditor.get(f"{LIST}?outcome=denied")) == ["session:denied"]
    assert set(tags(auditor.get(f"{LIST}?actor=host"))) == {"host:enrolled"}


def test_it_counts_nothing(auditor: Reader, scene: Scene) -> None:
    with CaptureQueriesContext(connection) as found:
        auditor.get(LIST)
    assert not [query for query in found.captured_queries if "COUNT(" in query["sql"].upper()]


def test_nothing_in_it_can_be_changed(boss: Reader, scene: Scene) -> None:
    event = AuditEvent.objects.all()[0]
    boss.get(f"{LIST}add/", status=403)
    boss.post(f"{LIST}{event.pk}/delete/", status=403, post="yes")
    boss.post(f"{LIST}{event.pk}/change/", status=403, tag="x")
    boss.client.post(LIST, {"action": "delete_selected", "_selected_action": [event.pk], "post": "yes"})
    assert AuditEvent.objects.get(pk=event.pk).tag == event.tag


def test_the_body_is_shown_whole_and_as_text(auditor: Reader, scene: Scene) -> None:
    session = scene.session((Maturity.STUDENT, "ls /tmp"))
    html = auditor.get(f"{LIST}{AuditEvent.objects.get(session_id=session.pk).pk}/change/")
    for part in ("request_commitment", session.digest, "monotonic_us"):
        assert part in html
