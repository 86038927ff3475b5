"""What the trail has to tell of, and the event that does: docs/reference/events.md has the same list."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from audit.models import AuditEvent, AuditPayload
from audit.tags import Tag
from audit.trail import SYSTEM
from governance import policies
from governance.policies import current_policy
from governance.policy.types import Maturity
from governance.services import agent_set_maturity
from shellagent.protocol import VERSION, OutputRequest, OutputSegment
from shellagent.services import agent_host_delete, agent_host_set, host_set_enabled, output_append
from tests.shellagent.scene import ALLOWED, ASKED, DENIED, Scene, enrolled, report, reread

EVENTS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "events.md"


def test_every_question_of_a_reviewer_has_its_event() -> None:
    """Each row of the list names events that there are, and no event of the product answers none of them."""
    text = EVENTS.read_text()
    (section,) = re.findall(r"^## Which event says so\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    answered = set(re.findall(r"`([a-z_]+:[a-z_]+)`", section))
    assert answered == {tag.value for tag in Tag}


def data_of(tag: Tag, **where: Any) -> dict[str, Any]:
    """Return the data of the newest event with a tag."""
    return dict(json.loads(AuditEvent.objects.filter(tag=tag, **where).latest("id").body)["data"])


def test_every_event_of_a_session_is_found_by_agent_host_and_category(scene: Scene) -> None:
    session = scene.running()
    scene.record(report(session))
    for other in (scene.session(ASKED), scene.session(DENIED)):
        assert other.agent_id != session.agent_id
    events = list(AuditEvent.objects.filter(session_id=session.pk))
    assert len(events) == 4
    about = {(event.agent_id, event.host_id, event.category) for event in events}
    assert about == {(session.agent_id, session.host_id, session.category)}


def test_live_output_is_committed_to_and_a_record_commits_to_what_is_new(scene: Scene) -> None:
    session = scene.running()
    segments = (OutputSegment.of("stdout", 0, b"one"), OutputSegment.of("stderr", 0, b"two"))
    request = OutputRequest(VERSION, session.start_key, segments)
    for _ in range(2):  # sent again, because the answer was lost: nothing new is stored, and nothing told
        output_append(host=scene.host, session_id=session.pk, request=request)
    told = data_of(Tag.SESSION_OUTPUT, session_id=session.pk)["segments"]
    assert [(item["stream"], item["offset"], item["bytes"]) for item in told] == [("stdout", 0, 3), ("stderr", 0, 3)]
    assert AuditEvent.objects.filter(tag=Tag.SESSION_OUTPUT).count() == 1
    end = (OutputSegment.of("stdout", 0, b"one"), OutputSegment.of("stdout", 3, b" more"))
    scene.record(report(reread(session), output=end))
    result = data_of(Tag.SESSION_SUCCEEDED, session_id=session.pk)
    stored = AuditPayload.objects.filter(session_id=session.pk, kind__in=["stdout", "stderr"])
    committed = {item["commitment"] for item in [*told, *result["segments"]]}
    assert committed == {hashlib.sha256(bytes(row.salt) + bytes(row.data)).hexdigest() for row in stored}
    assert [(item["stream"], item["offset"], item["bytes"]) for item in result["segments"]] == [("stdout", 3, 5)]


def test_changes_say_what_was_before_and_after(scene: Scene) -> None:
    agent, host = scene.agents[Maturity.STUDENT], scene.host
    agent_set_maturity(agent=agent, maturity=Maturity.INTERN, reason="why", actor=SYSTEM)
    data = data_of(Tag.AGENT_MATURITY_CHANGED)
    assert (data["before"], data["after"]) == ("STUDENT", "INTERN")
    link = agent_host_set(agent=agent, host=host, actor=SYSTEM, working_directory="/srv", is_default=True)
    data = data_of(Tag.AGENT_HOST_CHANGED, host_id=host.pk)
    assert (data["before"]["working_directory"], data["after"]["working_directory"]) == ("", "/srv")
    agent_host_delete(link=link, actor=SYSTEM)
    assert data_of(Tag.AGENT_HOST_DELETED)["before"]["working_directory"] == "/srv"
    host_set_enabled(host=host, is_enabled=False, actor=SYSTEM)
    assert data_of(Tag.HOST_CHANGED) == {"is_enabled": False}


def test_a_hosts_new_key_names_the_one_that_it_replaces(scene: Scene) -> None:
    enrolled("again")
    first = data_of(Tag.HOST_ENROLLED)
    enrolled("again")
    second = data_of(Tag.HOST_ENROLLED)
    assert (first["prefix_before"], second["prefix_before"]) == ("", first["prefix"])


def test_other_tables_are_told_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a process that has told nobody yet.
    monkeypatch.setattr(policies, "_told_of_tables", "")
    monkeypatch.setattr(policies, "_kept", None)
    current_policy()
    before = AuditEvent.objects.filter(tag=Tag.POLICY_TABLES_CHANGED).count()
    shipped = policies._shipped()
    monkeypatch.setattr(policies, "_shipped", lambda: {**shipped, "git.toml": "f" * 64})
    monkeypatch.setattr(policies, "_told_of_tables", "")
    monkeypatch.setattr(policies, "_kept", None)
    current_policy()
    data = data_of(Tag.POLICY_TABLES_CHANGED)
    assert (data["changed"], data["before"]["git.toml"]) == (["git.toml"], shipped["git.toml"])
    current_policy()
    assert AuditEvent.objects.filter(tag=Tag.POLICY_TABLES_CHANGED).count() == before + 1
    assert scene.session(ALLOWED).outcome == "allow"
