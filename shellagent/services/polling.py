"""A host's poll: heartbeat, lease renewal, cancels and claim in one call, held open until there is work."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from audit.tags import Tag
from audit.trail import Event, record
from shellagent import limits, protocol, queries, wake
from shellagent.errors import InstanceError
from shellagent.models import Host, ServerStart, ShellSession
from shellagent.protocol import CancelOrder, Desired, PollAnswer, PollRequest
from shellagent.services.claiming import sessions_claim
from shellagent.services.hosts import host_party
from shellagent.states import Status

_has_served = False


def host_poll(*, host: Host, request: PollRequest, is_peer_there: Callable[[], bool] = lambda: True) -> PollAnswer:
    """Answer a host's poll, at once where there is something to say, else when the hold is over.

    Nothing is claimed for a host that `is_peer_there` says has gone meanwhile: what it was given would wait for the
    end of a lease. Raises InstanceError where another live process uses this host's key. No transaction stays open
    while it waits.
    """
    _arrived(host, request)
    known = host.desired_state
    hold = max(0, min(request.hold_seconds, limits.POLL_HOLD_SECONDS))
    deadline = time.monotonic() + hold
    with wake.listening(wake.host_channel(host.pk)) as bell:
        while True:
            bell.clear()
            answer = _answer(host, request, hold)
            remaining = wake.remaining_seconds(deadline)
            if answer.cancel or answer.sessions or answer.desired_state != known or remaining <= 0:
                break
            wake.release_connection()
            bell.wait(min(wake.RECHECK_SECONDS, remaining))
            if not is_peer_there():
                return answer
            host.desired_state = queries.desired_state_of(host.pk)
    _seen(host)
    return answer


def _answer(host: Host, request: PollRequest, hold: int) -> PollAnswer:
    may_claim = request.free_slots > 0 and host.desired_state == Desired.RUNNING
    return PollAnswer(
        v=protocol.VERSION,
        desired_state=host.desired_state,
        # A claim writes its events in its own transaction: where the trail cannot be written, this call fails instead.
        audit="ok",
        cancel=_cancels(host, request),
        sessions=sessions_claim(host=host, request=request) if may_claim else (),
        hold_seconds=hold,
        host_id=str(host.pk),
    )


def _arrived(host: Host, request: PollRequest) -> None:
    """Take the heartbeat in: who polls, what it is, which leases it renews."""
    _server_is_up()
    now = timezone.now()
    if host.instance_id and host.instance_id != request.instance_id and _is_alive(host, now):
        with transaction.atomic():
            data = {"instance_id": request.instance_id, "live_instance_id": host.instance_id}
            record(Event(Tag.HOST_INSTANCE_REFUSED, host_party(host), host_party(host), data=data))
        raise InstanceError(
            "Another live process uses this host's key. Stop it, or enrol this machine as a host of its own."
        )
    reported = {
        "instance_id": request.instance_id,
        "boot_id": request.boot_id,
        "version": request.version,
        "facts": _facts(request),
        "protections": list(request.protections),
    }
    changed = {name: value for name, value in reported.items() if getattr(host, name) != value}
    for name, value in changed.items():
        setattr(host, name, value)
    _seen(host, changed)
    if request.running:
        _renew(host, request.running, now)


def _seen(host: Host, changed: Iterable[str] = ()) -> None:
    """Keep what the host reported, and when. Writes where something changed or the last write is seconds old."""
    now = timezone.now()
    is_recent = host.last_seen_at and now - host.last_seen_at < timedelta(seconds=limits.SEEN_EVERY_SECONDS)
    if changed or not is_recent:
        host.last_seen_at = now
        with transaction.atomic():
            host.save(update_fields=[*changed, "last_seen_at"])


def _renew(host: Host, running: tuple[str, ...], now: datetime) -> None:
    """Renew the leases that are due. Most polls find none, and then write nothing."""
    ids = protocol.session_ids(running)
    due_before = now + timedelta(seconds=limits.LEASE_RENEW_SECONDS)
    if due := queries.leases_due(host.pk, ids, due_before):
        with transaction.atomic():
            ShellSession.objects.filter(pk__in=due, host=host, status__in=[Status.CLAIMED, Status.RUNNING]).update(
                lease_expires_at=now + timedelta(seconds=limits.LEASE_SECONDS)
            )


def _is_alive(host: Host, now: datetime) -> bool:
    return bool(host.last_seen_at and now - host.last_seen_at < timedelta(seconds=limits.OFFLINE_SECONDS))


def _server_is_up() -> None:
    """Remember, once a process, that hosts can reach the server again since now."""
    global _has_served  # noqa: PLW0603  (one flag a process)
    if not _has_served:
        ServerStart.objects.create(started_at=timezone.now())
        ServerStart.objects.filter(started_at__lt=timezone.now() - timedelta(days=1)).delete()
        _has_served = True


def _cancels(host: Host, request: PollRequest) -> tuple[CancelOrder, ...]:
    if not request.running:
        return ()
    wanted = queries.cancels_of(host.pk, protocol.session_ids(request.running))
    return tuple(CancelOrder(str(session_id), reason, limits.GRACE_SECONDS) for session_id, reason in wanted)


def _facts(request: PollRequest) -> dict[str, object]:
    return {**asdict(request.facts), "protected": list(request.facts.protected)}
