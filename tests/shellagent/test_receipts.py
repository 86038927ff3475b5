"""Receipts in the answers of `execute` and `approve`, whichever form they were asked in."""

import html
import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from audit import sealing
from audit.models import AuditEvent
from audit.trail_keys import trail_keys
from audit.verifying import verify_receipt
from audit.verifying_report import Verdict
from tests.shellagent.scene import ALLOWED, ASKED, DENIED, Scene

EXECUTE, APPROVE = "/api/local-agent/execute", "/api/local-agent/approve"


def is_of(receipt: dict[str, str], tag: str, session_id: str) -> bool:
    """Return whether a receipt is of this event of a session, and holds."""
    sealing.seal(timezone.now())
    event = AuditEvent.objects.get(uid=receipt["uid"])
    assert (event.hash, event.signature) == (receipt["hash"], receipt["signature"])
    assert verify_receipt(trail_keys().public, receipt).verdict is Verdict.SOUND
    return (event.tag, str(event.session_id)) == (tag, session_id)


@pytest.mark.parametrize(
    ("kind", "tag"),
    [(ALLOWED, "session:queued"), (ASKED, "session:pending"), (DENIED, "session:denied")],
    ids=["allowed", "asked", "denied"],
)
def test_whoever_asks_gets_that_of_the_request(scene: Scene, kind: Any, tag: str) -> None:
    body, headers = {"command": kind[1]}, {"HTTP_IDEMPOTENCY_KEY": "once"}
    answer = scene.as_agent(kind[0]).post(EXECUTE, body, **headers)
    session = answer.json.get("session_id") or answer.json["id"]
    assert is_of(answer.json["receipt"], tag, session)
    again = scene.as_agent(kind[0]).post(EXECUTE, body, **headers)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json["receipt"] == answer.json["receipt"]


@pytest.mark.parametrize(("decision", "tag"), [("approve", "session:queued"), ("reject", "session:rejected")])
def test_whoever_decides_gets_that_of_the_decision(scene: Scene, approver: User, decision: str, tag: str) -> None:
    session, client = scene.session(ASKED), APIClient()
    client.force_login(approver)
    body = {"session_id": str(session.pk), "decision": decision, "reason": "why"}
    assert is_of(client.post(APPROVE, body, format="json").json()["receipt"], tag, str(session.pk))


def test_the_browsable_pages_show_them_after_their_forms(scene: Scene, superuser: User, approver: User) -> None:
    def sent(user: User, path: str, **fields: Any) -> dict[str, Any]:
        client = APIClient()
        client.force_login(user)
        page = client.post(path, fields, format="multipart", HTTP_ACCEPT="text/html")
        shown = re.sub(r"<[^>]+>", "", page.content.decode().split('class="response-info"')[1].split("</pre>")[0])
        found: dict[str, Any] = json.loads(html.unescape(shown[shown.index("{") :]))
        return found

    agent = scene.agents[ASKED[0]]
    asked = sent(superuser, EXECUTE, agent_id=agent.pk, command=ASKED[1])
    assert is_of(asked["receipt"], "session:pending", asked["id"])
    decided = sent(approver, APPROVE, session_id=asked["id"], decision="approve")
    assert is_of(decided["receipt"], "session:queued", asked["id"])
