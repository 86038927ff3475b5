"""From notices to messages: each goes to every sink that wants it, into the one message that gathers there."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction

from shellagent.models import Host, ServerStart, ShellSession
from shellagent.notifying.kinds import URGENT, Kind
from shellagent.notifying.models import Message, Notice, Preference, Sink
from shellagent.notifying.outbox import is_wanted, notice_add
from shellagent.protocol import Desired
from shellagent.services import may_approve
from shellagent.states import TERMINAL, Status

_AT_ONCE: Final = 500
#: Longer than a host that was only restarted is away, and than two polls that were lost.
OFFLINE_TOLD_SECONDS: Final = 120


def notices_spread(now: datetime) -> int:
    """Put every notice that waits into the messages of the sinks that want it. Returns how many notices there were."""
    total = 0
    while True:
        with transaction.atomic():
            # Another worker takes others; on SQLite this transaction is the only one that writes.
            rows = Notice.objects.select_for_update(skip_locked=True).filter(spread_at=None).order_by("id")
            notices = list(rows[:_AT_ONCE])
            if notices:
                _spread(notices, now)
                Notice.objects.filter(pk__in=[notice.pk for notice in notices]).update(spread_at=now)
        total += len(notices)
        if len(notices) < _AT_ONCE:
            return total


def _spread(notices: Sequence[Notice], now: datetime) -> None:
    waiting = _waiting(notices)
    # In one order, so that two workers never wait for each other.
    for sink in Sink.objects.select_for_update(of=("self",)).filter(is_enabled=True).order_by("id"):
        owner = User.objects.get(pk=sink.owner_id) if sink.owner_id else None
        wanted = [notice for notice in notices if _is_for(sink, owner, notice, waiting)]
        if not wanted:
            continue
        is_urgent = any(notice.kind in URGENT for notice in wanted)
        due = now if is_urgent or sink.next_at is None else max(now, sink.next_at)
        message, is_new = Message.objects.get_or_create(
            sink=sink, state=Message.State.OPEN, attempts=0, defaults={"due_at": due, "created_at": now}
        )
        if not is_new and is_urgent and message.due_at > due:
            Message.objects.filter(pk=message.pk).update(due_at=due)
        message.notices.add(*wanted)


def _is_for(sink: Sink, owner: User | None, notice: Notice, waiting: Mapping[object, ShellSession]) -> bool:
    if notice.sink_id is not None:
        return notice.sink_id == sink.pk
    if owner is not None and not owner.is_active:
        return False
    if notice.recipient_id is not None:
        return notice.recipient_id == sink.owner_id and sink.wants(Kind.WAITING)
    return sink.wants(notice.kind) and (owner is None or _concerns(owner, notice, waiting))


def _concerns(owner: User, notice: Notice, waiting: Mapping[object, ShellSession]) -> bool:
    """Return whether a person is to hear of it: not of what they may not decide on, nor of what they did themselves."""
    if notice.kind == Kind.WAITING:
        session = waiting.get(notice.session_id)
        return session is not None and not may_approve(session, owner)
    return notice.actor_user_id != owner.pk


def _waiting(notices: Sequence[Notice]) -> dict[object, ShellSession]:
    """Return the sessions that notices say wait."""
    ids = {notice.session_id for notice in notices if notice.kind == Kind.WAITING and notice.session_id}
    return {session.pk: session for session in ShellSession.objects.filter(pk__in=ids).select_related("agent")}


def callbacks_release(now: datetime) -> int:
    """Let the callbacks of sessions that have ended be sent. Returns how many."""
    held = Message.objects.filter(state=Message.State.HELD).order_by("id")
    ended = ShellSession.objects.filter(pk__in=held.values("session_id"), status__in=[*TERMINAL])
    ids = list(ended.values_list("pk", flat=True)[:_AT_ONCE])
    released = Message.objects.filter(state=Message.State.HELD, session_id__in=ids)
    return released.update(state=Message.State.OPEN, due_at=now)


def hosts_watch(now: datetime) -> int:
    """Tell once of each host that fell silent. Returns how many are told of anew."""
    if not is_wanted(Kind.HOST_OFFLINE):
        return 0
    if ServerStart.was_within(timedelta(seconds=OFFLINE_TOLD_SECONDS), now):
        return 0  # they had no time to be heard of
    found = 0
    expected = Host.objects.filter(is_enabled=True, desired_state=Desired.RUNNING.value, last_seen_at__isnull=False)
    for host in expected.filter(key_digest__isnull=False):
        if host.last_seen_at and (now - host.last_seen_at).total_seconds() >= OFFLINE_TOLD_SECONDS:
            # Until it is heard of again that time stays, and with it the notice.
            about = f"{host.pk}:{host.last_seen_at.isoformat()}"
            found += notice_add(Kind.HOST_OFFLINE, about, now=now, host_id=host.pk, subject=host.name)
    return found


def escalations_watch(now: datetime) -> int:
    """Tell a second approver of what a first one was told and nobody decided on. Returns how many sessions."""
    found = 0
    for preference in Preference.objects.exclude(escalate_to=None).select_related("escalate_to"):
        minutes, second = preference.escalate_after_minutes, preference.escalate_to
        if minutes is None or second is None:
            continue
        told = Notice.objects.filter(
            kind=Kind.WAITING,
            messages__sink__owner_id=preference.user_id,
            # What has waited for longer than it may is over already.
            occurred_at__gt=now - timedelta(days=1),
            occurred_at__lte=now - timedelta(minutes=minutes),
        )
        waiting = ShellSession.objects.filter(
            pk__in=told.values("session_id"), status=Status.PENDING, expires_at__gt=now
        ).select_related("agent")
        for session in waiting:
            if may_approve(session, second):
                continue
            about = f"{session.pk}:{preference.user_id}:{second.pk}"
            found += notice_add(Kind.ESCALATED, about, now=now, session_id=session.pk, recipient_id=second.pk)
    return found
