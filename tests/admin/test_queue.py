"""The queue and the card: what waits, riskiest first, cheap to look at again, and decided on by POST only."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance.policy.parse import parse_text
from governance.policy.plan import Plan
from governance.policy.types import Maturity
from shellagent.admin_deciding import CANNED
from shellagent.likeness import differences, nearest, words_of
from shellagent.links import SessionConverter
from shellagent.models import Approval, ShellSession
from shellagent.pending import sessions_pending
from shellagent.states import Status
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import ASKED, Caller, Scene, report, reread
from tests.shellagent.test_terms import terms

DELETE = (Maturity.SUPERVISED, "rm -r /tmp/old")
WRITE = (Maturity.SUPERVISED, "touch /tmp/note")


def card_of(session: ShellSession) -> str:
    return f"/s/{SessionConverter().to_url(session.pk)}"


def decide(reader: Reader, session: ShellSession, decision: str = "approve", **values: Any) -> str:
    values = {"decision": decision, "digest": session.digest, **values}
    return reader.post(f"/admin/shellagent/shellsession/{session.pk}/decide/", **values)


def test_the_riskiest_come_first_then_the_oldest(scene: Scene, decider: Reader) -> None:
    reads = [scene.session(ASKED) for _ in range(2)]
    delete, write = scene.session(DELETE), scene.session(WRITE)
    gone = scene.session(ASKED)
    ShellSession.objects.filter(pk=gone.pk).update(expires_at=timezone.now())
    order = [delete, write, *reads]
    assert [one.id for one in sessions_pending()] == [session.pk for session in order]
    html = decider.get("/queue")
    assert re.findall(r'id="session-([0-9a-f-]+)"', html) == [str(session.pk) for session in order]
    assert "<title>(4) Queue" in html
    assert reread(gone).status == Status.EXPIRED


def test_filters_say_how_many_and_stay_after_a_decision(scene: Scene, decider: Reader) -> None:
    session, other = scene.session(ASKED), scene.session(DELETE)
    html = decider.get("/queue?category=read&nonsense=1&p=9")
    assert str(session.pk) in html
    assert f"session-{other.pk}" not in html
    assert re.search(r'href="\?category=delete">delete <b>1</b>', html)
    assert "Nothing that waits is like that" in decider.get("/queue?agent=nobody")
    path = f"/admin/shellagent/shellsession/{session.pk}/decide/"
    values = {"decision": "approve", "digest": session.digest, "from": "queue", "at": "category=read&next=//evil&p=2"}
    response = decider.client.post(path, values)
    assert response["Location"] == "/queue?category=read&p=2"


def test_an_unchanged_queue_costs_four_small_queries(scene: Scene, decider: Reader) -> None:
    session = scene.session(ASKED)
    first = decider.client.get("/queue/now")
    assert f"session-{session.pk}" in first.content.decode()
    with CaptureQueriesContext(connection) as asked:
        again = decider.client.get("/queue/now", headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    # Who it is (three, with the permission), what waits, and whether a rule changed.
    assert len(asked) <= 6, [query["sql"] for query in asked]
    assert abs(int(again["X-Atom-Now"]) / 1000 - timezone.now().timestamp()) < 60
    other = scene.session(DELETE)
    changed = decider.client.get("/queue/now", headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    assert f"session-{other.pk}" in changed.content.decode()


def test_pages_take_as_many_queries_however_many_wait(scene: Scene, decider: Reader, settings: Any) -> None:
    settings.ATOM_PENDING_PER_AGENT = 100

    def asked() -> int:
        with CaptureQueriesContext(connection) as found:
            decider.get("/queue")
        return len(found)

    scene.session(ASKED)
    before = asked()
    for _ in range(29):
        scene.session(ASKED)
    assert asked() == before
    html = decider.get("/queue?p=2")
    assert len(re.findall(r'id="session-', html)) == 5
    assert "Page 2 of 2" in html


class TestCard:
    def test_it_tells_all_that_counts(self, scene: Scene, decider: Reader) -> None:
        earlier = scene.session((Maturity.SUPERVISED, "rm -r /tmp/older"))
        decide(decider, earlier, "reject", reason="no")
        session = scene.session(
            DELETE, reason="<b>ok</b>\x1b", working_directory="/srv/work", env={"LANG": "C"}, timeout_seconds=7
        )
        html = decider.get(card_of(session))
        for part in (
            *("supervised", "SUPERVISED", "Deletes files.", "deletes whole folders", "is deleted", "/srv/work"),
            *("LANG=C", "at most 7 s", "It cannot reach the network", "need an approval for delete commands"),
            *(
                "<del>/tmp/older</del> <ins>/tmp/old</ins>",
                "rejected",
                "Nothing else waits",
                "Unverified",
                "Decide within",
            ),
            *("&lt;b&gt;ok", r"\x1b", session.digest),
        ):
            assert part in html, part
        assert html.count('name="canned"') == len(CANNED)
        daemon = scene.session((Maturity.SUPERVISED, "docker restart web"))
        assert "Another process does the work, outside any sandbox" in decider.get(card_of(daemon))

    def test_a_canned_reason_is_one_tap_and_tells_the_agent_what_to_do(self, scene: Scene, decider: Reader) -> None:
        session = scene.session(ASKED)
        decide(decider, session, "reject", canned="narrower", reason="Only April.")
        shown = scene.as_agent(Maturity.STUDENT).get(f"/api/local-agent/sessions/{session.pk}").json
        assert (shown["status"], shown["next_action"]) == ("rejected", "revise")
        assert shown["approval"]["reason"] == f"{CANNED['narrower']} Only April."

    def test_it_follows_the_run_to_its_exit_code(self, scene: Scene, decider: Reader) -> None:
        session = scene.session(ASKED)
        now = f"{card_of(session)}/now"
        first = decider.client.get(now)
        assert "Decide within" in first.content.decode()
        decide(decider, session)
        queued = decider.client.get(now, headers={"If-None-Match": first["ETag"]})
        assert "It waits for its host to take it" in queued.content.decode()
        assert decider.client.get(now, headers={"If-None-Match": queued["ETag"]}).status_code == 304
        scene.poll()
        scene.start(session.pk)
        scene.record(report(reread(session), exit_codes=(0,)))
        html = decider.client.get(now).content.decode()
        for part in ("data-atom-over", "Approved by <strong>approver</strong>", 'atom-exit">0<', "hi"):
            assert part in html, part
        assert 'value="approve"' not in html

    @pytest.mark.parametrize("status", ["expired", "rejected", "cancelled", "succeeded"])
    def test_what_is_over_has_no_button_and_says_what_stands(self, scene: Scene, decider: Reader, status: str) -> None:
        session = scene.session(ASKED)
        ShellSession.objects.filter(pk=session.pk).update(status=status)
        assert 'value="approve"' not in decider.get(card_of(session))
        assert f"Not done. This is {status} already" in decide(decider, session)
        assert reread(session).status == status

    @pytest.mark.parametrize(
        ("reason", "answer"),
        [
            ("x" * 10_240, "at most 2000 characters"),
            ("a\0b", "Null characters are not allowed"),
            ("<script>alert(1)</script>\x1b[31m", "Rejected for student"),
        ],
    )
    def test_odd_reasons(self, scene: Scene, decider: Reader, reason: str, answer: str) -> None:
        session = scene.session(ASKED)
        html = decide(decider, session, "reject", reason=reason)
        assert answer in html
        assert (reread(session).status == Status.REJECTED) == answer.startswith("Rejected")
        assert "<script>alert" not in html

    def test_who_may_not(self, scene: Scene, nobody: Reader) -> None:
        session = scene.session(ASKED)
        for path in (card_of(session), f"{card_of(session)}/now", "/queue", "/queue/now", f"/queue/same/{'a' * 64}"):
            nobody.get(path, status=403)
            assert Client().get(path)["Location"] == f"/admin/login/?next={path}"
        viewer = staff("viewer", "shellagent.view_shellsession")
        assert "You lack the permission to approve" in viewer.get(card_of(session))

    @pytest.mark.parametrize("letters", ["z" * 22, "0" * 22, "A" * 22, "short", "x" * 23])
    def test_an_address_of_no_session(self, scene: Scene, decider: Reader, letters: str) -> None:
        decider.get(f"/s/{letters}", status=404)

    def test_a_link_decides_nothing(self, scene: Scene, decider: Reader) -> None:
        session = scene.session(ASKED)
        decider.get(f"{card_of(session)}?decision=approve&digest={session.digest}&reject")
        assert decider.client.post(card_of(session), {"decision": "approve"}).status_code == 405
        assert decider.client.post("/queue", {"decision": "approve"}).status_code == 405
        assert reread(session).status == Status.PENDING

    def test_a_card_shows_the_terms(self, scene: Scene, decider: Reader) -> None:
        terms("read", approvals_required=2, needs_code=True)
        session = scene.session(ASKED)
        html = decider.get(card_of(session))
        assert "0 of 2" in html
        assert "Set up one-time codes" in html
        assert 'value="approve"' not in html
        assert "Approve with a code" in decider.get("/queue")


class TestSame:
    def test_only_what_was_listed_is_decided(self, scene: Scene, decider: Reader) -> None:
        first, second, later = (scene.session(ASKED) for _ in range(3))
        other = scene.session((Maturity.STUDENT, "ls /srv"))
        path = f"/queue/same/{first.digest}"
        assert "3 ask for this" in decider.get("/queue")
        html = decider.get(path)
        assert all(str(one.pk) in html for one in (first, second, later))
        assert str(other.pk) not in html
        html = decider.post(path, decision="approve", session=[str(one.pk) for one in (first, second, other)])
        assert "Approved: 2 of 2." in html
        standing = [reread(one).status for one in (first, second, later, other)]
        assert standing == ["queued", "queued", "pending", "pending"]
        assert "None of these waits any more" in decider.post(path, decision="approve", session=[str(first.pk)])

    def test_one_that_is_ones_own_stays(self, scene: Scene, boss: Reader) -> None:
        scene.session(ASKED)
        caller = Caller.logged_in(boss.user)
        own = caller.execute("ls /tmp", agent_id=scene.agents[Maturity.STUDENT].pk).json
        path = f"/queue/same/{own['digest']}"
        assert boss.get(path).count("You asked for this yourself") == 1
        ids = [str(one.pk) for one in ShellSession.objects.all()]
        html = boss.post(path, decision="reject", canned="never", session=ids)
        assert "Rejected: 1 of 2." in html
        assert "You asked for this yourself" in html
        assert ShellSession.objects.get(pk=own["id"]).status == Status.PENDING

    def test_another_digest_is_not_approved(self, scene: Scene, decider: Reader) -> None:
        session = scene.session(ASKED)
        ids = [str(session.pk)]
        decider.post(f"/queue/same/{'0' * 64}", decision="approve", session=ids)
        assert not Approval.objects.exists()
        decider.get(f"/queue/same/{'0' * 64}", status=404)


def test_a_forged_token_decides_nothing(scene: Scene, approver: User) -> None:
    session, client = scene.session(ASKED), Client(enforce_csrf_checks=True)
    client.force_login(approver)
    client.get(card_of(session))
    forged = {"decision": "approve", "session": str(session.pk), "csrfmiddlewaretoken": "x" * 64}
    assert client.post(f"/queue/same/{session.digest}", forged).status_code == 403
    assert reread(session).status == Status.PENDING


def plan(text: str) -> Plan:
    return parse_text(text)


def test_the_nearest_commands_and_the_words_that_differ() -> None:
    pieces = differences(words_of(plan("git push origin main")), words_of(plan("git push origin dev && ls | wc > n")))
    assert [(piece.kind, piece.text) for piece in pieces] == [
        ("same", "git push origin"),
        ("before", "main"),
        ("now", "dev && ls | wc > n"),
    ]
    rows = [ShellSession(pk=SessionConverter().to_python(f"{number:022}")) for number in range(5)]
    texts = ["ls /tmp", "rm /tmp/a", "ls /tmp", "ls -l /tmp", "uname"]
    found = nearest(plan("ls /tmp"), list(zip(rows, map(plan, texts), strict=True)))
    assert [(one.session, one.times, one.is_same) for one in found] == [(rows[0], 2, True), (rows[3], 1, False)]


def test_long_commands_are_compared_as_a_whole() -> None:
    long = plan(" ".join(["echo", *["a"] * 200]))
    other = plan(" ".join(["echo", *["a"] * 199, "b"]))
    row = ShellSession(pk=SessionConverter().to_python("0" * 22))
    assert nearest(long, [(row, other)]) == []
    assert nearest(long, [(row, long)])[0].is_same


def test_the_countdown_is_the_servers(scene: Scene, decider: Reader) -> None:
    session = scene.session(ASKED)
    html = decider.get(card_of(session))
    until = int(re.search(r'data-atom-until="(\d+)"', html).group(1))  # type: ignore[union-attr]
    now = int(re.search(r'data-atom-now="(\d+)"', html).group(1))  # type: ignore[union-attr]
    assert timedelta(minutes=14) < timedelta(milliseconds=until - now) < timedelta(minutes=15)
