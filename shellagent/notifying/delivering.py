"""Delivering messages: claim what is due, send it, write down how it went. Every step can be the last before a crash.

A message is claimed by one conditional UPDATE with a lease. A worker that dies while it sends leaves the lease to run
out, and the message is sent again with the same id, by which its receiver knows it. Of one sink's messages the oldest
goes first, and the others gather behind it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from audit.key_files import KeyFileError
from shellagent.notifying import at_rest
from shellagent.notifying.calling_back import CallbackError, callback_parcel
from shellagent.notifying.kinds import URGENT
from shellagent.notifying.models import Attempt, Bell, Message, Preference, Sink
from shellagent.notifying.parcels import Delivery, Parcel
from shellagent.notifying.quiet import quiet_until
from shellagent.notifying.rendering import Told
from shellagent.notifying.spreading import callbacks_release, escalations_watch, hosts_watch, notices_spread

logger = logging.getLogger(__name__)

State = Message.State
#: How long after an attempt the next one follows: quickly at first, then every quarter of an hour.
BACKOFF_SECONDS: Final = (10, 30, 60, 180, 600, 900)
#: What could not be delivered for so long is given up; the log keeps it, and it can be sent again by hand.
GIVE_UP_AFTER: Final = timedelta(hours=24)
#: Longer than any attempt.
LEASE: Final = timedelta(seconds=90)
#: A run begins nothing new after so long, because other tasks wait for the worker.
RUN_SECONDS: Final = 20
_AT_ONCE: Final = 8
_LOOK_AT: Final = 500

Send = Callable[[Parcel], Delivery]
Clock = Callable[[], datetime]


def messages_deliver(clock: Clock = timezone.now, send: Send | None = None) -> int:
    """Do all that is due now. Returns how many attempts were made."""
    began = clock()
    # Before the look: whoever adds something from here on rings anew.
    if not Bell.objects.filter(pk=1).update(is_rung=False):
        Bell.objects.get_or_create(pk=1)
    hosts_watch(began)
    escalations_watch(began)
    attempts = 0
    slow_agents: set[int] = set()
    while (clock() - began).total_seconds() < RUN_SECONDS:
        now = clock()
        notices_spread(now)
        callbacks_release(now)
        claimed = _claim(now, slow_agents)
        if not claimed:
            break
        for message, delivery, duration_ms in _sent(claimed, now, send or send_parcel):
            _settle(message, delivery, duration_ms, clock())
            if not delivery.is_delivered and message.agent_id:
                slow_agents.add(message.agent_id)
        attempts += len(claimed)
    return attempts


def next_due() -> datetime | None:
    """Return when the next message is due, or None where none waits."""
    waiting = Message.objects.filter(state__in=[State.OPEN, State.RETRY]).order_by("due_at")
    return waiting.values_list("due_at", flat=True).first()


def send_parcel(parcel: Parcel) -> Delivery:
    """Send by the way of a parcel. What each way needs is imported when it is first used."""
    if parcel.way == Sink.Way.APPRISE:
        from shellagent.notifying.apprises import apprise_send  # noqa: PLC0415

        return apprise_send(parcel)
    if parcel.way == Sink.Way.EMAIL:
        from shellagent.notifying.emails import email_send  # noqa: PLC0415

        return email_send(parcel)
    from shellagent.notifying.webhooks import webhook_send  # noqa: PLC0415

    return webhook_send(parcel)


def _claim(now: datetime, slow_agents: set[int]) -> list[Message]:
    """Take what is due, a few at a time: sinks before callbacks, and of each sink its oldest message only."""
    is_due = Q(state__in=[State.OPEN, State.RETRY], due_at__lte=now) | Q(state=State.SENDING, leased_until__lte=now)
    due = (
        Message.objects.filter(is_due)
        .exclude(agent_id__in=slow_agents)
        .exclude(sink__is_enabled=False)
        .select_related("sink", "sink__owner")
    )
    taken: list[Message] = []
    for message in due.order_by(F("sink").asc(nulls_last=True), "due_at", "id")[:_LOOK_AT]:
        if len(taken) == _AT_ONCE:
            break
        if message.sink is not None and (_is_behind(message, message.sink) or _is_put_off(message, message.sink, now)):
            continue
        same = Message.objects.filter(pk=message.pk, state=message.state, attempts=message.attempts)
        first = message.first_tried_at or now
        if same.update(state=State.SENDING, leased_until=now + LEASE, attempts=F("attempts") + 1, first_tried_at=first):
            message.attempts += 1
            message.first_tried_at = first
            if message.sink is not None:
                Sink.objects.filter(pk=message.sink.pk).update(
                    next_at=now + timedelta(seconds=message.sink.group_seconds)
                )
            taken.append(message)
    return taken


def _is_behind(message: Message, sink: Sink) -> bool:
    states = [State.OPEN, State.RETRY, State.SENDING]
    return Message.objects.filter(sink=sink, state__in=states, pk__lt=message.pk).exists()


def _is_put_off(message: Message, sink: Sink, now: datetime) -> bool:
    """Put a message off that comes too soon or at night. Returns whether it was."""
    if message.notices.filter(kind__in=URGENT).exists():
        return False
    until = _hour_is_full(message, sink, now)
    preference = Preference.objects.filter(user_id=sink.owner_id).first() if sink.owner_id else None
    if until is None and preference is not None:
        until = quiet_until(preference, now)
    if until is None:
        return False
    Message.objects.filter(pk=message.pk, state=message.state).update(due_at=until)
    return True


def _hour_is_full(message: Message, sink: Sink, now: datetime) -> datetime | None:
    if message.attempts:
        return None
    hour = timedelta(hours=1)
    sent = Message.objects.filter(sink=sink, first_tried_at__gt=now - hour).order_by("-first_tried_at")
    times = list(sent.values_list("first_tried_at", flat=True)[: sink.most_per_hour])
    return times[-1] + hour if len(times) == sink.most_per_hour and times[-1] is not None else None


def _sent(claimed: Sequence[Message], now: datetime, send: Send) -> list[tuple[Message, Delivery, int]]:
    """Send what was claimed, all at once. Returns how each went, and in how many milliseconds."""
    results: list[tuple[Message, Delivery, int]] = []
    parcels: list[tuple[Message, Parcel]] = []
    for message in claimed:
        try:
            parcels.append((message, _parcel(message, now)))
        except CallbackError as error:
            results.append((message, Delivery(is_delivered=False, detail=str(error), is_final=True), 0))
        except KeyFileError as error:
            results.append((message, Delivery(is_delivered=False, detail=f"Its secret cannot be read: {error}"), 0))
    if parcels:
        with ThreadPoolExecutor(max_workers=len(parcels)) as pool:
            deliveries = pool.map(lambda pair: _tried(pair[1], send), parcels)
            results += [(message, *tried) for (message, _parcel), tried in zip(parcels, deliveries, strict=True)]
    return results


def _tried(parcel: Parcel, send: Send) -> tuple[Delivery, int]:
    began = time.monotonic()
    try:
        delivery = send(parcel)
    except Exception:  # one sink's trouble is no other's, and nothing is lost for it
        logger.exception("sending %s by %s met an error of its own", parcel.name, parcel.way)
        delivery = Delivery(is_delivered=False, detail="The product met an error of its own; the worker's log has it.")
    return delivery, int((time.monotonic() - began) * 1000)


def _parcel(message: Message, now: datetime) -> Parcel:
    sink = message.sink
    if sink is None:
        return callback_parcel(message, now)
    told = Told(list(message.notices.order_by("occurred_at", "id")), sink.detail)
    if sink.way == Sink.Way.WEBHOOK:
        secrets = (at_rest.opened(sink.secret),)
        return Parcel(message.name, sink.way, at_rest.opened(sink.address), body=told.body(now), secrets=secrets)
    return Parcel(message.name, sink.way, at_rest.opened(sink.address), f"[Atom] {told.title}", told.text)


@transaction.atomic
def _settle(message: Message, delivery: Delivery, duration_ms: int, now: datetime) -> None:
    """Write down how an attempt went. Where another worker has taken the message since, its word counts."""
    Attempt.objects.create(
        message=message,
        at=now,
        is_delivered=delivery.is_delivered,
        status=delivery.status,
        detail=delivery.detail[:300],
        duration_ms=duration_ms,
    )
    ours = Message.objects.filter(pk=message.pk, state=State.SENDING, attempts=message.attempts)
    sinks = Sink.objects.filter(messages=message)
    if delivery.is_delivered:
        ours.update(state=State.SENT, sent_at=now, leased_until=None)
        sinks.update(last_sent_at=now, failing_since=None, last_error="")
        return
    # What waits for a sink is given up when that is switched off; this was on its way then.
    is_off = message.sink_id is not None and not sinks.filter(is_enabled=True).exists()
    is_over = is_off or delivery.is_final or now - (message.first_tried_at or now) >= GIVE_UP_AFTER
    wait = max(BACKOFF_SECONDS[min(message.attempts, len(BACKOFF_SECONDS)) - 1], delivery.retry_after_seconds)
    ours.update(
        state=State.GIVEN_UP if is_over else State.RETRY, leased_until=None, due_at=now + timedelta(seconds=wait)
    )
    sinks.filter(failing_since=None).update(failing_since=now)
    sinks.update(last_error=delivery.detail[:300])
