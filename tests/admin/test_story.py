"""A session's story and its erasure in the admin: for whom, what it says, and that reading it is told."""

import re

import pytest
from django.contrib.auth.models import User

from audit.models import AuditErasure, AuditEvent
from governance.policy.types import Maturity
from shellagent.models import ShellSession
from shellagent.protocol import VERSION, OutputRequest, OutputSegment
from shellagent.services import output_append, session_approve
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import ALLOWED, ASKED, Scene, report, reread

REVIEWER = ("audit.view_audit", "shellagent.view_shellsession")


@pytest.fixture
def reviewer(db: None) -> Reader:
    return staff("reviewer", *REVIEWER)


def page(session: ShellSession, *rest: str) -> str:
    return "/".join(["/admin/shellagent/shellsession", str(session.pk), *rest, ""])


def sent(scene: Scene, session: ShellSession, *segments: OutputSegment) -> None:
    request = OutputRequest(VERSION, session.start_key, segments)
    output_append(host=scene.host, session_id=session.pk, request=request)


def test_a_story_has_its_sentences_in_order_and_all_that_was_printed(
    reviewer: Reader, scene: Scene, approver: User
) -> None:
    session = scene.session(ASKED, reason="To see what is there.")
    session_approve(session=session, approver=approver, reason="Fine by me.")
    scene.poll()
    scene.start(session.pk)
    session = reread(session)
    euro = "€".encode()
    sent(
        scene,
        session,
        OutputSegment.of("stdout", 0, b"one " + euro[:1]),
        OutputSegment.of("stderr", 0, b"oh <b>\x1b[31m"),
    )
    sent(scene, session, OutputSegment.of("stdout", 5, euro[1:] + b" two"))
    scene.record(report(session, output=()))
    html = reviewer.get(page(session, "story"))
    told = re.findall(r"<time[^>]*>[^<]*</time>\s*<span>(.*?)\s*<span class=\"atom-sub\"", html, re.DOTALL)
    plain = [re.sub(r"<[^>]+>", "", item) for item in told]
    begins = ["The agent student asked for a read command on here, as STUDENT.", "approver approved it"]
    begins += ["The host here took it.", "The host here was granted the start.", "The host here sent 5 bytes of stdout"]
    begins += ["The host here sent 6 bytes of stdout.", "The host here reported: it ended well. Exit code 0"]
    assert [item[: len(begin)] for item, begin in zip(plain, begins, strict=True)] == begins
    assert "Fine by me." in plain[1]
    assert "To see what is there." in html
    shown = "".join(re.findall(r"data-atom-at=\"\d+\">(.*?)</span>(?=<span|</pre)", html, re.DOTALL))
    assert "one " in shown
    assert "€ two" in shown
    assert "oh &lt;b&gt;" in shown
    assert "\x1b" not in html
    assert "<script>" not in html


def test_it_is_for_reviewers_and_reading_it_is_told(reviewer: Reader, decider: Reader, scene: Scene) -> None:
    session = scene.session(ALLOWED)
    decider.get(page(session, "story"), status=403)
    staff("auditor", "audit.view_audit").get(page(session, "story"), status=403)
    reviewer.get(page(session, "story"))
    read = AuditEvent.objects.get(tag="trail:replayed")
    assert (read.actor_label, read.subject_id, read.agent_id) == ("reviewer", str(session.pk), session.agent_id)
    reviewer.post(page(session, "story"), status=405)


def test_erasing_takes_two_people_and_the_pages_say_so(scene: Scene) -> None:
    session = scene.running()
    scene.record(report(session))
    ann, bob = (staff(name, "audit.erase", *REVIEWER) for name in ("ann", "bob"))
    watcher = staff("watcher", *REVIEWER)
    assert "Ask to erase" not in watcher.get(page(session, "change"))
    assert "Ask to erase" in ann.get(page(session, "change"))
    watcher.post(page(session, "erase"), part="all", reason="no")
    ann.post(page(session, "erase"), part="output", reason="")
    assert not AuditErasure.objects.exists()
    ann.post(page(session, "erase"), part="output", reason="A customer's <name>.")
    wish = AuditErasure.objects.get()
    assert "Take it back" in ann.get(page(session, "change"))
    decide = page(session, "erase", str(wish.pk))
    ann.post(decide, decision="confirm")
    watcher.post(decide, decision="confirm")
    assert AuditErasure.objects.get().state == "waiting"
    assert "Erase it for good" in bob.get(page(session, "change"))
    bob.post(decide, decision="confirm")
    for place in ("change", "story"):
        html = watcher.get(page(session, place))
        assert "by bob, asked for by ann" in html
        assert "A customer&#x27;s &lt;name&gt;." in html
        assert "hi</span>" not in html
    assert "ls /tmp" in re.sub(r"<[^>]+>", "", watcher.get(page(session, "change")))


def test_a_running_session_cannot_be_erased(scene: Scene) -> None:
    session = scene.session((Maturity.AUTONOMOUS, "ls /tmp"))
    ann = staff("ann", "audit.erase", *REVIEWER)
    assert "Ask to erase" not in ann.get(page(session, "change"))
    ann.post(page(session, "erase"), part="all", reason="now")
    assert not AuditErasure.objects.exists()
