"""What changes between request, approval, claim and start is decided again, and the stricter decision counts."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import AuditEvent, AuditPayload
from audit.trail import SYSTEM
from governance.models import Agent, DirectoryRow, MatrixRow, PolicyRule, PolicyVersion
from governance.policies import current_policy
from governance.policy.content import policy_from
from governance.policy.types import Category, Maturity, Outcome
from governance.services import agent_set_maturity, agent_set_suspended, rule_delete, rule_save
from shellagent.errors import StateError
from shellagent.models import AgentHost, Approval, Decision, Host, ShellSession
from shellagent.protocol import GrantStatus
from shellagent.replaying import sessions_replay
from shellagent.services import agent_host_delete, agent_host_set, session_approve
from shellagent.states import Status
from tests.shellagent.scene import ALLOWED, ASKED, Scene, reread, tags

#: A command that governance asks about from SUPERVISED down, and allows an AUTONOMOUS agent.
WRITE = "touch /tmp/note"


def suspend(scene: Scene, maturity: Maturity) -> None:
    agent_set_suspended(agent=scene.agents[maturity], is_suspended=True, reason="test", actor=SYSTEM)


def take_host_away(scene: Scene, maturity: Maturity) -> None:
    link = AgentHost.objects.get(agent=scene.agents[maturity], host=scene.host)
    agent_host_delete(link=link, actor=SYSTEM)


def deny_reading(scene: Scene, maturity: Maturity) -> None:
    for row in MatrixRow.objects.filter(category=Category.READ, maturity=maturity):
        row.outcome = Outcome.DENY
        rule_save(row=row, actor=SYSTEM)


def remove_the_row(scene: Scene, maturity: Maturity) -> None:
    rule_delete(row=MatrixRow.objects.get(category=Category.READ, maturity=maturity), actor=SYSTEM)


def demote(scene: Scene, maturity: Maturity) -> None:
    agent_set_maturity(agent=scene.agents[maturity], maturity=Maturity.STUDENT, reason="test", actor=SYSTEM)


def cap(scene: Scene, maturity: Maturity) -> None:
    agent_host_set(
        agent=scene.agents[maturity],
        host=scene.host,
        actor=SYSTEM,
        is_default=True,
        maturity_cap=Maturity.STUDENT,
    )


def ask_for_reading(scene: Scene, maturity: Maturity) -> None:
    row = MatrixRow.objects.get(category=Category.READ, maturity=maturity)
    row.outcome = Outcome.ASK
    rule_save(row=row, actor=SYSTEM)


def add_rule(outcome: Outcome, tokens: str = "ls", **columns: object) -> PolicyRule:
    """Add an operator's rule; one that allows is over in an hour."""
    until = timezone.now() + timedelta(hours=1) if outcome is Outcome.ALLOW else None
    row = PolicyRule(
        name=f"{outcome} {tokens}",
        tokens=tokens,
        outcome=outcome,
        justification="The operator said so.",
        expires_at=until,
        examples=[tokens],
        **columns,
    )
    rule_save(row=row, actor=SYSTEM)
    return row


def forbid(scene: Scene, maturity: Maturity) -> None:
    add_rule(Outcome.DENY, agents=[scene.agents[maturity].name], hosts=[scene.host.name])


def ask_first(scene: Scene, maturity: Maturity) -> None:
    add_rule(Outcome.ASK, most_maturity=maturity)


DENYING = [suspend, take_host_away, deny_reading, remove_the_row, forbid]
ASKING = [demote, cap, ask_for_reading, ask_first]
Change = Callable[[Scene, Maturity], None]


def decisions(session: ShellSession) -> list[tuple[str, str]]:
    return list(Decision.objects.filter(session=session).order_by("number").values_list("moment", "outcome"))


def commitments_are_in_the_trail(session: ShellSession) -> None:
    """Every stored decision is committed to by an event of the session."""
    said = "".join(AuditEvent.objects.filter(session_id=session.pk).values_list("body", flat=True))
    assert (
        said.count('"decision_commitment"')
        == AuditPayload.objects.filter(session_id=session.pk, kind=AuditPayload.Kind.DECISION).count()
    )


@pytest.mark.parametrize("change", DENYING)
def test_denied_at_the_approval(scene: Scene, approver: User, change: Change) -> None:
    session = scene.session(ASKED)
    change(scene, Maturity.STUDENT)
    after = session_approve(session=session, approver=approver)
    assert after.status == Status.DENIED
    assert after.termination_detail
    assert after.finished_at is not None
    assert tags(session) == ["pending", "denied"]
    assert decisions(session) == [("request", "ask"), ("approval", "deny")]
    assert not Approval.objects.filter(session=session).exists()
    commitments_are_in_the_trail(session)


