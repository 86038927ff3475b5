"""An agent's record is the same before and after the worker counted, and counts only what the agent did itself."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from uuid_utils.compat import uuid7

from audit.trail import SYSTEM
from governance.models import Agent, AgentDay, AgentDaysCounted
from governance.policy.types import Maturity
from governance.services import agent_set_maturity, user_party
from shellagent import records
from shellagent.models import ShellSession
from shellagent.records import Counts, agent_days, agent_days_count, agent_record
from shellagent.services import killswitch_off, killswitch_on, session_approve, session_cancel, session_reject
from shellagent.states import Status
from tests.shellagent.scene import ASKED, DENIED, Scene, reread

LEVEL = Maturity.STUDENT


def ended(scene: Scene, status: Status, number: int = 0, **columns: Any) -> ShellSession:
    """Return a session of the student's that ended like this, with a digest of its own for each number."""
    session = scene.session(ASKED)
    changed = {"status": status, "digest": f"{number:064x}", "warrant": "w", "expires_at": None, **columns}
    if status == Status.RUNNING:
        changed |= {"started_at": timezone.now(), "start_key": "s", "lease_expires_at": timezone.now()}
    ShellSession.objects.filter(pk=session.pk).update(**changed)
    return reread(session)


def record(scene: Scene, level: Maturity = LEVEL) -> records.AgentRecord:
    return agent_record(Agent.objects.get(pk=scene.agents[level].pk))


def aged(session: ShellSession, age: timedelta) -> None:
    """Let a session have begun that long ago: its id tells."""
    moment = timezone.now() - age
    new = UUID(int=(int(moment.timestamp() * 1000) << 80) | (uuid7().int & ((1 << 80) - 1)))
    columns = {name: getattr(session, name) for name in (f.attname for f in ShellSession._meta.concrete_fields)}
    ShellSession.objects.create(**{**columns, "id": new, "created_at": moment})


@pytest.mark.parametrize("is_counted", [False, True])
def test_the_record_is_what_became_of_its_sessions(
    scene: Scene, approver: User, requester: User, is_counted: bool
) -> None:
    for number, status in enumerate([Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT, Status.REFUSED]):
        ended(scene, status, number, termination_reason="host_ceiling" if status == Status.REFUSED else "")
    scene.session(DENIED)
    session_reject(session=scene.session(ASKED), approver=approver, reason="No.")
    session_approve(session=scene.session(ASKED), approver=approver)
    session_cancel(session=scene.session(ASKED), actor=user_party(approver))
    own = session_cancel(session=scene.session(ASKED), actor=SYSTEM)
    assert own.intervention == ""
    ended(scene, Status.SUCCEEDED, 77, requester_user=requester)  # a person asked for it
    if is_counted:
        ShellSession.objects.filter(status__in=[Status.PENDING, Status.QUEUED]).update(status=Status.EXPIRED)
        assert agent_days_count(timezone.now() + timedelta(minutes=10)) == ShellSession.objects.count()
        assert agent_days_count(timezone.now() + timedelta(minutes=10)) == 0
        assert AgentDay.objects.count() == 1
    found = record(scene)
    assert found.counts == Counts(
        asked=9, allowed=0, approved=5, denied=1, rejected=1, stopped=1, succeeded=1, failed=2, refused=1
    )
    assert (found.earned.decided, found.earned.interventions) == (5, 2)
    days = agent_days(scene.agents[LEVEL], timezone.localdate() - timedelta(days=2))
    assert sum(day["asked"] for day in days.values()) == 9


def test_what_has_not_ended_is_not_counted_into_a_day(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_BATCH", 2)
    for days in (5, 4, 3, 1):
        session = ended(scene, Status.SUCCEEDED, days)
        aged(session, timedelta(days=days))
        session_id = session.pk
        ShellSession.objects.filter(pk=session_id).update(status=Status.EXPIRED)
    waits = scene.session(ASKED)
    aged(waits, timedelta(days=2))
    now = timezone.now() + timedelta(hours=1)
    assert agent_days_count(now) == 3
    assert AgentDaysCounted.objects.get().counted_to < now - timedelta(days=2)
    assert record(scene).counts.succeeded == 4
    ShellSession.objects.filter(status=Status.PENDING).update(status=Status.EXPIRED)
    agent_days_count(now)
    assert record(scene).counts.succeeded == 4
    assert AgentDay.objects.filter(succeeded=1).count() == 4


def test_a_maturity_is_earned_since_it_was_given(scene: Scene) -> None:
    for number in range(10):
        ended(scene, Status.SUCCEEDED, number)
    found = record(scene)
    assert (found.is_ready, found.next.maturity if found.next else "", found.score) == (True, Maturity.INTERN, 1.0)
    assert dict(found.mix) == {"read": 10}
    agent_set_maturity(agent=scene.agents[LEVEL], maturity=Maturity.INTERN, reason="Earned.", actor=SYSTEM)
    found = record(scene)
    assert (found.earned.decided, found.counts.succeeded, found.is_ready) == (0, 10, False)
    assert [gap.what for gap in found.gaps] == ["decided", "score"]
    assert record(scene, Maturity.AUTONOMOUS).next is None


def test_only_a_switch_of_its_own_is_held_against_an_agent(scene: Scene) -> None:
    for agent in (None, scene.agents[LEVEL]):
        session = scene.session(ASKED)
        killswitch_on(reason="Stop.", actor=SYSTEM, agent=agent)
        killswitch_off(reason="Go on.", actor=SYSTEM, agent=agent)
        assert reread(session).intervention == ("cancelled" if agent else "")
    assert record(scene).earned.interventions == 1
