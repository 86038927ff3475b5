"""What changes between two steps of telling: a sink is switched off, a person loses a permission."""

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from audit.trail import SYSTEM
from shellagent.notifying.delivering import messages_deliver, next_due
from shellagent.notifying.kinds import Kind
from shellagent.notifying.models import Message, Preference
from shellagent.notifying.parcels import Delivery, Parcel
from shellagent.notifying.services import preference_save, sink_save
from tests.conftest import person
from tests.shellagent.scene import ASKED, Scene
from tests.shellagent.test_telling import World, sink


@pytest.fixture
def world() -> World:
    return World()


def test_a_sink_that_is_switched_off_while_it_is_sent_to_gets_nothing_later(scene: Scene) -> None:
    channel = sink()
    scene.session(ASKED)

    tried: list[Parcel] = []

    def send(parcel: Parcel) -> Delivery:
        tried.append(parcel)
        return Delivery(is_delivered=False, detail="It answered 503.", status=503)

    def clock() -> datetime:
        # It is asked for the time once more when the sending is over, on the thread of the test's transaction.
        if tried and channel.is_enabled:
            channel.is_enabled = False
            sink_save(sink=channel, actor=SYSTEM)
        return timezone.now()

    assert messages_deliver(clock=clock, send=send) == 1
    assert Message.objects.get().state == Message.State.GIVEN_UP
    assert next_due() is None


def test_who_may_not_approve_any_more_is_not_told_as_the_second(scene: Scene, world: World, approver: User) -> None:
    second = person("second", "shellagent.approve")
    sink("approver", owner=approver, kinds=[Kind.WAITING])
    sink("second", owner=second, kinds=[Kind.WAITING])
    preference_save(preference=Preference(user=approver, escalate_after_minutes=5, escalate_to=second), actor=SYSTEM)
    second.user_permissions.clear()
    scene.session(ASKED)
    told = [parcel.address for parcel in world.ticks(until=timedelta(minutes=10), every=timedelta(minutes=2))]
    assert ["of-approver" in address for address in told] == [True]
