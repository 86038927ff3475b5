"""`manage.py approvals`: the same rules and events as the admin's, in a terminal."""

import io
import json
import sys
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from audit.models import AuditEvent
from shellagent.models import ShellSession
from tests.conftest import person
from tests.shellagent.scene import ASKED, Scene, tags
from tests.shellagent.test_terms import authenticator, terms

Approvals = Callable[..., tuple[int, str]]
ANNAS = "password of approver"


class Screen(io.StringIO):
    """A terminal that is looked at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def approvals(db: None, monkeypatch: pytest.MonkeyPatch) -> Approvals:
    """Run the command; gives its exit code and what it printed. `typed` is what comes from the standard input."""

    def run(*words: str, typed: str = "", out: io.StringIO | None = None) -> tuple[int, str]:
        out = out or io.StringIO()
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        try:
            call_command("approvals", *words, stdout=out)
        except CommandError as error:
            return error.returncode, out.getvalue() + str(error)
        return 0, out.getvalue()

    return run


def approve(session: ShellSession, *more: str, user: str = "approver") -> tuple[str, ...]:
    return "approve", str(session.pk), "--as", user, "--digest", session.digest, "--password-stdin", *more


class TestLooking:
    def test_the_riskiest_comes_first_and_nothing_is_obeyed(self, approvals: Approvals, scene: Scene) -> None:
        assert approvals("list") == (0, "Nothing waits for a person.\n")
        reads = scene.session(ASKED, reason="see \x1b[2Jthis [red]")
        deletes = scene.session((ASKED[0], "touch /tmp/a"))
        code, told = approvals("list")
        rows = told.splitlines()
        assert code == 0
        assert [row.split()[0] for row in rows[1:]] == [str(deletes.pk), str(reads.pk)]
        assert "touch /tmp/a" in rows[1]
        code, told = approvals("show", str(reads.pk)[-6:])
        assert (code, "\x1b" in told) == (0, False)
        for said in (
            "see \\x1b[2Jthis [red]",
            "unverified",
            "student (STUDENT)",
            reads.digest,
            "  1   ls /tmp",
            "14:5",
        ):
            assert said in told
        assert json.loads(approvals("show", str(reads.pk), "--json")[1])["status"] == "pending"
        listed = json.loads(approvals("list", "--json")[1])
        assert [item["id"] for item in listed["waiting"]] == [str(deletes.pk), str(reads.pk)]

    def test_watching_tells_what_changed_and_draws_only_where_it_can(
        self,
        approvals: Approvals,
        scene: Scene,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        session = scene.session(ASKED)
        assert approvals("watch", "--seconds", "0")[1].startswith(f"waits  {session.pk}  14:5")
        told = json.loads(approvals("watch", "--seconds", "0", "--json")[1])
        assert (told["event"], told["command"], told["status"]) == ("waits", "ls /tmp", "pending")
        monkeypatch.setenv("TERM", "dumb")
        assert "\x1b" not in approvals("watch", "--seconds", "0", out=Screen())[1]
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "200")
        drawn = approvals("watch", "--seconds", "0", out=Screen())[1]
        assert str(session.pk) in drawn
        assert "\x1b[32m" in drawn
        monkeypatch.setenv("NO_COLOR", "1")
        assert "\x1b[32m" not in approvals("list", out=Screen())[1]


class TestDeciding:
    def test_an_approval_names_the_person_and_the_place(
        self,
        approvals: Approvals,
        scene: Scene,
        approver: User,
    ) -> None:
        session = scene.session(ASKED)
        code, told = approvals(*approve(session), typed=f"{ANNAS}\n")
        assert (code, told) == (0, "Approved. It runs as soon as the host takes it.\n")
        event = json.loads(AuditEvent.objects.get(session_id=session.pk, tag="session:queued").body)
        assert event["actor"]["label"] == "approver"
        assert event["origin"]["user_agent"].startswith("the command line, as ")
        code, told = approvals(*approve(session), typed=f"{ANNAS}\n")
        assert (code, "approver" in told) == (1, True)

    def test_a_rejection_needs_a_reason_and_may_be_asked_for_at_the_terminal(
        self,
        approvals: Approvals,
        scene: Scene,
        approver: User,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        session = scene.session(ASKED)
        words = ("reject", str(session.pk), "--as", "approver")
        assert approvals(*words)[0] == 64
        monkeypatch.setattr("getpass.getpass", {"Password of approver: ": ANNAS}.__getitem__)
        code, told = approvals(*words, "--reason", "Use a copy")
        assert code == 0
        assert "  1   ls /tmp" in told
        assert json.loads(approvals("show", str(session.pk), "--json")[1])["approval"]["reason"] == "Use a copy"

    def test_who_may_not_is_told_and_nothing_changes(
        self,
        approvals: Approvals,
        scene: Scene,
        approver: User,
        outsider: User,
    ) -> None:
        session = scene.session(ASKED)
        for user, typed in (
            ("approver", "wrong"),
            ("outsider", "password of outsider"),
            ("nobody", "x"),
            ("approver", ""),
        ):
            assert approvals(*approve(session, user=user), typed=f"{typed}\n")[0] == 77
        ShellSession.objects.filter(pk=session.pk).update(requester_user=approver)
        assert approvals(*approve(session), typed=f"{ANNAS}\n")[0] == 77
        assert ShellSession.objects.get(pk=session.pk).status == "pending"

    def test_only_what_was_seen_is_approved(
        self,
        approvals: Approvals,
        scene: Scene,
        approver: User,
    ) -> None:
        session = scene.session(ASKED)
        words = ("approve", str(session.pk), "--as", "approver", "--password-stdin")
        assert approvals(*words, typed=f"{ANNAS}\n")[0] == 64
        assert approvals(*words, "--digest", "0" * 64, typed=f"{ANNAS}\n")[0] == 1
        for wrong in (("show", "abcd"), ("show", "f" * 32), ("show", ""), ("judge",), ("watch", "--seconds", "-1")):
            assert approvals(*wrong)[0] == 64
        assert ShellSession.objects.get(pk=session.pk).status == "pending"

    def test_the_second_of_two_people_decides(self, approvals: Approvals, scene: Scene, approver: User) -> None:
        terms("read", approvals_required=2)
        person("second", "shellagent.approve")
        session = scene.session(ASKED)
        code, told = approvals(*approve(session), typed=f"{ANNAS}\n")
        assert (code, told) == (0, "Approved by you. A second person has to approve it too.\n")
        code, told = approvals(*approve(session), typed=f"{ANNAS}\n")
        assert (code, "Another person has to be the second" in told) == (1, True)
        assert "1 of 2 people have approved it" in approvals("show", str(session.pk))[1]
        code, told = approvals(*approve(session, user="second"), typed="password of second\n")
        assert (code, told) == (0, "Approved. It runs as soon as the host takes it.\n")
        assert tags(session) == ["pending", "approved_by_one", "queued"]

    def test_a_one_time_code_comes_with_the_command_or_is_asked_for(
        self,
        approvals: Approvals,
        scene: Scene,
        approver: User,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        terms("read", needs_code=True)
        session, other = scene.session(ASKED), scene.session(ASKED)
        assert "a one-time code is needed" in approvals("show", str(session.pk))[1]
        code, told = approvals(*approve(session), typed=f"{ANNAS}\n")
        assert (code, "you have no authenticator yet" in told) == (77, True)
        shown = authenticator(approver)
        code, told = approvals(*approve(session), typed=f"{ANNAS}\n")
        assert (code, "needs a one-time code of your authenticator" in told) == (77, True)
        assert approvals(*approve(session, "--code", shown()), typed=f"{ANNAS}\n")[0] == 0
        asked = {"Password of approver: ": ANNAS, "One-time code: ": shown(1)}
        monkeypatch.setattr("getpass.getpass", asked.__getitem__)
        assert approvals("approve", str(other.pk), "--as", "approver")[0] == 0
        assert ShellSession.objects.filter(status="queued").count() == 2
