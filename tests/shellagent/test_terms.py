"""On which terms a session is approved: in which time, by how many people, and with which proof."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django_otp.oath import TOTP

from audit.models import AuditEvent
from audit.trail import SYSTEM
from governance.codes import code_begin, code_set
from governance.errors import CodeRequiredError
from governance.models import ApprovalTerms, PolicyRule
from governance.policy.types import Maturity
from governance.services import rule_save
from governance.terms import terms_of
from shellagent.errors import StateError
from shellagent.models import Approval, ShellSession
from shellagent.services import session_approve, session_reject, sessions_approve
from shellagent.states import Status
from tests.conftest import person
from tests.shellagent.scene import ASKED, Caller, Scene, reread, tags

WRITE = (Maturity.SUPERVISED, "touch /tmp/note")


def terms(category: str, **values: Any) -> None:
    row = ApprovalTerms.objects.get(category=category)
    for name, value in values.items():
        setattr(row, name, value)
    rule_save(row=row, actor=SYSTEM)


@pytest.fixture
def second() -> User:
    return person("second", "shellagent.approve")


def authenticator(user: User) -> Any:
    """Give a person an authenticator. Returns what gives its code so many steps of 30 s from now."""
    device = code_begin(user)

    def code(steps: int = 0) -> str:
        shown = TOTP(device.bin_key)
        shown.time = time.time() + 30 * steps
        return f"{shown.token():06}"

    code_set(user, code(-1))
    return code


def test_each_category_expires_after_its_own_time(scene: Scene) -> None:
    terms("read", minutes=3)
    waits = scene.session(ASKED)
    assert waits.expires_at == waits.created_at + timedelta(minutes=3)
    other = scene.session(WRITE)
    assert other.expires_at == other.created_at + timedelta(minutes=15)


class TestTwoPeople:
    @pytest.fixture(autouse=True)
    def two(self, scene: Scene) -> None:
        terms("read", approvals_required=2)

    def test_it_runs_after_the_second(self, scene: Scene, approver: User, second: User) -> None:
        session = scene.session(ASKED)
        assert session_approve(session=session, approver=approver).status == Status.PENDING
        shown = Caller.logged_in(approver).get(f"/api/local-agent/sessions/{session.pk}").json["approval"]
        assert (shown["by"], shown["people_given"], shown["people_required"]) == ("approver", 1, 2)
        with pytest.raises(StateError, match="You have approved this already"):
            session_approve(session=session, approver=approver)
        assert session_approve(session=session, approver=second).status == Status.QUEUED
        assert tags(session) == ["pending", "approved_by_one", "queued"]
        with pytest.raises(StateError, match=r"This is queued already: second approved it \d+ s ago"):
            session_approve(session=session, approver=person("third", "shellagent.approve"))
        assert [item.id for item in scene.poll().sessions] == [str(session.pk)]

    def test_the_first_may_change_their_mind(self, scene: Scene, approver: User) -> None:
        session = scene.session(ASKED)
        session_approve(session=session, approver=approver)
        assert session_reject(session=session, approver=approver, reason="no").status == Status.REJECTED
        assert Approval.objects.filter(session=session, voided_at=None).count() == 1

    def test_who_left_counts_no_more(self, scene: Scene, approver: User, second: User) -> None:
        session = scene.session(ASKED)
        session_approve(session=session, approver=approver)
        User.objects.filter(pk=approver.pk).update(is_active=False)
        assert session_approve(session=session, approver=second).status == Status.PENDING

    def test_what_changed_is_approved_anew(self, scene: Scene, approver: User, second: User) -> None:
        session = scene.session(ASKED)
        session_approve(session=session, approver=approver)
        # As the host tells of scripts: another digest, and the old word is about something else.
        ShellSession.objects.filter(pk=session.pk).update(digest="0" * 64)
        with pytest.raises(StateError, match="has changed since you saw it"):
            session_approve(session=session, approver=second)
        assert session_approve(session=session, approver=second).status == Status.PENDING
        assert session_approve(session=session, approver=approver).status == Status.QUEUED


def test_an_operators_rule_asks_for_two(scene: Scene, approver: User, second: User) -> None:
    row = PolicyRule(
        name="Two for notes",
        tokens="touch",
        outcome="ask",
        justification="Two people look.",
        approvals_required=2,
        examples=["touch /tmp/a"],
        refuses=["ls /tmp"],
    )
    rule_save(row=row, actor=SYSTEM)
    assert terms_of("write", [f"operator:{row.pk}"]).approvals == 2
    session = scene.session(WRITE)
    assert session_approve(session=session, approver=approver).status == Status.PENDING
    assert session_approve(session=session, approver=second).status == Status.QUEUED


class TestCode:
    @pytest.fixture(autouse=True)
    def coded(self, scene: Scene) -> None:
        terms("read", needs_code=True)

    def test_an_approval_takes_one_and_takes_it_once(self, scene: Scene, approver: User) -> None:
        session, other = scene.session(ASKED), scene.session(ASKED)
        caller = Caller.logged_in(approver)

        def approve(one: ShellSession, **body: str) -> Any:
            body = {"session_id": str(one.pk), "decision": "approve", **body}
            return caller.post("/api/local-agent/approve", body)

        assert caller.get(f"/api/local-agent/sessions/{session.pk}").json["approval"]["code_required"]
        answer = approve(session)
        assert (answer.status, answer.problem) == (403, "code-required")
        assert "Set one up" in answer.json["detail"]
        code = authenticator(approver)
        assert "needs a one-time code" in approve(session).json["detail"]
        assert approve(session, code="000000" if code() != "000000" else "000001").problem == "code-required"
        assert reread(session).status == Status.PENDING
        approver.totpdevice_set.update(throttling_failure_count=0)  # type: ignore[attr-defined]
        used = code()
        assert approve(session, code=used).json["status"] == "queued"
        event = AuditEvent.objects.get(session_id=session.pk, tag="session:queued")
        assert '"code":true' in event.body
        assert approve(other, code=used).problem == "code-required"
        assert session_reject(session=other, approver=approver, reason="no").status == Status.REJECTED

    def test_one_is_enough_for_the_same_again(self, scene: Scene, approver: User) -> None:
        sessions = [scene.session(ASKED) for _ in range(3)]
        code = authenticator(approver)
        told = sessions_approve(sessions=sessions, approver=approver, digest=sessions[0].digest, code=code())
        assert [(one.status, error) for one, error in told] == [(Status.QUEUED, None)] * 3

    def test_no_code_is_spent_on_what_is_decided_already(self, scene: Scene, approver: User, second: User) -> None:
        session = scene.session(ASKED)
        session_reject(session=session, approver=second, reason="no")
        code = authenticator(approver)
        with pytest.raises(StateError, match="second rejected it"):
            session_approve(session=session, approver=approver, code=code())
        assert sessions_approve(sessions=[scene.session(ASKED)], approver=approver, code=code())[0][1] is None

    def test_rules_that_change_meanwhile_want_one_too(
        self, scene: Scene, approver: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = scene.session(ASKED)
        terms("read", needs_code=False)
        looked = "shellagent.services.approving._check_pending"
        monkeypatch.setattr(looked, lambda *_: None)
        monkeypatch.setattr("shellagent.services.approving.session_terms", lambda _session: terms_of("write", ()))
        terms("read", needs_code=True)
        with pytest.raises(CodeRequiredError):
            session_approve(session=session, approver=approver)
        assert tags(session) == ["pending"]
        assert not Approval.objects.exists()
