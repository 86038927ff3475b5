"""Every change of sinks, callbacks and messages, each with its audit event in the same transaction. No event, message
or log holds an address or a secret: those are shown masked, or once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from audit.tags import Tag
from audit.trail import Event, Party, record
from governance.errors import ConflictError, InvalidError
from governance.models import Agent
from governance.services import agent_party
from shellagent.notifying import at_rest
from shellagent.notifying.addresses import AddressError, address_read
from shellagent.notifying.calling_back import OVERLAP
from shellagent.notifying.kinds import Kind
from shellagent.notifying.models import CallbackPlace, CallbackSecret, Message, Preference, Sink
from shellagent.notifying.outbox import deliver_soon, look_again, notice_add

State = Message.State
RECIPIENTS_MAX: Final = 20
_APPROVE: Final = "shellagent.approve"
_TOLD_OF_SINKS: Final = ("name", "way", "is_enabled", "owner_id", "kinds", "detail", "group_seconds", "most_per_hour")


@dataclass(frozen=True, slots=True)
class Checked:
    """An address that may be used, and what of it may be shown."""

    text: str = field(repr=False)
    shown: str


@transaction.atomic
def sink_save(*, sink: Sink, actor: Party, address: Checked | None = None) -> str:
    """Save a sink; without an address the one it has stays. Returns its signing secret where that was just made.

    Raises InvalidError where it has no address, ValidationError for other values.
    """
    before = Sink.objects.filter(pk=sink.pk).first() if sink.pk else None
    secret = ""
    if address is not None:
        sink.address, sink.address_shown = at_rest.sealed(address.text), address.shown
    elif before is None or before.way != sink.way:
        raise InvalidError("Give the address.", field="address")
    if sink.way == Sink.Way.WEBHOOK and not sink.secret:
        secret = at_rest.signing_secret()
        sink.secret = at_rest.sealed(secret)
    sink.full_clean()
    sink.save()
    if not sink.is_enabled:
        unsent = Message.objects.filter(sink=sink, state__in=[State.OPEN, State.RETRY])
        unsent.update(state=State.GIVEN_UP)
    transaction.on_commit(look_again)
    data = {
        "before": _told(before),
        "after": _told(sink),
        "has_new_address": address is not None and before is not None,
    }
    record(Event(Tag.SINK_CHANGED, actor, _party(sink), data=data))
    return secret


@transaction.atomic
def sink_delete(*, sink: Sink, actor: Party) -> None:
    """Remove a sink, with what was to be sent there and its log."""
    party, before = _party(sink), _told(sink)
    sink.delete()
    transaction.on_commit(look_again)
    record(Event(Tag.SINK_DELETED, actor, party, data={"before": before}))


@transaction.atomic
def sink_secret_issue(*, sink: Sink, actor: Party) -> str:
    """Give a webhook's sink a new signing secret, and return it: the only time that it can be read."""
    if sink.way != Sink.Way.WEBHOOK:
        raise InvalidError("Only a webhook is signed.")
    secret = at_rest.signing_secret()
    Sink.objects.filter(pk=sink.pk).update(secret=at_rest.sealed(secret))
    record(Event(Tag.SINK_SECRET_ISSUED, actor, _party(sink)))
    return secret


@transaction.atomic
def sink_test(*, sink: Sink, actor: Party) -> None:
    """Send a test there. Raises ConflictError where the sink is switched off."""
    if not sink.is_enabled:
        raise ConflictError(f"{sink} is switched off.")
    notice_add(Kind.TEST, str(uuid7()), now=timezone.now(), sink=sink, subject=f"asked for by {actor.label}")
    deliver_soon()


@transaction.atomic
def message_redeliver(*, message: Message, actor: Party) -> None:
    """Send a message again, with its id, whatever became of it. Raises ConflictError while it is still to be sent."""
    over = Message.objects.filter(pk=message.pk, state__in=[State.SENT, State.GIVEN_UP, State.RETRY])
    if message.sink is not None and not message.sink.is_enabled:
        raise ConflictError(f"{message.sink} is switched off.")
    # From now on it is tried for a day again.
    if not over.update(state=State.RETRY, due_at=timezone.now(), first_tried_at=timezone.now()):
        raise ConflictError("It is still to be sent for the first time, or is being sent now.")
    data = {"to": str(message.sink) if message.sink else "the callback"}
    record(Event(Tag.MESSAGE_REDELIVERED, actor, Party("message", str(message.pk), message.name), data=data))
    deliver_soon()


