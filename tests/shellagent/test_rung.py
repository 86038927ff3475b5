"""How far stopping a session had to go: kept, told and audited."""

import json

import pytest

from audit.models import AuditEvent
from audit.tags import Tag
from shellagent.models import ExecutionRecord
from shellagent.protocol import Rung, RunOutcome
from shellagent.representation import session_json
from tests.shellagent.scene import Scene, report, reread


@pytest.mark.django_db
def test_the_rung_of_a_record(scene: Scene) -> None:
    session = scene.running()
    assert session_json(session)["rung"] is None
    scene.record(report(session, RunOutcome.TIMED_OUT, rung=Rung.SWEEP))
    assert ExecutionRecord.objects.get(session=session).rung == "sweep"
    assert session_json(reread(session))["rung"] == "sweep"
    event = AuditEvent.objects.get(tag=Tag.SESSION_TIMED_OUT)
    assert json.loads(event.body)["data"]["rung"] == "sweep"
