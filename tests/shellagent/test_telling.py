"""What is told, to whom, when and how often: from the event to the message, with a clock and a sender of our own."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_q.models import OrmQ, Schedule

from audit.trail import SYSTEM
from governance.policy.types import Maturity
from governance.services import agent_set_maturity, user_party
from shellagent import tasks
from shellagent.models import Host, ServerStart, ShellSession
from shellagent.notifying import delivering, spreading
from shellagent.notifying.delivering import messages_deliver
from shellagent.notifying.kinds import Kind
from shellagent.notifying.models import Attempt, Message, Notice, Preference, Sink, all_kinds
from shellagent.notifying.outbox import DELIVER, look_again
from shellagent.notifying.parcels import Delivery, Parcel
from shellagent.notifying.quiet import quiet_until
from shellagent.notifying.retiring import messages_retire
from shellagent.notifying.services import address_checked, message_redeliver, preference_save, sink_save, sink_test
from shellagent.services import session_approve, session_reject
from tests.conftest import person
from tests.shellagent.scene import ALLOWED, ASKED, Scene, report, reread

State = Message.State


class World:
    """The time, and a receiver that takes messages or does not."""

    def __init__(self) -> None:
        self.now = timezone.now()
        self.took: list[Parcel] = []
        self.tried = 0
        self.is_down = False

    def send(self, parcel: Parcel) -> Delivery:
        """Take a message, or be down."""
        self.tried += 1
        if self.is_down:
            return Delivery(is_delivered=False, detail="It answered 503.", status=503)
        self.took.append(parcel)
        return Delivery(is_delivered=True, detail="It answered 204.", status=204)

    def later(self, **duration: float) -> list[Parcel]:
        """Let time pass, have the worker look, and return what arrived."""
        self.now += timedelta(**duration)
        before = len(self.took)
        messages_deliver(clock=lambda: self.now, send=self.send)
        return self.took[before:]

    def ticks(self, *, until: timedelta, every: timedelta = timedelta(seconds=30)) -> list[Parcel]:
        """Have the worker look again and again, as its clock does."""
        before, end = len(self.took), self.now + until
        while self.now < end:
            self.later(seconds=every.total_seconds())
        return self.took[before:]


@pytest.fixture
def world() -> World:
    """One that takes messages."""
    return World()


def sink(name: str = "team", **values: Any) -> Sink:
    """Make a webhook's sink."""
    kinds = [kind for kind in all_kinds() if kind != Kind.HOST_OFFLINE]
    made = Sink(**{"name": name, "way": Sink.Way.WEBHOOK, "owner": None, "kinds": kinds, **values})
    address = address_checked(made.way, f"https://hooks.example.com/{name}?token=of-{name}")
    sink_save(sink=made, actor=SYSTEM, address=address)
    look_again()
    return made


def told(parcel: Parcel) -> dict[str, Any]:
    """Return the JSON of a message."""
    return dict(json.loads(parcel.body)["data"])


def ids(parcels: list[Parcel]) -> list[str]:
    """Return the notices of these messages."""
    return [notice["id"] for parcel in parcels for notice in told(parcel)["notices"]]


def ran(scene: Scene, session: ShellSession) -> None:
    """Have a queued session run to its end."""
    scene.poll()
    scene.start(session.pk)
    scene.record(report(reread(session)))