@pytest.mark.parametrize("change", DENYING)
def test_denied_at_the_claim(scene: Scene, change: Change) -> None:
    session = scene.session(ALLOWED)
    change(scene, Maturity.AUTONOMOUS)
    assert scene.poll().sessions == ()
    assert reread(session).status == Status.DENIED
    assert tags(session) == ["queued", "denied"]
    assert decisions(session) == [("request", "allow"), ("claim", "deny")]
    commitments_are_in_the_trail(session)


@pytest.mark.parametrize("change", ASKING)
def test_pending_at_the_claim(scene: Scene, approver: User, change: Change) -> None:
    session = scene.session(ALLOWED)
    change(scene, Maturity.AUTONOMOUS)
    assert scene.poll().sessions == ()
    waiting = reread(session)
    assert waiting.status == Status.PENDING
    assert waiting.approval_required
    assert waiting.outcome == Outcome.ASK
    assert waiting.expires_at is not None
    assert session.expires_at is not None
    assert waiting.expires_at > session.expires_at
    assert tags(session) == ["queued", "pending"]
    assert "changed since. " in waiting.termination_detail
    assert "A person must approve this" in waiting.termination_detail
    # A person approves it now, and then it runs.
    assert session_approve(session=waiting, approver=approver).termination_detail == ""
    assert [item.id for item in scene.poll().sessions] == [str(session.pk)]
    assert tags(session)[:4] == ["queued", "pending", "queued", "claimed"]


@pytest.mark.parametrize("change", [*DENYING, *ASKING])
def test_a_start_after_a_change_is_not_granted(scene: Scene, change: Change) -> None:
    session = scene.claimed()
    change(scene, Maturity.AUTONOMOUS)
    grant = scene.start(session.pk)
    assert grant.status == GrantStatus.STALE_DECISION
    assert reread(session).status == Status.QUEUED
    assert scene.poll().sessions == ()
    assert reread(session).status == (Status.DENIED if change in DENYING else Status.PENDING)
    assert tags(session) == ["queued", "claimed", "queued", reread(session).status]


def test_an_approval_is_void_where_the_rules_became_stricter(scene: Scene, approver: User) -> None:
    """Approved with a root that is gone at the claim, so that what would run is something else."""
    row = DirectoryRow.objects.get(root="/tmp")  # noqa: S108  (a shipped rule)
    session = scene.session((Maturity.STUDENT, "ls /tmp"))
    session_approve(session=session, approver=approver)
    rule_delete(row=row, actor=SYSTEM)
    assert scene.poll().sessions == ()
    after = reread(session)
    assert after.status == Status.PENDING
    assert after.digest != session.digest
    assert Approval.objects.get(session=session).voided_at is not None
    # The same approver decides again on what would run now.
    session_approve(session=after, approver=approver, digest=after.digest)
    assert Approval.objects.filter(session=session, voided_at=None).count() == 1
    assert [item.digest for item in scene.poll().sessions] == [after.digest]
    commitments_are_in_the_trail(session)


def test_an_approval_holds_where_nothing_of_the_command_changed(scene: Scene, approver: User) -> None:
    session = scene.session(ASKED)
    session_approve(session=session, approver=approver)
    row = MatrixRow.objects.get(category=Category.DEVOPS, maturity=Maturity.AUTONOMOUS)
    row.outcome = Outcome.DENY
    rule_save(row=row, actor=SYSTEM)
    (assignment,) = scene.poll().sessions
    assert assignment.digest == session.digest
    assert decisions(session)[-1] == ("claim", "ask")
    assert reread(session).policy_version != session.policy_version
    commitments_are_in_the_trail(session)
    assert scene.start(session.pk).status == GrantStatus.GRANTED


def test_an_approval_is_of_what_the_approver_saw(scene: Scene, approver: User) -> None:
    session = scene.session(ASKED)
    with pytest.raises(StateError, match="changed since you saw it"):
        session_approve(session=session, approver=approver, digest="0" * 64)
    assert tags(session) == ["pending"]
    # A new root of the agent's changes the grants, and with them the digest.
    agent_host_set(
        agent=scene.agents[Maturity.STUDENT],
        host=scene.host,
        actor=SYSTEM,
        is_default=True,
        working_directory="/srv/work",
    )
    with pytest.raises(StateError, match="changed since you saw it"):
        session_approve(session=session, approver=approver, digest=session.digest)
    after = reread(session)
    assert after.status == Status.PENDING
    assert after.digest != session.digest
    assert tags(session) == ["pending", "decided_again"]
    assert not Approval.objects.filter(session=session).exists()
    assert session_approve(session=after, approver=approver, digest=after.digest).status == Status.QUEUED
    commitments_are_in_the_trail(session)


