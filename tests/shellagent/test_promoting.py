"""Trust is proposed by a record and given by a person; it is taken at once, with what the agent did."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.models import AuditEvent
from audit.trail import SYSTEM
from governance.errors import ConflictError, ForbiddenError, InvalidError
from governance.models import Agent, DemotionRow, PromotionProposal, Violation
from governance.policy.types import Maturity
from governance.services import agent_set_suspended, rule_save
from shellagent.models import ShellSession
from shellagent.protocol import Reason, RunOutcome
from shellagent.records import agent_record
from shellagent.services import (
    promotion_decline,
    promotion_grant,
    promotions_review,
    session_approve,
    session_reject,
)
from shellagent.states import Status
from tests.conftest import person
from tests.shellagent.scene import ALLOWED, ASKED, Scene, report, reread
from tests.shellagent.test_records import LEVEL, ended

PENDING = PromotionProposal.Status.PENDING


@pytest.fixture
def trainer(db: None) -> User:
    """Someone who may change maturities."""
    return person("trainer", "governance.change_maturity")


def earned(scene: Scene) -> PromotionProposal:
    """Let the student earn INTERN, and return the proposal."""
    for number in range(10):
        ended(scene, Status.SUCCEEDED, number)
    assert promotions_review() == {"proposed": 1, "withdrawn": 0}
    return PromotionProposal.objects.get(status=PENDING)


def maturity(scene: Scene, level: Maturity) -> str:
    return Agent.objects.get(pk=scene.agents[level].pk).maturity


def last_event(tag: str) -> Any:
    return json.loads(AuditEvent.objects.filter(tag=tag).latest("id").body)


def test_what_is_earned_is_proposed_once_and_granted_by_a_person(scene: Scene, trainer: User, outsider: User) -> None:
    proposal = earned(scene)
    assert promotions_review() == {"proposed": 0, "withdrawn": 0}
    assert maturity(scene, LEVEL) == "STUDENT"
    with pytest.raises(ForbiddenError):
        promotion_grant(proposal=proposal, person=outsider, reason="Earned.")
    with pytest.raises(InvalidError):
        promotion_grant(proposal=proposal, person=trainer, reason=" ")
    granted = promotion_grant(proposal=proposal, person=trainer, reason="It reads, and breaks nothing.")
    assert (granted.status, granted.decided_label, maturity(scene, LEVEL)) == ("granted", "trainer", "INTERN")
    data = last_event("agent:maturity_changed")["data"]
    assert (data["proposal"], data["reason"]) == (proposal.pk, "It reads, and breaks nothing.")
    with pytest.raises(ConflictError):
        promotion_decline(proposal=proposal, person=trainer, reason="Too late.")
    assert promotions_review() == {"proposed": 0, "withdrawn": 0}, "the next level is earned from here on"


def test_after_a_no_it_is_earned_anew(scene: Scene, trainer: User) -> None:
    promotion_decline(proposal=earned(scene), person=trainer, reason="Not yet.")
    assert maturity(scene, LEVEL) == "STUDENT"
    assert promotions_review() == {"proposed": 0, "withdrawn": 0}
    for number in range(10):
        ended(scene, Status.SUCCEEDED, number)
    assert promotions_review() == {"proposed": 1, "withdrawn": 0}


@pytest.mark.parametrize("is_at_night", [True, False])
def test_what_no_longer_holds_is_not_granted(scene: Scene, trainer: User, is_at_night: bool) -> None:
    proposal = earned(scene)
    for number in range(4):
        ended(scene, Status.REJECTED, 100 + number)
    if is_at_night:
        assert promotions_review() == {"proposed": 0, "withdrawn": 1}
    else:
        with pytest.raises(ConflictError, match="no longer"):
            promotion_grant(proposal=proposal, person=trainer, reason="Earned.")
    proposal.refresh_from_db()
    assert (proposal.status, maturity(scene, LEVEL)) == ("withdrawn", "STUDENT")
    assert "a score of 0.70" in proposal.reason
    assert last_event("promotion:withdrawn")["data"]["proposal"] == proposal.pk


def test_a_suspended_agent_is_not_proposed(scene: Scene) -> None:
    earned(scene)
    agent_set_suspended(agent=scene.agents[LEVEL], is_suspended=True, reason="x", actor=SYSTEM)
    assert promotions_review() == {"proposed": 0, "withdrawn": 1}


@pytest.mark.parametrize("command", ["sudo reboot", "cat ~/.ssh/id_rsa"])
def test_a_violation_demotes_at_once_and_what_is_queued_is_decided_again(scene: Scene, command: str) -> None:
    queued = scene.session((Maturity.AUTONOMOUS, "touch /tmp/note"))
    assert queued.status == Status.QUEUED
    denied = scene.session((Maturity.AUTONOMOUS, command))
    assert maturity(scene, Maturity.AUTONOMOUS) == "SUPERVISED"
    violation = Violation.objects.get()
    assert violation.session_id == denied.pk
    data = last_event("agent:maturity_changed")["data"]
    assert (data["rule"], data["session"]) == (violation.kind, str(denied.pk))
    assert scene.poll().sessions == ()
    assert reread(queued).status == Status.PENDING
    assert agent_record(Agent.objects.get(pk=denied.agent_id)).violations == 1


def test_what_no_row_lists_or_a_person_asks_for_demotes_nobody(scene: Scene, requester: User) -> None:
    DemotionRow.objects.filter(kind="blocked-command").delete()
    scene.session((Maturity.AUTONOMOUS, "sudo reboot"))
    assert (maturity(scene, Maturity.AUTONOMOUS), Violation.objects.count()) == ("AUTONOMOUS", 1)
    rule_save(row=DemotionRow(kind="blocked-command", times=3), actor=SYSTEM)
    for expected in ("AUTONOMOUS", "SUPERVISED", "SUPERVISED", "SUPERVISED", "INTERN"):
        scene.session((Maturity.AUTONOMOUS, "sudo reboot"))
        assert maturity(scene, Maturity.AUTONOMOUS) == expected
    before = Violation.objects.count()
    scene.session((Maturity.STUDENT, "sudo reboot"))
    assert (maturity(scene, Maturity.STUDENT), Violation.objects.count()) == ("STUDENT", before + 1)


def test_three_rejections_in_a_row_demote_and_an_approval_between_breaks_the_row(scene: Scene, approver: User) -> None:
    level = Maturity.INTERN

    def decided(word: str) -> str:
        session = scene.session((level, "ls /tmp"))
        if word == "yes":
            session_approve(session=session, approver=approver)
        else:
            session_reject(session=session, approver=approver, reason="No.")
        scene.session(ALLOWED)  # another's, which breaks no row
        return maturity(scene, level)

    assert [decided(word) for word in ("no", "no", "yes", "no", "no")] == ["INTERN"] * 5
    assert decided("no") == "STUDENT"
    assert decided("no") == "STUDENT"


def test_what_a_host_refuses_demotes_where_a_row_lists_it(scene: Scene) -> None:
    rule_save(row=DemotionRow(kind="host-refusals", times=2), actor=SYSTEM)
    for reason, expected in (
        (Reason.BAD_GRANT, "AUTONOMOUS"),
        (Reason.HOST_CEILING, "AUTONOMOUS"),
        (Reason.HOST_CEILING, "SUPERVISED"),
    ):
        session = scene.session(ALLOWED)
        ShellSession.objects.filter(pk=session.pk).update(status=Status.CLAIMED, lease_expires_at=session.created_at)
        refused = report(reread(session), RunOutcome.REFUSED, reason=reason, start_key="", exit_codes=(None,))
        assert scene.record(refused) == {str(session.pk): "recorded"}
        assert maturity(scene, Maturity.AUTONOMOUS) == expected
    assert agent_record(scene.agents[Maturity.AUTONOMOUS]).counts.refused == 3


def test_the_agents_own_page_of_the_api_says_what_is_lacking(scene: Scene) -> None:
    ended(scene, Status.SUCCEEDED)
    scene.session(ASKED)
    shown = scene.as_agent(LEVEL).call("GET", f"/api/agents/{scene.agents[LEVEL].pk}").json
    assert (shown["maturity"], shown["next_maturity"], shown["is_proposed"]) == ("STUDENT", "INTERN", False)
    assert shown["record"]["asked"] == 2
    assert shown["record"]["decided"] == 1
    assert shown["record"]["score"] == 1.0
    (gap,) = shown["gaps"]
    assert (gap["what"], gap["has"], gap["needs"]) == ("decided", "1", "10")
    assert "9 more different commands" in gap["words"]