class TestOutbox:
    def test_a_command_nobody_is_told_of_costs_no_query(self, scene: Scene) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as seen:
                scene.session(ALLOWED)
            return len(seen)

        scene.session(ALLOWED)
        without = queries()
        sink(kinds=[Kind.WAITING, Kind.FINISHED])
        scene.session(ALLOWED)
        assert queries() == without
        assert not Notice.objects.exists()

    def test_it_is_told_only_where_the_event_stands(self, scene: Scene, world: World) -> None:
        sink()
        with transaction.atomic():
            scene.session(ASKED)
            assert Notice.objects.count() == 1
            transaction.set_rollback(True)
        assert world.later() == []

    def test_many_events_have_one_task_queued_until_a_worker_looks(
        self,
        scene: Scene,
        world: World,
        django_capture_on_commit_callbacks: Callable[..., Any],
    ) -> None:
        sink()
        for expected in (1, 2):
            with django_capture_on_commit_callbacks(execute=True):
                scene.session(ASKED)
                scene.session(ASKED)
            assert OrmQ.objects.count() == expected
            world.later()
        assert DELIVER in tasks.SCHEDULED

    def test_what_other_processes_want_is_known_soon(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        scene.session(ASKED)
        Sink.objects.create(name="theirs", way="webhook")
        scene.session(ASKED)
        assert not Notice.objects.exists()
        monkeypatch.setattr("shellagent.notifying.outbox.LOOK_EVERY_SECONDS", -1.0)
        look_again()
        scene.session(ASKED)
        assert Notice.objects.count() == 1


class TestKinds:
    def test_each_event_is_told_as_what_it_is(self, scene: Scene, world: World, approver: User) -> None:
        sink(group_seconds=1)
        asked = scene.session(ASKED)
        rejected = scene.session(ASKED)
        expired = scene.session(ASKED)
        session_approve(session=asked, approver=approver)
        session_reject(session=rejected, approver=approver, reason="No")
        ShellSession.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
        tasks.tidy()
        ran(scene, asked)
        agent = scene.agents[Maturity.SUPERVISED]
        agent_set_maturity(agent=agent, maturity=Maturity.INTERN, reason="Slower", actor=SYSTEM)
        agent_set_maturity(agent=agent, maturity=Maturity.SUPERVISED, reason="Again", actor=SYSTEM)
        # An allowed command that only its agent waits for is nobody else's.
        ran(scene, scene.session(ALLOWED))
        (parcel,) = world.later()
        found = [(one["kind"], one["outcome"]) for one in told(parcel)["notices"]]
        assert sorted(found) == sorted(
            [("waiting", "pending")] * 3
            + [("decided", "queued"), ("decided", "rejected"), ("expired", "expired")]
            + [("finished", "succeeded"), ("demoted", "INTERN")]
        )

    def test_a_silent_host_is_told_of_once(self, scene: Scene, world: World) -> None:
        sink(kinds=[Kind.HOST_OFFLINE])
        Host.objects.filter(pk=scene.host.pk).update(last_seen_at=world.now)
        ServerStart.objects.create(started_at=world.now + timedelta(days=1))  # by a clock that was wrong
        assert world.later(seconds=spreading.OFFLINE_TOLD_SECONDS - 1) == []
        (parcel,) = world.later(seconds=1)
        assert told(parcel)["title"] == "A host is offline: here"
        assert told(parcel)["url"].endswith(f"/admin/shellagent/host/{scene.host.pk}/change/")
        assert world.ticks(until=timedelta(minutes=10), every=timedelta(minutes=2)) == []
        Host.objects.filter(pk=scene.host.pk).update(last_seen_at=world.now)
        assert len(world.later(seconds=spreading.OFFLINE_TOLD_SECONDS)) == 1
        # After a start of the server nobody was heard of yet.
        ServerStart.objects.create(started_at=world.now)
        Host.objects.filter(pk=scene.host.pk).update(last_seen_at=world.now - timedelta(hours=1))
        assert world.later(seconds=30) == []

    def test_how_much_is_said_is_the_sinks_to_set(self, scene: Scene, world: World) -> None:
        for detail in Sink.Detail:
            sink(detail, detail=detail)
        session = scene.session((Maturity.STUDENT, "ls /tmp/@here"))
        said = {told_by.address.rpartition("-")[2]: told_by for told_by in world.later()}
        facts, link, command = (said[name] for name in ("facts", "link", "command"))
        assert told(facts)["title"] == "A command waits: read (student on here)"
        assert told(link)["title"] == "A command waits"
        assert "student" not in link.body
        assert "tmp" not in facts.body + link.body
        assert told(command)["notices"][0]["command"] == "ls /tmp/@\u200bhere"
        card = told(link)["url"]
        assert card == told(link)["notices"][0]["url"]
        assert "/s/" in card
        assert str(session.pk) == told(facts)["notices"][0]["session_id"]


class TestGrouping:
    def test_the_first_is_told_at_once_and_the_rest_together(self, scene: Scene, world: World) -> None:
        sink(group_seconds=30)
        scene.session(ASKED)
        assert [told(one)["total"] for one in world.later()] == [1]
        for _ in range(5):
            scene.session(ASKED)
        assert world.later(seconds=10) == []
        (parcel,) = world.later(seconds=20)
        assert told(parcel)["title"] == "5 commands wait"
        assert told(parcel)["url"].endswith("/queue")

    def test_a_thousand_requests_are_as_many_messages_as_the_grouping_allows(self, db: None, world: World) -> None:
        sink(group_seconds=30)
        many = [Notice(uid=UUID(int=n), kind=Kind.WAITING, occurred_at=world.now) for n in range(1000)]
        arrived: list[Parcel] = []
        for start in range(0, 1000, 100):
            Notice.objects.bulk_create(many[start : start + 100])
            arrived += world.later(seconds=10)
        arrived += world.ticks(until=timedelta(minutes=2))
        # 100 seconds hold four windows of 30, and the first comes at once.
        assert len(arrived) <= 5
        assert sum(told(one)["total"] for one in arrived) == 1000
        assert all(len(told(one)["notices"]) <= 100 for one in arrived)

    def test_an_hour_has_its_most_and_what_is_urgent_comes_all_the_same(self, scene: Scene, world: World) -> None:
        channel = sink(group_seconds=1, most_per_hour=2)
        for _ in range(4):
            scene.session(ASKED)
            world.later(minutes=1)
        assert [told(one)["total"] for one in world.took] == [1, 1]
        sink_test(sink=channel, actor=SYSTEM)
        (parcel,) = world.later(minutes=1)
        assert [one["kind"] for one in told(parcel)["notices"]].count("test") == 1
        assert told(parcel)["total"] == 3


class TestTrouble:
    def test_an_hour_of_silence_loses_nothing_and_repeats_nothing(self, scene: Scene, world: World) -> None:
        channel = sink(group_seconds=30)
        world.is_down = True
        for _ in range(12):
            scene.session(ASKED)
            world.ticks(until=timedelta(minutes=5), every=timedelta(minutes=2.5))
        channel.refresh_from_db()
        assert channel.failing_since is not None
        assert channel.last_error == "It answered 503."
        # Often at first, then every quarter of an hour.
        assert 5 < world.tried < 12
        world.is_down = False
        world.ticks(until=timedelta(minutes=20), every=timedelta(minutes=2))
        waited = Notice.objects.filter(kind=Kind.WAITING).values_list("uid", flat=True)
        assert sorted(ids(world.took)) == sorted(map(str, waited))
        assert len(world.took) == 2
        channel.refresh_from_db()
        assert not channel.failing_since
        assert not channel.last_error
        assert Attempt.objects.filter(is_delivered=False).count() == world.tried - 2
        assert world.ticks(until=timedelta(hours=1), every=timedelta(minutes=20)) == []

    def test_a_worker_that_dies_while_it_sends_leaves_the_message_to_another(self, scene: Scene, world: World) -> None:
        class Killed(BaseException):
            pass

        def die(parcel: Parcel) -> Delivery:
            world.took.append(parcel)
            raise Killed

        sink()
        scene.session(ASKED)
        with pytest.raises(Killed):
            messages_deliver(clock=lambda: world.now, send=die)
        assert world.later(seconds=30) == []
        (again,) = world.later(seconds=delivering.LEASE.total_seconds())
        # The same id: a receiver that took it before it died knows it.
        assert again.name == world.took[0].name

    def test_what_fails_for_a_day_is_given_up_and_can_be_sent_again(self, scene: Scene, world: World) -> None:
        sink()
        scene.session(ASKED)
        world.is_down = True
        world.ticks(until=timedelta(hours=26), every=timedelta(hours=2))
        message = Message.objects.get()
        assert message.state == State.GIVEN_UP
        world.is_down = False
        assert world.later(hours=1) == []
        message_redeliver(message=message, actor=SYSTEM)
        world.now = timezone.now()
        (parcel,) = world.later()
        assert parcel.name == message.name
        Message.objects.update(created_at=world.now - timedelta(days=31))
        Notice.objects.update(occurred_at=world.now - timedelta(days=31))
        assert messages_retire(world.now) == 1
        assert not Notice.objects.exists()

    def test_a_sink_that_is_switched_off_gets_nothing(self, scene: Scene, world: World) -> None:
        channel = sink()
        scene.session(ASKED)
        spreading.notices_spread(world.now)
        channel.is_enabled = False
        sink_save(sink=channel, actor=SYSTEM)
        assert world.later() == []
        assert Message.objects.get().state == State.GIVEN_UP

    def test_a_secret_that_cannot_be_read_is_told_in_the_log(
        self, scene: Scene, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sink()
        scene.session(ASKED)
        Sink.objects.update(address="gAAAAA")
        assert world.later() == []
        assert "encrypted with a key that is not here" in Attempt.objects.get().detail

    def test_the_worker_comes_back_when_the_next_message_is_due(self, scene: Scene) -> None:
        tasks.schedules_install()
        channel = sink(group_seconds=40)
        Sink.objects.filter(pk=channel.pk).update(next_at=timezone.now() + timedelta(seconds=40))
        Schedule.objects.filter(func=DELIVER).update(next_run=timezone.now() + timedelta(seconds=60))
        scene.session(ASKED)
        tasks.deliver()
        due = Message.objects.get().due_at
        assert Schedule.objects.get(func=DELIVER).next_run == due


class TestPeople:
    def test_nobody_is_told_of_what_they_may_not_decide_on_or_did_themselves(
        self, scene: Scene, world: World, approver: User, outsider: User
    ) -> None:
        second = person("second", "shellagent.approve")
        for user in (approver, outsider, second):
            sink(user.username, owner=user, group_seconds=1)
        session = scene.session(ASKED)
        ShellSession.objects.filter(pk=session.pk).update(requester_user=second)
        assert [one.address.rpartition("-")[2] for one in world.later()] == ["approver"]
        session_approve(session=session, approver=approver)
        decided = [one.address.rpartition("-")[2] for one in world.later(seconds=60)]
        assert sorted(decided) == ["outsider", "second"]

    @pytest.mark.parametrize(
        ("now", "until"),
        [
            ("2026-06-01T19:59:00", None),
            ("2026-06-01T20:00:00", "2026-06-02T05:30:00"),
            ("2026-06-02T03:00:00", "2026-06-02T05:30:00"),
            ("2026-06-02T05:30:00", None),
            # The night in which the clocks go forward is an hour shorter.
            ("2026-03-28T22:00:00", "2026-03-29T05:30:00"),
            ("2026-03-27T22:00:00", "2026-03-28T06:30:00"),
        ],
    )
    def test_quiet_hours_are_in_ones_own_time(self, now: str, until: str | None) -> None:
        preference = Preference(time_zone="Europe/Berlin", quiet_from=time(22), quiet_until=time(7, 30))
        expected = datetime.fromisoformat(until).replace(tzinfo=UTC) if until else None
        assert quiet_until(preference, datetime.fromisoformat(now).replace(tzinfo=UTC)) == expected

    def test_the_night_is_kept_and_a_second_approver_is_woken(
        self, scene: Scene, world: World, approver: User, outsider: User
    ) -> None:
        second = person("second", "shellagent.approve")
        for user in (approver, second):
            sink(user.username, owner=user)
            start = (world.now - timedelta(hours=1)).time()
            end = (world.now + timedelta(hours=7)).time()
            preference = Preference(user=user, quiet_from=start, quiet_until=end)
            if user is approver:
                preference.escalate_after_minutes, preference.escalate_to = 5, outsider
                with pytest.raises(ValidationError, match="may not approve"):
                    preference_save(preference=preference, actor=user_party(user))
                preference.escalate_to = second
            preference_save(preference=preference, actor=user_party(user))
        session = scene.session(ASKED)
        assert world.ticks(until=timedelta(minutes=4), every=timedelta(minutes=2)) == []
        (parcel,) = world.ticks(until=timedelta(minutes=4), every=timedelta(minutes=2))
        assert "of-second" in parcel.address
        assert "escalated" in [one["kind"] for one in told(parcel)["notices"]]
        session_approve(session=session, approver=second)
        world.later(hours=7, minutes=1)
        assert ["of-approver" in one.address for one in world.took].count(True) == 1

    def test_what_is_decided_in_time_wakes_nobody(self, scene: Scene, world: World, approver: User) -> None:
        second = person("second", "shellagent.approve")
        sink("approver", owner=approver, kinds=[Kind.WAITING])
        sink("second", owner=second, kinds=[Kind.WAITING], is_enabled=True)
        preference_save(
            preference=Preference(user=approver, escalate_after_minutes=5, escalate_to=second), actor=SYSTEM
        )
        session = scene.session(ASKED)
        assert len(world.later()) == 2
        session_approve(session=session, approver=approver)
        assert world.ticks(until=timedelta(minutes=10), every=timedelta(minutes=2)) == []