def test_a_start_with_another_digest_is_not_granted(scene: Scene) -> None:
    session = scene.claimed()
    assert scene.start(session.pk, digest="0" * 64).status == GrantStatus.STALE_DECISION
    assert reread(session).status == Status.CLAIMED
    assert tags(session) == ["queued", "claimed"]


def test_more_maturity_does_not_approve_what_waits(scene: Scene) -> None:
    session = scene.session(ASKED)
    Agent.objects.filter(pk=session.agent_id).update(maturity=Maturity.AUTONOMOUS)
    assert scene.poll().sessions == ()
    assert reread(session).status == Status.PENDING


def test_what_the_host_says_of_itself_is_decided_again(scene: Scene) -> None:
    """The host lost its sandbox after the decision: the same request is decided anew."""
    session = scene.session(ALLOWED)
    scene.poll(protections=(), free_slots=0)
    assert Host.objects.get(pk=scene.host.pk).protections == []
    scene.poll(protections=())
    assert decisions(session)[-1][0] == "claim"


def test_erased_requests_run_nowhere(scene: Scene, approver: User) -> None:
    queued, pending = scene.session(ALLOWED), scene.session(ASKED)
    AuditPayload.objects.filter(kind=AuditPayload.Kind.REQUEST).delete()
    assert scene.poll().sessions == ()
    assert reread(queued).status == Status.DENIED
    with pytest.raises(StateError, match="erased"):
        session_approve(session=pending, approver=approver)
    assert reread(pending).status == Status.PENDING


GRANTED = (Maturity.SUPERVISED, "touch /tmp/note")


@pytest.fixture
def expire(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A grant of an hour for GRANTED. The call that is given lets that hour pass for the rules, and changes no row."""
    add_rule(Outcome.ALLOW, "touch /tmp/note")

    def later() -> None:
        moment = timezone.now() + timedelta(hours=1, seconds=1)
        monkeypatch.setattr("governance.policies.timezone", SimpleNamespace(now=lambda: moment))

    return later


def test_what_a_grant_covers_runs_without_a_person(scene: Scene, expire: Callable[[], None]) -> None:
    session = scene.session(GRANTED)
    assert [item.id for item in scene.poll().sessions] == [str(session.pk)]
    assert scene.start(session.pk).status == GrantStatus.GRANTED


def test_a_grant_that_expired_in_the_queue_counts_no_more(scene: Scene, expire: Callable[[], None]) -> None:
    session = scene.session(GRANTED)
    expire()
    assert scene.poll().sessions == ()
    waiting = reread(session)
    assert waiting.status == Status.PENDING
    assert waiting.policy_version != session.policy_version
    assert decisions(session) == [("request", "allow"), ("claim", "ask")]
    assert "need an approval for write commands" in waiting.termination_detail
    assert scene.session(GRANTED).status == Status.PENDING
    commitments_are_in_the_trail(session)


def test_a_grant_that_expired_after_the_claim_starts_nothing(
    scene: Scene, approver: User, expire: Callable[[], None]
) -> None:
    session = scene.session(GRANTED)
    scene.poll()
    expire()
    assert scene.start(session.pk).status == GrantStatus.STALE_DECISION
    assert scene.poll().sessions == ()
    waiting = reread(session)
    assert waiting.status == Status.PENDING
    session_approve(session=waiting, approver=approver)
    assert [item.id for item in scene.poll().sessions] == [str(session.pk)]


def test_a_policy_that_is_kept_costs_one_small_query(own_scene: Scene) -> None:
    add_rule(Outcome.ALLOW)
    version = current_policy().version
    with CaptureQueriesContext(connection) as found:
        assert current_policy().version == version
    (query,) = found.captured_queries
    assert "governance_policygeneration" in query["sql"]


def test_what_a_policy_was_made_of_can_be_rebuilt(scene: Scene, expire: Callable[[], None]) -> None:
    session = scene.session(GRANTED)
    expire()
    assert current_policy().version != session.policy_version
    assert set(PolicyVersion.objects.values_list("version", flat=True)) == {
        session.policy_version,
        current_policy().version,
    }
    rebuilt = policy_from(PolicyVersion.objects.get(pk=session.policy_version).unpacked())
    assert rebuilt.version == session.policy_version
    assert [rule.name for rule in rebuilt.rules] == ["allow touch /tmp/note"]
    replay = sessions_replay(current_policy(), last=10, before=rebuilt)
    assert [(change.before, change.after) for change in replay.changes] == [("allow", "ask")]
