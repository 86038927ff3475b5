"""Callbacks: only where an operator allows, signed with the agent's secret, once for each command that has ended."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from standardwebhooks import Webhook

from audit.models import AuditErasure, AuditEvent
from audit.trail import SYSTEM
from governance.policy.types import Maturity
from shellagent import tasks
from shellagent.models import ShellSession
from shellagent.notifying.calling_back import BODY_MAX_BYTES, OVERLAP, body_of
from shellagent.notifying.delivering import messages_deliver
from shellagent.notifying.models import Attempt, CallbackPlace, Message
from shellagent.notifying.outbox import look_again
from shellagent.notifying.services import callback_place_delete, callback_place_save, callback_secret_issue
from shellagent.services import payloads_retire, session_reject
from tests.shellagent.receivers import Webhooks, webhooks
from tests.shellagent.scene import ALLOWED, ASKED, DENIED, Scene, report

State = Message.State
AGENTS = (Maturity.AUTONOMOUS, Maturity.STUDENT)


@pytest.fixture
def receiver(settings: Any) -> Iterator[Webhooks]:
    """A receiver on this machine, which the operator allows."""
    settings.ATOM_WEBHOOK_PRIVATE_ADDRESSES = True
    with webhooks() as state:
        yield state


@pytest.fixture
def secrets(scene: Scene, receiver: Webhooks) -> dict[Maturity, str]:
    """The secrets of two agents, who may be called back at the receiver."""
    callback_place_save(place=CallbackPlace(prefix=f"{receiver.url}/atom/"), actor=SYSTEM)
    return {maturity: callback_secret_issue(agent=scene.agents[maturity], actor=SYSTEM) for maturity in AGENTS}


def test_the_end_is_told_once_with_the_agents_signature(
    scene: Scene, receiver: Webhooks, secrets: dict[Maturity, str]
) -> None:
    url = f"{receiver.url}/atom/build?run=7"
    asked = scene.as_agent(Maturity.AUTONOMOUS).execute("ls /tmp", callback_url=url)
    assert (asked.status, asked.json["callback_url"]) == (202, url)
    look_again()
    assert messages_deliver() == 0
    scene.poll()
    scene.start(asked.json["id"])
    scene.record(report(ShellSession.objects.get(pk=asked.json["id"])))
    assert messages_deliver() == 1
    ((path, headers, body),) = receiver.took
    assert path == "/atom/build?run=7"
    told = Webhook(secrets[Maturity.AUTONOMOUS]).verify(body, headers)
    assert (told["type"], told["data"]["id"], told["data"]["status"]) == (
        "command.ended",
        asked.json["id"],
        "succeeded",
    )
    assert told["data"]["stdout_bytes"] == 2
    assert not {"stdout", "stderr"} & set(told["data"])
    assert messages_deliver() == 0


def test_whatever_the_end_is(scene: Scene, receiver: Webhooks, secrets: dict[Maturity, str], approver: User) -> None:
    url = f"{receiver.url}/atom/"
    scene.session(DENIED, callback_url=url)
    rejected = scene.session(ASKED, callback_url=url)
    session_reject(session=rejected, approver=approver, reason="Not now")
    expired = scene.session(ALLOWED, callback_url=url)
    ShellSession.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    tasks.tidy()
    assert tasks.deliver() == 3
    ends = {(item := json.loads(body)["data"])["status"]: item["approval"]["reason"] for *_rest, body in receiver.took}
    assert ends == {"denied": None, "rejected": "Not now", "expired": None}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("{url}/atomic", "not below an address that an operator allows"),
        ("{url}/atom/../x", "no `.` or `..`"),
        ("https://user@ci.example.com/", "without a user"),
        ("https://ci.example.com/?t=ghp_0123456789abcdefghijklmnopqrstuvwxyzAB", "looks like a secret"),
        ("nonsense", "cannot be used"),
    ],
)
def test_other_addresses_are_refused(
    scene: Scene, receiver: Webhooks, secrets: dict[Maturity, str], url: str, why: str
) -> None:
    answer = scene.as_agent(Maturity.AUTONOMOUS).execute("ls", callback_url=url.format(url=receiver.url))
    assert (answer.status, answer.problem) == (400, "invalid")
    assert why in answer.json["detail"]
    assert not Message.objects.exists()


def test_an_agent_without_a_secret_and_a_place_of_anothers_are_refused(
    scene: Scene, receiver: Webhooks, secrets: dict[Maturity, str]
) -> None:
    url = f"{receiver.url}/atom/"
    answer = scene.as_agent(Maturity.INTERN).execute("ls", callback_url=url)
    assert "no secret for its callbacks yet" in answer.json["detail"]
    CallbackPlace.objects.update(agent=scene.agents[Maturity.STUDENT])
    assert scene.as_agent(Maturity.AUTONOMOUS).execute("ls", callback_url=url).status == 400


def test_a_replaced_secret_signs_for_a_day_too(scene: Scene, receiver: Webhooks, secrets: dict[Maturity, str]) -> None:
    new = callback_secret_issue(agent=scene.agents[Maturity.STUDENT], actor=SYSTEM)
    scene.session(DENIED, callback_url=f"{receiver.url}/atom/")
    messages_deliver()
    (_path, headers, body), *_rest = receiver.took
    for secret in (new, secrets[Maturity.STUDENT]):
        Webhook(secret).verify(body, headers)
    Message.objects.update(state=State.OPEN)
    later = timezone.now() + OVERLAP
    messages_deliver(clock=lambda: later)
    assert " " not in receiver.took[-1][1]["webhook-signature"]
    for event in AuditEvent.objects.filter(tag="callback_secret:issued"):
        assert "whsec_" not in event.body


@pytest.mark.parametrize("reason", ["place", "erased"])
def test_what_may_no_longer_be_called_is_given_up(
    scene: Scene, receiver: Webhooks, secrets: dict[Maturity, str], reason: str
) -> None:
    scene.session(DENIED, callback_url=f"{receiver.url}/atom/")
    if reason == "place":
        callback_place_delete(place=CallbackPlace.objects.get(), actor=SYSTEM)
    else:
        later = timezone.now() + timedelta(days=2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("django.utils.timezone.now", lambda: later)
            payloads_retire(AuditErasure.Part.REQUEST, 1)
    messages_deliver()
    assert receiver.took == []
    assert Message.objects.get().state == State.GIVEN_UP
    assert Attempt.objects.get().detail


def test_a_body_is_bounded() -> None:
    session = {"id": "1", "decision": {"words": "x" * BODY_MAX_BYTES}, "plan": {}, "command": "ls", "stdout": "secret"}
    body = body_of(session, timezone.now())
    data = json.loads(body)["data"]
    assert len(body) < BODY_MAX_BYTES
    assert (data["left_out"], data["decision"], data["command"]) == (["decision"], None, "ls")
    assert "stdout" not in data
