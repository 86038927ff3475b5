"""Notifications in the admin: addresses and secrets are shown never or once, and each keeps their own quiet hours."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.models import AuditEvent
from shellagent.notifying import at_rest
from shellagent.notifying.delivering import messages_deliver
from shellagent.notifying.kinds import CHOICES
from shellagent.notifying.models import CallbackPlace, CallbackSecret, Message, Preference, Sink
from shellagent.notifying.parcels import Delivery, Parcel
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import ASKED, Scene

SINKS = "/admin/notifying/sink/"
ADDRESS = "https://hooks.example.com/services/T0-very-secret"
VALUES: dict[str, Any] = {
    "name": "team",
    "is_enabled": "on",
    "way": "webhook",
    "new_address": ADDRESS,
    "kinds": list(CHOICES),
    "detail": "facts",
    "group_seconds": "30",
    "most_per_hour": "60",
    "owner": "",
}


def failing(parcel: Parcel) -> Delivery:
    """Answer as a broken receiver."""
    return Delivery(is_delivered=False, detail="It answered 500.", status=500)


@pytest.fixture
def keeper(db: None) -> Reader:
    """Someone who keeps the sinks."""
    names = ("add_sink", "change_sink", "delete_sink", "view_sink", "view_message", "change_message")
    return staff("keeper", *(f"notifying.{name}" for name in names))


def test_an_address_is_never_shown_again_and_a_secret_once(keeper: Reader) -> None:
    shown = keeper.post(f"{SINKS}add/", status=200, **VALUES)
    (secret,) = re.findall(r"whsec_[\w+/=]+", shown)
    sink = Sink.objects.get()
    assert at_rest.opened(sink.address) == ADDRESS
    assert at_rest.opened(sink.secret) == secret
    pages = [keeper.get(SINKS), keeper.get(f"{SINKS}{sink.pk}/change/")]
    # Changed without its address: that stays.
    pages.append(keeper.post(f"{SINKS}{sink.pk}/change/", **{**VALUES, "new_address": "", "detail": "link"}))
    sink.refresh_from_db()
    assert (sink.detail, at_rest.opened(sink.address)) == ("link", ADDRESS)
    again = keeper.post(f"{SINKS}{sink.pk}/secret/", status=200)
    assert secret not in again
    assert "whsec_" in again
    events = [event.body for event in AuditEvent.objects.filter(tag__startswith="sink:")]
    assert len(events) == 3
    for text in [*pages, *events]:
        assert "very-secret" not in text
        assert "whsec_" not in text
        assert "hooks.example.com" in text or text in events
    keeper.post(f"{SINKS}{sink.pk}/delete/", post="yes")
    assert not Sink.objects.exists()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"new_address": ""}, "Give the address."),
        ({"new_address": "http://hooks.example.com/"}, "Use https."),
        ({"new_address": "https://10.0.0.1/"}, "is no public address"),
        ({"way": "email", "new_address": "anna@example.com"}, "EMAIL_URL is not set"),
        ({"way": "apprise", "new_address": "json://example.com"}, "signed webhook"),
        ({"kinds": ["everything"]}, "not one of the available choices"),
        ({"group_seconds": "0"}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_used_is_said_beside_its_field(
    keeper: Reader, changed: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shellagent.notifying import apprise_process, apprises  # noqa: PLC0415

    monkeypatch.setattr(
        apprises, "apprise_problem", lambda url: str(apprise_process.answer({"url": url}).get("problem", ""))
    )
    assert why in keeper.post(f"{SINKS}add/", status=200, **{**VALUES, **changed})
    assert not Sink.objects.exists()


def test_the_log_shows_each_attempt_and_sends_again(keeper: Reader, scene: Scene) -> None:
    keeper.post(f"{SINKS}add/", status=200, **VALUES)
    sink = Sink.objects.get()
    assert "A test is on its way" in keeper.post(f"{SINKS}{sink.pk}/test/")
    scene.session(ASKED)
    messages_deliver(send=failing)
    message = Message.objects.get()
    listed = keeper.get("/admin/notifying/message/")
    assert "A command waits, This is a test" in listed or "This is a test, A command waits" in listed
    page = keeper.get(f"/admin/notifying/message/{message.pk}/change/")
    for said in ("It answered 500.", "A command waits: read (student on here)", "/s/", "to be tried again"):
        assert said in page
    assert "failing" in keeper.get(SINKS)
    assert "It is sent again" in keeper.post(f"/admin/notifying/message/{message.pk}/again/")
    assert AuditEvent.objects.filter(tag="message:redelivered", actor_label="keeper").exists()
    reader = staff("reader", "notifying.view_message")
    reader.get(f"/admin/notifying/message/{message.pk}/change/")
    assert reader.client.post(f"/admin/notifying/message/{message.pk}/again/").status_code == 403


def test_callback_secrets_are_issued_and_replaced(scene: Scene) -> None:
    operator = staff("operator", "notifying.change_callbacksecret", "notifying.add_callbackplace")
    agent = scene.agents[ASKED[0]]
    page = "/admin/notifying/callbacksecret/"
    assert "it cannot be called back" in operator.get(page)
    for _ in range(2):
        (secret,) = re.findall(r"whsec_[\w+/=]+", operator.post(f"{page}{agent.pk}/issue/", status=200))
        assert at_rest.opened(CallbackSecret.objects.get().secret) == secret
    assert "the one before signs until" in operator.get(page)
    add = "/admin/notifying/callbackplace/add/"
    assert "Use https." in operator.post(add, status=200, prefix="http://ci.example.com/", agent="", note="")
    operator.client.post(add, {"prefix": "https://ci.example.com/atom/", "agent": "", "note": "CI"})
    assert CallbackPlace.objects.get().note == "CI"


def test_each_keeps_their_own_quiet_hours(decider: Reader, superuser: User, outsider: User) -> None:
    page = "/admin/notifying/preference/"
    values: dict[str, Any] = {"time_zone": "Europe/Berlin", "quiet_from": "22:00", "quiet_until": "07:30"}
    for changed, why in (
        ({"time_zone": "Mars"}, "is no time zone"),
        ({"quiet_until": ""}, "Give both ends"),
        ({"escalate_after_minutes": "5"}, "Give both the minutes"),
        ({"escalate_after_minutes": "5", "escalate_to": str(outsider.pk)}, "may not approve"),
        ({"escalate_after_minutes": "5", "escalate_to": str(decider.user.pk)}, "the same person"),
    ):
        assert why in decider.post(f"{page}add/", status=200, **{**values, **changed})
    decider.post(f"{page}add/", **values, escalate_after_minutes="5", escalate_to=str(superuser.pk), user="1")
    own = Preference.objects.get()
    assert (own.user, own.escalate_to) == (decider.user, superuser)
    other = Preference.objects.create(user=superuser)
    assert decider.client.get(f"{page}{other.pk}/change/").status_code == 302
    assert "superuser is told after 5 minutes" in decider.get(page)


def test_who_has_no_permission_sees_none_of_it(nobody: Reader) -> None:
    for section in ("sink", "message", "preference", "callbackplace", "callbacksecret"):
        nobody.get(f"/admin/notifying/{section}/", status=403)
