"""Any order of what agents, people, hosts and time can do leaves every session sound."""

import itertools
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from audit.models import AuditEvent
from audit.trail import SYSTEM
from governance.policy.types import Maturity
from governance.services import agent_set_maturity, agent_set_suspended
from shellagent import limits
from shellagent.errors import StateError
from shellagent.models import ExecutionRecord, ServerStart, ShellSession
from shellagent.protocol import RunOutcome
from shellagent.services import (
    leases_tidy,
    session_approve,
    session_cancel,
    session_reject,
    sessions_expire,
)
from shellagent.states import TERMINAL, TRANSITIONS, Status
from tests.conftest import person
from tests.shellagent.scene import ALLOWED, ASKED, DENIED, Scene, report, reread, tags

PICK = st.integers(0, 5)
STATES = {str(status) for status in Status}


class Life(RuleBasedStateMachine):
    """One host, two agents and an approver. Every example happens inside a savepoint that is taken back."""

    approver: User
    scene: Scene

    def __init__(self) -> None:
        super().__init__()
        self.savepoint = transaction.atomic()
        self.savepoint.__enter__()
        self.sessions: list[ShellSession] = []
        self.ended: dict[Any, tuple[str, Any]] = {}
        ServerStart.objects.update(started_at=timezone.now() - timedelta(hours=1))

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.savepoint.__exit__(None, None, None)

    def picked(self, number: int) -> ShellSession:
        return reread(self.sessions[number % len(self.sessions)])

    @rule(kind=st.sampled_from([ALLOWED, ALLOWED, ASKED, ASKED, DENIED]))
    def request(self, kind: tuple[Maturity, str]) -> None:
        agent = self.scene.agents[kind[0]]
        agent.refresh_from_db()
        if not agent.is_suspended and len(self.sessions) < 6:
            self.sessions.append(self.scene.session(kind))

    @precondition(lambda self: self.sessions)
    @rule(number=PICK, is_approved=st.booleans())
    def decide(self, number: int, is_approved: bool) -> None:
        session = self.picked(number)
        try:
            if is_approved:
                session_approve(session=session, approver=self.approver)
            else:
                session_reject(session=session, approver=self.approver, reason="because")
        except StateError:
            assert reread(session).status != Status.PENDING
        else:
            assert session.status == Status.PENDING

    @precondition(lambda self: self.sessions)
    @rule(number=PICK)
    def cancel(self, number: int) -> None:
        session = self.picked(number)
        try:
            session_cancel(session=session, actor=SYSTEM)
        except StateError:
            assert session.status in TERMINAL - {Status.CANCELLED}

    @rule(slots=st.integers(0, 3))
    def poll(self, slots: int) -> None:
        running = tuple(item.pk for item in self.sessions)
        for assignment in self.scene.poll(free_slots=slots, running=running).sessions:
            assert reread(ShellSession(pk=assignment.id)).status == Status.CLAIMED

    @precondition(lambda self: self.sessions)
    @rule(number=PICK, key=st.sampled_from(["one", "two"]))
    def start(self, number: int, key: str) -> None:
        session = self.picked(number)
        grant = self.scene.start(session.pk, key)
        after = reread(session)
        assert (grant.status == "granted") == (after.status == Status.RUNNING and after.start_key == key)

    @precondition(lambda self: self.sessions)
    @rule(number=PICK, outcome=st.sampled_from(RunOutcome), code=st.integers(0, 1))
    def record(self, number: int, outcome: RunOutcome, code: int) -> None:
        session = self.picked(number)
        (answer,) = self.scene.record(report(session, outcome, exit_codes=(code,))).values()
        if answer == "recorded":
            assert reread(session).status == outcome.value

    @precondition(lambda self: self.sessions)
    @rule(number=PICK)
    def time_passes(self, number: int) -> None:
        long_ago = timezone.now() - timedelta(seconds=limits.LOST_AFTER_SECONDS + 1)
        wanted = ShellSession.objects.filter(pk=self.picked(number).pk)
        wanted.filter(status__in=[Status.PENDING, Status.QUEUED]).update(expires_at=long_ago)
        wanted.filter(status__in=[Status.CLAIMED, Status.RUNNING]).update(lease_expires_at=long_ago)

    @rule()
    def tidy(self) -> None:
        sessions_expire()
        leases_tidy()
        assert (sessions_expire(), leases_tidy()) == (0, (0, 0))

    @rule(maturity=st.sampled_from(Maturity), agent=st.sampled_from([Maturity.STUDENT, Maturity.AUTONOMOUS]))
    def change_maturity(self, maturity: Maturity, agent: Maturity) -> None:
        row = self.scene.agents[agent]
        row.refresh_from_db()
        if row.maturity != maturity:
            agent_set_maturity(agent=row, maturity=maturity, reason="a test", actor=SYSTEM)

    @rule(is_suspended=st.booleans(), agent=st.sampled_from([Maturity.STUDENT, Maturity.AUTONOMOUS]))
    def suspend(self, is_suspended: bool, agent: Maturity) -> None:
        row = self.scene.agents[agent]
        row.refresh_from_db()
        if row.is_suspended != is_suspended:
            agent_set_suspended(agent=row, is_suspended=is_suspended, reason="a test", actor=SYSTEM)

    @invariant()
    def every_session_is_sound(self) -> None:
        for before in self.sessions:
            session = reread(before)
            told = [tag for tag in tags(session) if tag in STATES]
            # The trail tells of every state in turn, along arrows that there are, down to the one that stands.
            assert told[-1] == session.status
            assert all((Status(a), Status(b)) in TRANSITIONS for a, b in itertools.pairwise(told))
            if session.status in TERMINAL:
                assert self.ended.setdefault(session.pk, (session.status, session.finished_at)) == (
                    session.status,
                    session.finished_at,
                )
                assert session.finished_at is not None
            else:
                assert session.pk not in self.ended
            records = ExecutionRecord.objects.filter(session=session)
            assert records.filter(is_late=False).count() <= 1
            assert records.filter(is_late=True).count() <= (session.status == Status.LOST)

    @invariant()
    def nothing_is_told_of_a_session_that_is_not_there(self) -> None:
        known = {item.pk for item in self.sessions}
        assert set(AuditEvent.objects.exclude(session_id=None).values_list("session_id", flat=True)) == known


@pytest.mark.django_db
def test_any_order_of_events(scene: Scene) -> None:
    Life.scene = scene
    Life.approver = person("decider", "shellagent.approve")
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
