"""Approving and rejecting what may not be: decided already, expired, one's own, or not there."""

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User

from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM
from governance.policy.types import Maturity
from shellagent.errors import StateError
from shellagent.models import (
    Approval,
    ShellSession,
)
from shellagent.services import session_approve, session_cancel
from tests.shellagent.scene import (
    ASKED,
    Caller,
    Scene,
    report,
    rows,
    tags,
)


class TestApproving:
    @pytest.fixture
    def pending(self, scene: Scene) -> ShellSession:
        return scene.session(ASKED)

    def decide(self, caller: Caller, session: object, decision: str = "approve", **body: Any) -> Any:
        return caller.post("/api/local-agent/approve", {"session_id": str(session), "decision": decision, **body})

    @pytest.mark.parametrize("status", ["queued", "rejected", "expired", "cancelled", "denied", "succeeded"])
    @pytest.mark.parametrize("decision", ["approve", "reject"])
    def test_what_is_decided_already(
        self, scene: Scene, pending: ShellSession, approver: User, status: str, decision: str
    ) -> None:
        ShellSession.objects.filter(pk=pending.pk).update(status=status)
        before = rows()
        answer = self.decide(Caller.logged_in(approver), pending.pk, decision, reason="because")
        assert (answer.status, answer.problem, answer.json["next_action"]) == (409, "conflict", "none")
        assert answer.json["status_now"] == status
        assert rows() == before
        assert tags(pending) == ["pending"]

    @pytest.mark.parametrize("decision", ["approve", "reject"])
    @pytest.mark.parametrize("others", [0, 600])
    def test_what_expired(
        self, scene: Scene, pending: ShellSession, approver: User, decision: str, others: int
    ) -> None:
        """Also where so much else expired that one round of tidying does not reach it."""
        ShellSession.objects.filter(pk=pending.pk).update(expires_at=pending.created_at)
        pending.refresh_from_db()
        copies = []
        for number in range(others):
            copy = ShellSession.objects.get(pk=pending.pk)
            copy.pk, copy.event_seq = uuid4(), 0
            copy.expires_at = pending.created_at.replace(year=2020)
            copy.queue_key = number
            copies.append(copy)
        ShellSession.objects.bulk_create(copies)
        answer = self.decide(Caller.logged_in(approver), pending.pk, decision, reason="because")
        assert (answer.status, answer.json["status_now"]) == (409, "expired")
        assert not Approval.objects.exists()
        assert tags(pending) == ["pending", "expired"]

    def test_ones_own(self, scene: Scene, requester: User, superuser: User) -> None:
        for user in (requester, superuser):
            caller = Caller.logged_in(user)
            session = caller.execute(agent_id=scene.agents[Maturity.STUDENT].pk).json
            answer = self.decide(caller, session["id"])
            assert (answer.status, answer.problem, answer.json["next_action"]) == (403, "forbidden", "stop")
            assert tags(ShellSession.objects.get(pk=session["id"])) == ["pending"]
        refused = AuditEvent.objects.filter(tag=Tag.APPROVAL_REFUSED).order_by("id")
        assert [event.actor_label for event in refused] == ["requester", "superuser"]

    def test_an_owner_where_owners_may_not(self, scene: Scene, pending: ShellSession, settings: Any) -> None:
        scene.owner.is_superuser = True
        scene.owner.save()
        settings.ATOM_OWNER_MAY_APPROVE = False
        assert self.decide(Caller.logged_in(scene.owner), pending.pk).status == 403
        settings.ATOM_OWNER_MAY_APPROVE = True
        assert self.decide(Caller.logged_in(scene.owner), pending.pk).status == 200

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({}, "session_id"),
            ({"session_id": "no", "decision": "approve"}, "session_id"),
            ({"session_id": str(uuid4())}, "decision"),
            ({"session_id": str(uuid4()), "decision": "maybe"}, "decision"),
            ({"session_id": str(uuid4()), "decision": "approve", "digest": "x"}, "digest"),
        ],
    )
    def test_a_body_that_is_wrong(self, approver: User, body: dict[str, str], says: str) -> None:
        answer = Caller.logged_in(approver).post("/api/local-agent/approve", body)
        assert (answer.status, answer.problem) == (400, "invalid")
        assert says in answer.json["detail"]

    def test_a_rejection_needs_a_reason(self, pending: ShellSession, approver: User) -> None:
        for reason in ("", "  "):
            answer = self.decide(Caller.logged_in(approver), pending.pk, "reject", reason=reason)
            assert (answer.status, answer.json["field"]) == (400, "reason")
        assert tags(pending) == ["pending"]

    def test_an_unknown_session(self, approver: User) -> None:
        assert self.decide(Caller.logged_in(approver), uuid4()).problem == "not-found"

    @pytest.mark.parametrize(("decision", "status"), [("approve", "queued"), ("reject", "rejected")])
    def test_a_decision_is_about_what_was_seen(
        self, pending: ShellSession, approver: User, decision: str, status: str
    ) -> None:
        caller = Caller.logged_in(approver)
        seen = caller.get(f"/api/local-agent/sessions/{pending.pk}").json["digest"]
        answer = self.decide(caller, pending.pk, decision, reason="because", digest="0" * 64)
        assert (answer.status, answer.problem) == (409, "conflict")
        assert "changed since you saw it" in answer.json["detail"]
        assert (tags(pending), Approval.objects.count()) == (["pending"], 0)
        answer = self.decide(caller, pending.pk, decision, reason="because", digest=seen)
        assert (answer.status, answer.json["status"], answer.json["digest"]) == (200, status, seen)

    def test_what_changed_between_the_look_and_the_lock(self, pending: ShellSession, approver: User) -> None:
        """The session that was read is what the approver saw; by the time of the lock it is not any more."""
        ShellSession.objects.filter(pk=pending.pk).update(digest="0" * 64)
        with pytest.raises(StateError, match="changed since you saw it"):
            session_approve(session=pending, approver=approver, digest=pending.digest)
        assert tags(pending) == ["pending"]

    def test_the_agent_gets_the_reason(self, scene: Scene, pending: ShellSession, approver: User) -> None:
        self.decide(Caller.logged_in(approver), pending.pk, "reject", reason="not on Sundays")
        shown = scene.as_agent(Maturity.STUDENT).get(f"/api/local-agent/sessions/{pending.pk}").json
        assert (shown["status"], shown["next_action"]) == ("rejected", "revise")
        assert shown["approval"]["reason"] == "not on Sundays"
        assert shown["approval"]["by"] == "approver"


def test_cancelling_what_has_ended(scene: Scene) -> None:
    session = scene.running()
    scene.record(report(session))
    answer = scene.as_agent(Maturity.AUTONOMOUS).post(f"/api/local-agent/sessions/{session.pk}/cancel")
    assert (answer.status, answer.problem, answer.json["status_now"]) == (409, "conflict", "succeeded")
    assert tags(session)[-1] == "succeeded"


def test_an_approval_after_a_cancel(scene: Scene, approver: User) -> None:
    session = scene.session(ASKED)
    session_cancel(session=session, actor=SYSTEM)
    with pytest.raises(Exception, match="cancelled already"):
        session_approve(session=session, approver=approver)
