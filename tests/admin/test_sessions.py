"""What waits is decided here: by POST, with a reason, by who may, and only what was shown."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import AuditEvent, AuditPayload
from governance.policy.types import Maturity
from shellagent.admin_sessions import ShellSessionAdmin
from shellagent.links import card_url
from shellagent.models import Approval, Host, ShellSession
from shellagent.protections import PROTECTIONS
from shellagent.protocol import ABSENT, Looked, OutputSegment, ScriptDigest
from shellagent.services import Ask, Asker, session_request
from shellagent.states import Status
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import ASKED, DENIED, Scene, report

LIST = "/admin/shellagent/shellsession/"


def page_of(session: ShellSession) -> str:
    return f"{LIST}{session.pk}/change/"


def decide(session: ShellSession, reader: Reader, decision: str = "approve", **values: Any) -> str:
    return reader.post(f"{LIST}{session.pk}/decide/", decision=decision, **{"digest": session.digest, **values})


def status_of(session: ShellSession) -> str:
    return ShellSession.objects.get(pk=session.pk).status


def test_what_waits_comes_first_with_its_buttons(scene: Scene, decider: Reader) -> None:
    waiting = scene.session(ASKED)
    scene.session(DENIED)
    html = decider.get(LIST)
    assert html.index(f"session-{waiting.pk}") < html.index('id="result_list"')
    assert html.count('value="approve"') == 1
    assert html.count(waiting.digest) == 1
    assert "sudo" in html[html.index('id="result_list"') :]


def test_approving_queues_it_and_says_who(scene: Scene, decider: Reader) -> None:
    session = scene.session(ASKED)
    html = decide(session, decider)
    assert "Approved for student on here" in html
    assert status_of(session) == Status.QUEUED
    approval = Approval.objects.get(session=session)
    assert (approval.approver, approval.digest, approval.address) == (decider.user, session.digest, "127.0.0.1")


def test_an_approver_reads_secrets_and_what_is_known_of_scripts(scene: Scene, decider: Reader) -> None:
    session = scene.session((Maturity.STUDENT, "make -C /scratch"), secrets=("TOKEN",))
    for html in (decider.get(LIST), decider.get(page_of(session))):
        assert "TOKEN" in html
        assert html.count("its content could not be known") == 3
    (look,) = scene.poll().look
    *absent, makefile = look.paths
    found = (*(ScriptDigest(path, ABSENT) for path in absent), ScriptDigest(makefile, "ab" * 32))
    scene.poll(looked=(Looked(look.id, found),))
    for html in (decider.get(LIST), decider.get(page_of(session))):
        assert html.count("is not there") == 2
        assert html.count("ab" * 32) == 1
        assert "could not be known" not in html
    assert "Read it again" in decide(session, decider), "what was seen before is not what would run"
    assert status_of(session) == Status.PENDING


def test_rejecting_needs_a_reason_and_gives_it(scene: Scene, decider: Reader) -> None:
    session = scene.session(ASKED)
    assert "Say why you reject it" in decide(session, decider, "reject", reason="  ")
    assert status_of(session) == Status.PENDING
    assert "Rejected for student" in decide(session, decider, "reject", reason="not today")
    assert status_of(session) == Status.REJECTED
    assert "not today" in decider.get(page_of(session))


@pytest.mark.parametrize("action", ["decide", "cancel"])
def test_a_link_decides_nothing(scene: Scene, decider: Reader, action: str) -> None:
    session = scene.session(ASKED)
    response = decider.client.get(f"{LIST}{session.pk}/{action}/", {"decision": "approve", "digest": session.digest})
    assert response.status_code == 405
    assert decider.client.post(page_of(session), {"decision": "approve"}).status_code == 403
    assert status_of(session) == Status.PENDING


def test_a_form_from_elsewhere_decides_nothing(scene: Scene, approver: User) -> None:
    session = scene.session(ASKED)
    client = Client(enforce_csrf_checks=True)
    client.force_login(approver)
    response = client.post(f"{LIST}{session.pk}/decide/", {"decision": "approve", "digest": session.digest})
    assert response.status_code == 403
    assert "Nothing was done" in response.content.decode()
    assert status_of(session) == Status.PENDING


@pytest.mark.parametrize("digest", ["", "0" * 64, "x"])
def test_only_what_was_shown_is_approved(scene: Scene, decider: Reader, digest: str) -> None:
    session = scene.session(ASKED)
    assert "Not done." in decide(session, decider, digest=digest)
    assert status_of(session) == Status.PENDING


def test_nobody_approves_their_own_request_not_even_a_superuser(scene: Scene, boss: Reader) -> None:
    asker = Asker.person(boss.user, scene.agents[Maturity.STUDENT])
    session, _ = session_request(ask=Ask(command="ls /tmp"), asker=asker)
    html = boss.get(page_of(session))
    assert "You asked for this yourself" in html
    assert 'value="approve"' not in html
    assert "You asked for this yourself" in decide(session, boss)
    assert status_of(session) == Status.PENDING
    assert AuditEvent.objects.filter(tag="approval:refused").count() == 1


def test_who_may_only_look_sees_why_there_is_no_button(scene: Scene) -> None:
    session = scene.session(ASKED)
    viewer = staff("viewer", "shellagent.view_shellsession")
    for path in (LIST, page_of(session), "/admin/"):
        html = viewer.get(path)
        assert "You lack the permission to approve" in html, path
        assert 'value="approve"' not in html
        assert 'value="reject"' not in html
    assert "You lack the permission" in decide(session, viewer)
    assert status_of(session) == Status.PENDING


def test_the_second_decider_is_told_what_stands(scene: Scene, decider: Reader) -> None:
    session = scene.session(ASKED)
    decide(session, decider)
    html = decide(session, staff("second", "shellagent.approve"), "reject", reason="too late")
    assert re.search(r"Not done\. This is queued already: approver approved it \d+ s ago\.", html)
    assert status_of(session) == Status.QUEUED


def test_what_has_expired_cannot_be_approved(scene: Scene, decider: Reader) -> None:
    session = scene.session(ASKED)
    ShellSession.objects.filter(pk=session.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "Not done. This is expired already." in decide(session, decider)


def test_a_stricter_decision_at_the_approval_is_not_told_as_success(scene: Scene, decider: Reader) -> None:
    session = scene.session(ASKED)
    scene.agents[Maturity.STUDENT].hosts.all().delete()
    html = decide(session, decider)
    assert "Not approved: by the rules of now this is denied." in html
    assert "Approved for" not in html
    assert status_of(session) == Status.DENIED


def test_what_was_erased_cannot_be_approved(scene: Scene, decider: Reader) -> None:
    session = scene.session(ASKED)
    AuditPayload.objects.filter(session_id=session.pk).delete()
    html = decider.get(page_of(session))
    assert "The command was erased" in html
    assert 'value="approve"' not in html
    assert "erased" in decide(session, decider)


def test_the_button_leads_back_to_where_it_was(scene: Scene, decider: Reader) -> None:
    for place, path in (("index", "/admin/"), ("list", LIST), ("page", None), ("https://evil.example/", "card")):
        session = scene.session(ASKED)
        response = decider.client.post(
            f"{LIST}{session.pk}/decide/", {"decision": "approve", "digest": session.digest, "from": place}
        )
        card = card_url(session.pk).removeprefix(settings.ATOM_PUBLIC_URL)
        assert response["Location"] == {None: page_of(session), "card": card}.get(path, path)


def test_the_command_is_drawn_from_the_plan_and_whole(scene: Scene, decider: Reader) -> None:
    long = "x" * 3000
    session = scene.session((Maturity.STUDENT, f"ls '/srv/a b' /srv/{long}"), reason="ls /home\u202e <b>ok</b>")
    for path in (LIST, page_of(session), "/admin/"):
        html = decider.get(path)
        assert f"/srv/{long}" in html, path
        assert "&#x27;/srv/a b&#x27;" in html
        assert "<b>ok</b>" not in html
        assert r"\u202e" in html
        assert "\u202e" not in html
        assert "Unverified, the agent" in html


def test_the_page_explains_the_decision(scene: Scene, decider: Reader) -> None:
    session = scene.session(ASKED, working_directory="/srv/work", env={"LANG": "C"}, timeout_seconds=7)
    html = decider.get(page_of(session))
    for part in (
        "matrix:read:STUDENT",
        "What would allow it",
        "operand",
        "/srv/work",
        "LANG=C",
        "at most 7 s",
        "Why a person is asked",
        "session:pending",
        session.digest,
    ):
        assert part in html, part
    assert "The events themselves" not in html, "the raw events are for people with their permission"


def test_what_ran_shows_its_result_and_output_without_obeying_it(scene: Scene, boss: Reader) -> None:
    session, output = scene.running(), b"\x1b[31mred\n<script>alert(1)</script>"
    scene.record(report(session, output=(OutputSegment.of("stdout", 0, output),)))
    html = boss.get(page_of(session))
    assert r'<span class="atom-escape">\x1b</span>[31mred' in html
    assert "&lt;script&gt;alert(1)" in html
    assert "as reported by the host" in html
    for tag in ("session:queued", "session:claimed", "session:running", "session:succeeded"):
        assert tag in html
    assert f"/admin/shellagent/shellsession/{session.pk}/story/" in html


def test_the_page_says_what_confined_it_and_what_its_host_lacks(scene: Scene, boss: Reader) -> None:
    session = scene.running()
    Host.objects.filter(pk=scene.host.pk).update(
        protections=[name for name in PROTECTIONS if name != "landlock-scope"], last_seen_at=timezone.now()
    )
    scene.record(report(session, protections=("landlock-fs-v7",), detail="The sandbox may be what refused it."))
    html = boss.get(page_of(session))
    assert "The sandbox may be what refused it." in html
    assert '<code class="atom-tag">landlock-fs-v7</code>' in html
    lacking = '<dt>Missing protections</dt><dd><code class="atom-tag atom-warn">landlock-scope</code>'
    assert lacking in html
    assert lacking in boss.get(f"/admin/shellagent/host/{scene.host.pk}/change/")


def test_cancelling_is_for_operators(scene: Scene, decider: Reader) -> None:
    session = scene.session(ASKED)
    viewer = staff("viewer", "shellagent.view_shellsession")
    assert "Cancel it" not in viewer.get(page_of(session))
    viewer.post(f"{LIST}{session.pk}/cancel/", status=403)
    assert status_of(session) == Status.PENDING
    assert "Cancelled" in decider.post(f"{LIST}{session.pk}/cancel/", reason="not needed")
    assert status_of(session) == Status.CANCELLED
    assert "Not done. This is cancelled already." in decide(session, decider)


def test_output_is_followed_while_it_runs_and_says_what_was_masked(scene: Scene, decider: Reader) -> None:
    session = scene.running()
    html = decider.get(page_of(session))
    assert f'data-atom-follow="/api/local-agent/sessions/{session.pk}/output"' in html
    assert "atomsite/follow.js" in html
    scene.record(report(session, masked={"github-token": 2}))
    html = decider.get(page_of(session))
    assert "follow" not in html
    assert "<code>github-token</code> 2 times" in html
    event = AuditEvent.objects.get(session_id=session.pk, tag="session:succeeded")
    assert json.loads(event.body)["data"]["masked"] == {"github-token": 2}


def test_history_cannot_be_changed(scene: Scene, boss: Reader) -> None:
    session = scene.session(DENIED)
    boss.get(f"{LIST}add/", status=403)
    boss.get(f"{LIST}{session.pk}/delete/", status=403)
    boss.post(f"{LIST}{session.pk}/delete/", status=403, post="yes")
    boss.post(page_of(session), status=403, status_="succeeded")
    boss.client.post(LIST, {"action": "delete_selected", "_selected_action": str(session.pk), "post": "yes"})
    assert status_of(session) == Status.DENIED


def test_an_unknown_or_malformed_session_is_not_found(scene: Scene, decider: Reader) -> None:
    for name in ("00000000-0000-7000-8000-000000000000", "nonsense"):
        decider.get(f"{LIST}{name}/change/", status=404)
    decider.post(f"{LIST}00000000-0000-7000-8000-000000000000/decide/", status=404)


def test_filters_narrow_the_queue_and_the_list(scene: Scene, decider: Reader) -> None:
    waiting, denied = scene.session(ASKED), scene.session(DENIED)
    html = decider.get(f"{LIST}?status__exact=denied")
    assert str(denied.pk) in html
    assert str(waiting.pk) not in html
    html = decider.get(f"{LIST}?agent__id__exact={scene.agents[Maturity.INTERN].pk}&category=read")
    assert str(waiting.pk) not in html
    assert "Nothing matches" in html


def test_the_list_counts_nothing_and_asks_the_same_however_many_wait(scene: Scene, decider: Reader) -> None:
    def asked() -> list[str]:
        with CaptureQueriesContext(
            connection,
        ) as found:
            decider.get(LIST)
        return [query["sql"] for query in found.captured_queries]

    scene.session(ASKED)
    scene.session(DENIED)
    before = asked()
    for _ in range(5):
        scene.session(ASKED)
        scene.session(DENIED)
    after = asked()
    assert len(after) == len(before)
    counts = [sql for sql in after if re.search(r"COUNT\(.*shellagent_shellsession", sql, re.IGNORECASE)]
    assert all("'pending'" in sql for sql in counts), "what waits is few; the history is not"


def test_pages_of_the_list_lead_on_and_back(scene: Scene, decider: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShellSessionAdmin, "list_per_page", 2)
    sessions = [scene.session(DENIED) for _ in range(5)]
    shown = []
    for number in (1, 2, 3):
        html = decider.get(f"{LIST}?p={number}")
        assert ("Older</a>" in html) == (number < 3)
        assert ("Newer</a>" in html) == (number > 1)
        shown += [session for session in reversed(sessions) if f"{session.pk}/change" in html]
    assert shown == sessions[::-1]
    assert "Nothing" in decider.get(f"{LIST}?p=99")


@pytest.mark.parametrize("query", ["p=-1", "p=x", f"p={10**30}", "status__exact=nonsense", "category=nonsense"])
def test_an_odd_query_is_no_error(scene: Scene, decider: Reader, query: str) -> None:
    decider.get(f"{LIST}?{query}")


@pytest.mark.parametrize("query", ["agent__owner__password__startswith=m", "requester_key__digest__startswith=a"])
def test_the_list_cannot_be_asked_about_secrets(scene: Scene, decider: Reader, query: str) -> None:
    decider.get(f"{LIST}?{query}", status=400)
