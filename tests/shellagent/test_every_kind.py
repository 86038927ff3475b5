"""Each kind of notice on its whole way: from what happens, through the outbox, to a receiver of webhooks."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from standardwebhooks import Webhook

from audit import sealing
from audit.trail import SYSTEM
from audit.verdicts import verdict_update
from faults.attacks import EVENTS, do
from governance.policy.types import Maturity
from governance.services import user_party
from shellagent.links import SessionConverter
from shellagent.models import Host, ServerStart, ShellSession
from shellagent.notifying.delivering import messages_deliver
from shellagent.notifying.kinds import CHOICES, Kind
from shellagent.notifying.models import Message, Preference, Sink, all_kinds
from shellagent.notifying.outbox import look_again
from shellagent.notifying.services import address_checked, preference_save, sink_save
from shellagent.services import (
    killswitch_off,
    killswitch_on,
    promotions_review,
    session_approve,
    session_reject,
    sessions_expire,
)
from shellagent.states import Status
from tests.conftest import person
from tests.shellagent.receivers import Webhooks, webhooks
from tests.shellagent.scene import ASKED, Scene, report, reread
from tests.shellagent.test_records import ended


@pytest.fixture
def receiver(settings: Any) -> Iterator[Webhooks]:
    """A receiver on this machine, which the operator allows."""
    settings.ATOM_WEBHOOK_PRIVATE_ADDRESSES = True
    with webhooks() as state:
        yield state


class Told:
    """Two sinks at one receiver, the team's and a second approver's, and what each was told since the last look."""

    def __init__(self, receiver: Webhooks, second: User) -> None:
        self.receiver = receiver
        self.now = timezone.now()
        self.secrets = {
            f"/{made.name}": sink_save(
                sink=made, actor=SYSTEM, address=address_checked(made.way, f"{receiver.url}/{made.name}")
            )
            for made in (
                Sink(name="team", way=Sink.Way.WEBHOOK, kinds=all_kinds(), group_seconds=1),
                Sink(name="second", way=Sink.Way.WEBHOOK, kinds=[Kind.WAITING], owner=second, group_seconds=1),
            )
        }
        look_again()

    def later(self, path: str = "/team", **duration: float) -> list[dict[str, Any]]:
        """Let time pass and have the worker look. Returns the notices that one sink was told, each verified."""
        self.now += timedelta(**(duration or {"seconds": 10}))
        before = len(self.receiver.took)
        messages_deliver(clock=lambda: self.now)
        found: list[dict[str, Any]] = []
        for where, headers, body in self.receiver.took[before:]:
            told = Webhook(self.secrets[where]).verify(body, headers)
            found += told["data"]["notices"] if where == path else []
        return found


def test_every_kind_reaches_a_sink_signed_once_and_with_a_link(own_scene: Scene, receiver: Webhooks) -> None:
    scene, first, second = own_scene, person("first", "shellagent.approve"), person("second", "shellagent.approve")
    for number in range(10):
        ended(scene, Status.SUCCEEDED, number)
    told = Told(receiver, second)
    card, host, agents = "/s/{}", f"/admin/shellagent/host/{scene.host.pk}/change/", "/admin/governance/agent/"
    session = scene.session((Maturity.STUDENT, "cat /tmp/in-no-message"))
    expired = scene.session(ASKED)
    waits = [SessionConverter().to_url(one.pk) for one in (session, expired)]

    def ran() -> None:
        scene.poll()
        scene.start(session.pk)
        scene.record(report(reread(session)))

    def expire() -> None:
        ShellSession.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
        assert sessions_expire() == 1

    def fall_silent() -> None:
        ServerStart.objects.update(started_at=told.now - timedelta(days=1))
        Host.objects.filter(pk=scene.host.pk).update(last_seen_at=told.now - timedelta(minutes=2))

    def tamper() -> None:
        sealing.seal(timezone.now())
        verdict_update(timezone.now())
        do([f"UPDATE {EVENTS} SET tag = 'session:output' WHERE id = (SELECT min(id) FROM {EVENTS})"])  # noqa: S608
        verdict_update(timezone.now() + timedelta(days=1))

    def switch(change: Callable[..., object]) -> Callable[[], object]:
        return lambda: change(reason="It loops.", actor=user_party(first))

    steps: list[tuple[Callable[[], object], Kind, str, str]] = [
        (lambda: session_approve(session=session, approver=first), Kind.DECIDED, "queued", card.format(waits[0])),
        (ran, Kind.FINISHED, "succeeded", card.format(waits[0])),
        (expire, Kind.EXPIRED, "expired", card.format(waits[1])),
        (promotions_review, Kind.PROMOTION, "INTERN", f"{agents}{scene.agents[Maturity.STUDENT].pk}/change/"),
        (
            lambda: scene.session((Maturity.SUPERVISED, "sudo reboot")),
            Kind.DEMOTED,
            "INTERN",
            f"{agents}{scene.agents[Maturity.SUPERVISED].pk}/change/",
        ),
        (fall_silent, Kind.HOST_OFFLINE, "", host),
        (switch(killswitch_on), Kind.KILL_SWITCH, "on", "/admin/"),
        (switch(killswitch_off), Kind.KILL_SWITCH, "lifted", "/admin/"),
        (tamper, Kind.TRAIL_NOT_SOUND, "tampered", "/admin/audit/auditevent/"),
    ]
    assert [(one["kind"], one["url"].rpartition("/")[2]) for one in told.later()] == [
        (Kind.WAITING, waits[0]),
        (Kind.WAITING, waits[1]),
    ]
    seen = {Kind.WAITING}
    for happens, kind, outcome, path in steps:
        happens()
        found = [(one["kind"], one["outcome"] or "", one["url"].endswith(path)) for one in told.later()]
        assert found == [(kind, outcome, True)]
        seen.add(kind)
    assert seen == {Kind(name) for name in CHOICES}
    assert told.later(hours=1) == [], "each was told once"
    bodies = "".join(body for _path, _headers, body in receiver.took)
    assert "in-no-message" not in bodies
    assert not any(secret in bodies for secret in (*told.secrets.values(), *scene.keys.values(), session.digest))
    names = [headers["webhook-id"] for _path, headers, _body in receiver.took]
    assert len(names) == len(set(names)) == Message.objects.filter(state=Message.State.SENT).count()


def test_a_second_approver_is_told_of_what_the_first_left(own_scene: Scene, receiver: Webhooks) -> None:
    first, second = person("first", "shellagent.approve"), person("second", "shellagent.approve")
    told = Told(receiver, second)
    address = address_checked(Sink.Way.WEBHOOK, f"{receiver.url}/first")
    own = Sink(name="first", way=Sink.Way.WEBHOOK, kinds=[Kind.WAITING], owner=first, group_seconds=1)
    told.secrets["/first"] = sink_save(sink=own, actor=SYSTEM, address=address)
    preference_save(preference=Preference(user=first, escalate_after_minutes=5, escalate_to=second), actor=SYSTEM)
    session = own_scene.session(ASKED)
    assert [one["kind"] for one in told.later("/second")] == [Kind.WAITING]
    assert told.later("/second", minutes=4) == []
    (notice,) = told.later("/second", minutes=1)
    assert (notice["kind"], notice["session_id"]) == (Kind.ESCALATED, str(session.pk))
    session_reject(session=session, approver=second, reason="No.")
    assert told.later("/second", minutes=10) == []