@transaction.atomic
def preference_save(*, preference: Preference, actor: Party) -> None:
    """Save a person's quiet hours and who is told where they do not decide. Raises ValidationError."""
    second = preference.escalate_to
    if second is not None and not (second.is_active and second.has_perm(_APPROVE)):
        raise ValidationError({"escalate_to": f"{second} may not approve commands."})
    preference.full_clean()
    preference.save()
    subject = Party("user", str(preference.user_id), str(preference.user))
    quiet = f"{preference.quiet_from} to {preference.quiet_until}" if preference.quiet_from else ""
    after = {
        "quiet": quiet,
        "time_zone": preference.time_zone,
        "escalate_after_minutes": preference.escalate_after_minutes,
        "escalate_to": str(second) if second else "",
    }
    record(Event(Tag.PREFERENCE_CHANGED, actor, subject, data=after))


@transaction.atomic
def callback_place_save(*, place: CallbackPlace, actor: Party) -> None:
    """Let agents be called back below an address. Raises InvalidError for one that is never called."""
    before = CallbackPlace.objects.filter(pk=place.pk).first() if place.pk else None
    try:
        if address_read(place.prefix).query:
            raise AddressError("What addresses begin with has no query.")
    except AddressError as error:
        raise InvalidError(str(error), field="prefix") from error
    place.full_clean()
    place.save()
    data = {"before": _place(before), "after": _place(place)}
    record(
        Event(Tag.CALLBACK_PLACE_CHANGED, actor, Party("callback_place", str(place.pk), place.prefix[:200]), data=data)
    )


@transaction.atomic
def callback_place_delete(*, place: CallbackPlace, actor: Party) -> None:
    """Call nobody back below an address any more; what is to be sent there is not sent."""
    party, before = Party("callback_place", str(place.pk), place.prefix[:200]), _place(place)
    place.delete()
    record(Event(Tag.CALLBACK_PLACE_DELETED, actor, party, data={"before": before}))


@transaction.atomic
def callback_secret_issue(*, agent: Agent, actor: Party) -> str:
    """Give an agent's callbacks a new secret, and return it: the only time that it can be read.

    The one before it signs too for a day, so that a receiver can change over without missing a callback.
    """
    now, secret = timezone.now(), at_rest.signing_secret()
    known = CallbackSecret.objects.select_for_update().filter(agent=agent).first()
    row = known or CallbackSecret(agent=agent)
    if known is not None:
        row.previous, row.previous_until = known.secret, now + OVERLAP
    row.secret, row.issued_at = at_rest.sealed(secret), now
    row.save()
    record(Event(Tag.CALLBACK_SECRET_ISSUED, actor, agent_party(agent), data={"is_first": known is None}))
    return secret


def address_checked(way: str, address: str) -> Checked:
    """Return an address as it is kept, and as it may be shown. Raises InvalidError for one that cannot be used.

    What looks at an Apprise URL is a process of its own, which takes two seconds: ask outside of a transaction.
    """
    address = address.strip()
    if way == Sink.Way.WEBHOOK:
        try:
            return Checked(address, address_read(address).shown)
        except AddressError as error:
            raise InvalidError(str(error), field="address") from error
    if way == Sink.Way.EMAIL:
        return _emails_checked(address)
    from shellagent.notifying.apprises import apprise_problem  # noqa: PLC0415

    if len(address) > 2000 or not address.isprintable() or "://" not in address:
        raise InvalidError("An Apprise URL is like discord://…, of 2000 characters at most.", field="address")
    if problem := apprise_problem(address):
        raise InvalidError(problem, field="address")
    return Checked(address, f"{address.partition('://')[0]}://…")


def _emails_checked(text: str) -> Checked:
    if not settings.EMAIL_URL:
        raise InvalidError("EMAIL_URL is not set: there is no mail server to send by.", field="address")
    addresses = [part for part in re.split(r"[,;\s]+", text) if part]
    if not 0 < len(addresses) <= RECIPIENTS_MAX:
        raise InvalidError(f"Give 1 to {RECIPIENTS_MAX} addresses.", field="address")
    for address in addresses:
        try:
            validate_email(address)
        except ValidationError as error:
            raise InvalidError(f"{address!r} is no email address.", field="address") from error
    joined = ", ".join(addresses)
    return Checked(joined, joined if len(joined) <= 200 else f"{joined[:199]}…")


def _party(sink: Sink) -> Party:
    return Party("sink", str(sink.pk), sink.name)


def _told(sink: Sink | None) -> Mapping[str, object] | None:
    if sink is None:
        return None
    return {**{name: getattr(sink, name) for name in _TOLD_OF_SINKS}, "address": sink.address_shown}


def _place(place: CallbackPlace | None) -> Mapping[str, object] | None:
    if place is None:
        return None
    return {"prefix": place.prefix, "agent": str(place.agent) if place.agent else "every agent", "note": place.note}
