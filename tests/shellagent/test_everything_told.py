"""Everything that happens is in the trail, with who, from where, and what a reviewer needs of it: kind by kind.

Beside what other tests hold: logins and permissions (`test_people`), erasure, promotions, hosts' keys and scripts.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command

from audit import trail_keys
from audit.models import AuditEvent, AuditPayload
from audit.tags import Tag
from audit.trail import SYSTEM
from governance.services import user_party
from shellagent import limits
from shellagent.models import ShellSession
from shellagent.notifying.kinds import Kind
from shellagent.notifying.models import CallbackPlace, Sink
from shellagent.notifying.services import (
    address_checked,
    callback_place_delete,
    callback_place_save,
    sink_delete,
    sink_save,
    sink_secret_issue,
)
from shellagent.protocol import Reason, RunOutcome
from shellagent.services import killswitch_off, killswitch_on, leases_tidy, session_cancel, sessions_expire
from tests.shellagent.scene import ALLOWED, ASKED, DENIED, Caller, Scene, report, reread
from tests.shellagent.test_claims import lease_ends, server_started


def told(tag: Tag, **where: Any) -> dict[str, Any]:
    """Return the body of the one event with a tag."""
    return dict(json.loads(AuditEvent.objects.get(tag=tag, **where).body))


@pytest.mark.parametrize(("kind", "tag"), [(ALLOWED, "queued"), (ASKED, "pending"), (DENIED, "denied")])
def test_a_request_and_the_decision_with_its_explanation(scene: Scene, kind: Any, tag: str) -> None:
    session = scene.session(kind, reason="to see")
    body = told(Tag(f"session:{tag}"))
    data = body["data"]
    assert (body["actor"]["type"], body["actor"]["label"], body["session_seq"]) == ("agent", kind[0].lower(), 1)
    assert (data["digest"], data["category"], data["maturity"]) == (session.digest, session.category, str(kind[0]))
    assert data["rules"]
    stored = {row.kind: bytes(row.data) for row in AuditPayload.objects.filter(session_id=session.pk)}
    salts = {row.kind: bytes(row.salt) for row in AuditPayload.objects.filter(session_id=session.pk)}
    for name in ("request", "decision"):
        assert data[f"{name}_commitment"] == hashlib.sha256(salts[name] + stored[name]).hexdigest()
    assert json.loads(stored["decision"])["explanation"]
    assert b"to see" in stored["request"]


@pytest.mark.parametrize(("decision", "tag"), [("approve", Tag.SESSION_QUEUED), ("reject", Tag.SESSION_REJECTED)])
def test_who_decided_from_where_and_why(scene: Scene, approver: User, decision: str, tag: Tag) -> None:
    session = scene.session(ASKED)
    body = {"session_id": str(session.pk), "decision": decision, "reason": "because", "digest": session.digest}
    headers = {"REMOTE_ADDR": "198.51.100.7", "HTTP_USER_AGENT": "a browser"}
    assert Caller.logged_in(approver).post("/api/local-agent/approve", body, **headers).status == 200
    said = told(tag)
    assert said["actor"] == {"type": "user", "id": str(approver.pk), "label": "approver"}
    assert said["origin"] == {"address": "198.51.100.7", "user_agent": "a browser"}
    assert said["data"]["digest"] == session.digest


def test_a_run_from_the_claim_to_the_result_reads_as_one_story(scene: Scene) -> None:
    session = scene.running()
    scene.record(report(session, RunOutcome.FAILED, exit_codes=(3,), reason=Reason.EXIT))
    bodies = [json.loads(row.body) for row in AuditEvent.objects.filter(session_id=session.pk).order_by("session_seq")]
    assert [body["session_seq"] for body in bodies] == [1, 2, 3, 4]
    assert {(body["actor"]["type"], body["actor"]["label"]) for body in bodies[1:]} == {("host", "here")}
    claimed, running, failed = (body["data"] for body in bodies[1:])
    assert claimed["instance_id"]
    assert running["start_key"] == session.start_key
    assert (failed["exit_codes"], failed["reason"]) == ([3], "exit")
    assert failed["record"]
    assert {f"{stream}_{what}" for stream in ("stdout", "stderr") for what in ("bytes", "sha256")} <= failed.keys()


def test_a_cancel_before_the_start_and_one_after(scene: Scene, approver: User) -> None:
    waiting, running = scene.session(ASKED), scene.running()
    for session in (waiting, running):
        session_cancel(session=session, actor=user_party(approver), reason="a mistake")
    for tag, session in ((Tag.SESSION_CANCELLED, waiting), (Tag.SESSION_CANCEL_REQUESTED, running)):
        body = told(tag, session_id=session.pk)
        assert (body["actor"]["label"], body["data"]["reason"]) == ("approver", "a mistake")
    scene.record(report(reread(running), RunOutcome.ABORTED, exit_codes=(None,), reason=Reason.CANCEL))
    assert told(Tag.SESSION_ABORTED)["data"]["reason"] == "cancel"


def test_what_is_lost_and_what_comes_late_or_is_refused(scene: Scene) -> None:
    lost = scene.running()
    server_started(seconds_ago=3600)
    lease_ends(lost, limits.LOST_AFTER_SECONDS + 1)
    assert leases_tidy() == (1, 0)
    scene.record(report(lost))
    assert told(Tag.SESSION_LOST)["actor"]["type"] == "system"
    late = told(Tag.SESSION_LATE_RESULT)["data"]
    assert (late["outcome"], len(late["segments"]), bool(late["record"])) == ("succeeded", 1, True)
    refused = scene.claimed()
    scene.record(
        report(refused, RunOutcome.REFUSED, start_key="", exit_codes=(), reason=Reason.HOST_CEILING, output=())
    )
    body = told(Tag.SESSION_REFUSED)
    assert (body["actor"]["label"], body["data"]["reason"]) == ("here", str(Reason.HOST_CEILING))


def test_the_kill_switch_says_who_what_and_why(scene: Scene, approver: User) -> None:
    actor = user_party(approver)
    killswitch_on(reason="an incident", actor=actor, user=approver, host=scene.host)
    killswitch_off(reason="it is over", actor=actor, user=approver, host=scene.host)
    for tag, reason in ((Tag.KILL_SWITCH_ON, "an incident"), (Tag.KILL_SWITCH_OFF, "it is over")):
        body = told(tag)
        assert (body["actor"]["label"], body["data"]["reason"]) == ("approver", reason)
        assert (body["subject"]["type"], body["about"]["host"]) == ("host", scene.host.pk)


def test_a_new_key_of_the_trail(db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail_keys.create(tmp_path)
    monkeypatch.setattr(settings, "ATOM_KEYS", str(tmp_path))
    call_command("rotate_audit_key")
    after = trail_keys.read(tmp_path / trail_keys.FILE)
    verifier = trail_keys.verifier_text(after.log, after.public.keys[after.id])
    assert told(Tag.AUDIT_KEY_ROTATED)["data"] == {"key": verifier}


def test_where_messages_and_callbacks_go(db: None) -> None:
    checked = address_checked(Sink.Way.WEBHOOK, "https://hooks.example.com/x?token=hidden")
    sink = Sink(name="team", way=Sink.Way.WEBHOOK, owner=None, kinds=[Kind.FINISHED])
    place = CallbackPlace(prefix="https://ci.example.com/")
    sink_save(sink=sink, actor=SYSTEM, address=checked)
    sink_secret_issue(sink=sink, actor=SYSTEM)
    sink_delete(sink=sink, actor=SYSTEM)
    callback_place_save(place=place, actor=SYSTEM)
    callback_place_delete(place=place, actor=SYSTEM)
    for made, gone in (
        (Tag.SINK_CHANGED, Tag.SINK_DELETED),
        (Tag.CALLBACK_PLACE_CHANGED, Tag.CALLBACK_PLACE_DELETED),
    ):
        before, after = told(made)["data"]["before"], told(made)["data"]["after"]
        assert before is None
        assert told(gone)["data"] == {"before": after}
    assert told(Tag.SINK_SECRET_ISSUED)["subject"]["label"] == "team"
    assert not AuditEvent.objects.filter(body__contains="hidden").exists()


def test_a_session_that_nobody_took_expires(scene: Scene) -> None:
    session = scene.session(ASKED)
    ShellSession.objects.filter(pk=session.pk).update(expires_at=session.created_at)
    assert sessions_expire() == 1
    body = told(Tag.SESSION_EXPIRED)
    assert (body["actor"]["type"], body["session_id"]) == ("system", str(session.pk))
