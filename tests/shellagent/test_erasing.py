"""Erasing: one person asks, another confirms, both are told, the commitments stay and the bytes do not."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from audit.erasing import KINDS_OF, payloads_erase
from audit.models import AuditErasure, AuditEvent, AuditPayload
from audit.tags import Tag
from audit.trail import payloads_of
from governance.errors import ForbiddenError, ProblemError
from shellagent.errors import StateError
from shellagent.models import ShellSession
from shellagent.protocol import RunOutcome
from shellagent.services import erasure_decide, erasure_request, payloads_retire
from tests.conftest import person
from tests.shellagent.scene import ALLOWED, ASKED, Scene, report, reread, tags

Part, State = AuditErasure.Part, AuditErasure.State


@pytest.fixture
def ann(db: None) -> User:
    return person("ann", "audit.erase")


@pytest.fixture
def bob(db: None) -> User:
    return person("bob", "audit.erase")


@pytest.fixture
def ended(scene: Scene) -> ShellSession:
    session = scene.running()
    scene.record(report(session, RunOutcome.FAILED, exit_codes=(1,), detail="no such file: /secret"))
    return reread(session)


def data_of(session: ShellSession, tag: str) -> dict[str, object]:
    return dict(json.loads(AuditEvent.objects.get(session_id=session.pk, tag=tag).body)["data"])


@pytest.mark.parametrize(
    ("part", "left"), [(Part.OUTPUT, {"request", "decision"}), (Part.REQUEST, {"stdout"}), (Part.ALL, set())]
)
def test_two_people_erase_a_part(
    ended: ShellSession, ann: User, bob: User, part: AuditErasure.Part, left: set[str]
) -> None:
    rows = {row.kind: row for row in AuditPayload.objects.filter(session_id=ended.pk)}
    wish = erasure_request(session=ended, part=part, reason=" It holds a customer's name. ", user=ann)
    assert len(payloads_of([ended.pk])) == 3, "nothing goes before the second person"
    wish = erasure_decide(erasure=wish, user=bob, confirms=True)
    assert (wish.state, wish.requested_by_label, wish.decided_by_label) == (State.ERASED, "ann", "bob")
    assert {item.kind for item in payloads_of([ended.pk])} == left
    gone = AuditPayload.objects.filter(session_id=ended.pk).exclude(erased_at=None)
    for row in gone:
        was = rows[row.kind]
        assert (bytes(row.salt), bytes(row.data), row.size) == (b"", b"", len(was.data))
        assert row.commitment == hashlib.sha256(bytes(was.salt) + bytes(was.data)).hexdigest()
    assert tags(ended)[-2:] == ["erasure:requested", "erasure:done"]
    done = data_of(ended, "erasure:done")
    assert done["commitments"] == [row.commitment for row in gone.order_by("pk")]
    assert (done["reason"], done["requested_by"]) == (
        "It holds a customer's name.",
        {"id": str(ann.pk), "label": "ann"},
    )
    assert ended.records.get().detail == "(erased)"
    assert reread(ended).termination_detail == ("no such file: /secret" if part is Part.OUTPUT else "(erased)")
    # The events of the request and of the result still hold the commitments.
    asked, result = data_of(ended, "session:queued"), data_of(ended, "session:failed")
    assert (
        asked["request_commitment"]
        == hashlib.sha256(bytes(rows["request"].salt) + bytes(rows["request"].data)).hexdigest()
    )
    assert result["segments"]


def test_who_asked_does_not_confirm_and_may_take_it_back(ended: ShellSession, ann: User, superuser: User) -> None:
    for user in (ann, superuser):
        wish = erasure_request(session=ended, part=Part.ALL, reason="why", user=user)
        with pytest.raises(ForbiddenError, match="yourself"):
            erasure_decide(erasure=wish, user=user, confirms=True)
        assert erasure_decide(erasure=wish, user=user, confirms=False).state == State.REFUSED
        with pytest.raises(StateError, match="refused already"):
            erasure_decide(erasure=wish, user=superuser, confirms=True)
    assert len(payloads_of([ended.pk])) == 3
    assert tags(ended)[-2:] == ["erasure:requested", "erasure:refused"]


def test_what_cannot_be_asked_for(scene: Scene, ended: ShellSession, ann: User, bob: User, outsider: User) -> None:
    waiting, denied = scene.session(ASKED), scene.session((ALLOWED[0], "sudo reboot"))

    def refusal(session: ShellSession, part: AuditErasure.Part, reason: str, user: User) -> str:
        events = AuditEvent.objects.count()
        with pytest.raises(ProblemError) as found:
            erasure_request(session=session, part=part, reason=reason, user=user)
        assert AuditEvent.objects.count() == events
        return str(found.value)

    assert "permission" in refusal(ended, Part.ALL, "why", outsider)
    assert "Say why" in refusal(ended, Part.ALL, "  ", ann)
    assert "not ended" in refusal(waiting, Part.ALL, "why", ann)
    assert "Nothing" in refusal(denied, Part.OUTPUT, "why", ann)
    wish = erasure_request(session=ended, part=Part.OUTPUT, reason="why", user=ann)
    assert "second person already" in refusal(ended, Part.REQUEST, "why", bob)
    with pytest.raises(ForbiddenError, match="permission"):
        erasure_decide(erasure=wish, user=outsider, confirms=True)
    erasure_decide(erasure=wish, user=bob, confirms=True)
    assert "Nothing" in refusal(ended, Part.OUTPUT, "why", ann)


def test_what_the_api_shows_of_an_erased_session(scene: Scene, ended: ShellSession, ann: User, bob: User) -> None:
    wish = erasure_request(session=ended, part=Part.ALL, reason="why", user=ann)
    erasure_decide(erasure=wish, user=bob, confirms=True)
    shown = scene.as_agent(ALLOWED[0]).get(f"/api/local-agent/sessions/{ended.pk}").json
    assert (shown["command"], shown["argv"], shown["env"], shown["reason"]) == (None, None, None, None)
    assert (shown["stdout"], shown["exit_code"], shown["status"]) == ("", 1, "failed")
    assert "/secret" not in json.dumps(shown)


def test_two_workers_name_what_aged_out_once(own_scene: Scene) -> None:
    own_scene.record(report(own_scene.running()))
    AuditPayload.objects.update(created_at=timezone.now() - timedelta(days=400))

    def second() -> int:
        try:
            return payloads_retire(Part.REQUEST, 90)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            gone = payloads_erase(AuditPayload.objects.filter(kind__in=KINDS_OF[Part.REQUEST]), timezone.now())
            other = pool.submit(second)
            # Long enough for it to come to what is being erased here.
            wait([other], timeout=0.5)
        assert (len(gone), other.result()) == (2, 0)
    assert not AuditEvent.objects.filter(tag=Tag.RETENTION_APPLIED).exists()
