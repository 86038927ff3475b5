"""A host's poll: heartbeat, lease renewal, cancels and claim in one call, held open until there is work."""

import itertools
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from audit import driver
from audit.standing import standing
from audit.tags import Tag
from audit.trail import Event, record
from governance.stops import stops_in_force
from shellagent import limits, protocol, queries, wake
from shellagent.errors import InstanceError
from shellagent.models import Host, ServerStart, ShellSession
from shellagent.protocol import CancelOrder, Desired, PollAnswer, PollRequest
from shellagent.services.claiming import Claim, sessions_claim
from shellagent.services.granting import public_keys
from shellagent.services.hosts import host_party
from shellagent.services.looking import looks_take, scripts_record
from shellagent.services.stopping import grace_of, running_stop
from shellagent.states import Status

_has_served = False
#: Of each host which poll came last of those that may claim. A host makes one at a time: where it sent another, it
#: reads no answer to the one before, even if this server has not heard yet that the connection broke.
_newest: dict[int, int] = {}
_numbers = itertools.count()


def host_poll(*, host: Host, request: PollRequest) -> PollAnswer:
    """Answer a host's poll, at once where there is something to say, else when the hold is over.

    Raises InstanceError where another live process uses this host's key. No transaction stays open while it waits.
    """
    poll = HostPoll(host, request)
    with wake.listening(wake.host_channel(host.pk)) as bell:
        answer = poll.arrive()
        while answer is None:
            wake.release_connection()
            bell.wait(min(wake.RECHECK_SECONDS, wake.remaining_seconds(poll.until)))
            bell.clear()
            answer = poll.look()
    return answer


class HostPoll:
    """One poll, from its arrival to its answer."""

    def __init__(self, host: Host, request: PollRequest) -> None:
        self.host = host
        self.request = request
        self.hold_seconds = max(0, min(request.hold_seconds, limits.POLL_HOLD_SECONDS))
        #: When it is answered in any case, by `time.monotonic`.
        self.until = time.monotonic() + self.hold_seconds
        self._known_state = host.desired_state
        self._number = next(_numbers)

    def arrive(self) -> PollAnswer | None:
        """Take the heartbeat in, and look for the first time. Raises InstanceError."""
        _arrived(self.host, self.request)
        if self.request.free_slots > 0:
            _newest[self.host.pk] = self._number
        return self._answer(asks_again=True)

    def look(self) -> PollAnswer | None:
        """Return the answer, or None while there is nothing to say and time left."""
        host = self.host
        host.desired_state, host.has_looks, host.wants_new_key = queries.wishes_of(host.pk)
        return self._answer(asks_again=wake.remaining_seconds(self.until) <= 0)

    def empty(self) -> PollAnswer:
        """Return an answer that brings nothing."""
        return PollAnswer(
            v=protocol.VERSION,
            desired_state=self.host.desired_state,
            audit="failed" if standing.stops(self.host.pk) else "ok",
            cancel=(),
            sessions=(),
            hold_seconds=self.hold_seconds,
            host_id=str(self.host.pk),
            server_keys=public_keys(),
        )

    def failed(self, error: Exception) -> PollAnswer | None:
        """Return what to answer where an error shows that the trail cannot be written, or None where it does not."""
        standing.failed(error)
        return self.empty() if standing.stops(self.host.pk) else None

    def _answer(self, *, asks_again: bool) -> PollAnswer | None:
        host, request = self.host, self.request
        cancel = _attend(host, request)
        is_stopped = standing.stops(host.pk)
        may_claim = (
            not is_stopped
            and request.free_slots > 0
            and host.desired_state == Desired.RUNNING
            and _newest[host.pk] == self._number
            and bool(public_keys())
        )
        claim = sessions_claim(host=host, request=request, asks_again=asks_again) if may_claim else Claim()
        look = looks_take(host) if host.has_looks else ()
        renew_key = host.wants_new_key and _told_to_renew(host)
        has_news = bool(
            (is_stopped and request.running)
            or cancel
            or claim.assignments
            or look
            or renew_key
            or host.desired_state != self._known_state
        )
        if not has_news and wake.remaining_seconds(self.until) > 0:
            return None
        _seen(host)
        sessions, grants = claim.assignments, claim.grants
        return replace(self.empty(), cancel=cancel, sessions=sessions, grants=grants, look=look, renew_key=renew_key)


def _told_to_renew(host: Host) -> bool:
    """Take the wish for a new key. It is told once: a host that cannot follow it is not asked again and again."""
    host.wants_new_key = False
    return bool(Host.objects.filter(pk=host.pk, wants_new_key=True).update(wants_new_key=False))


def _arrived(host: Host, request: PollRequest) -> None:
    """Take the heartbeat in: who polls, what it is, which leases it renews."""
    _server_is_up()
    now = timezone.now()
    if host.instance_id and host.instance_id != request.instance_id and _is_alive(host, now):
        with transaction.atomic():
            data = {"instance_id": request.instance_id, "live_instance_id": host.instance_id}
            refused = {"refused_instance_id": request.instance_id, "instance_refused_at": now}
            Host.objects.filter(pk=host.pk).update(**refused)
            record(Event(Tag.HOST_INSTANCE_REFUSED, host_party(host), host_party(host), data=data))
        raise InstanceError(
            "Another live process uses this host's key. Stop it, or enrol this machine as a host of its own."
        )
    reported: dict[str, object] = {
        "instance_id": request.instance_id,
        "boot_id": request.boot_id,
        "version": request.version,
        "facts": _facts(request),
        "protections": list(request.protections),
        "last_error": request.last_error,
    }
    changed = {name: value for name, value in reported.items() if getattr(host, name) != value}
    if changed.get("last_error"):
        changed["last_error_at"] = now
    host.spool = request.spool
    host.clock_skew_ms = (request.time_us - int(now.timestamp() * 1_000_000)) // 1000 if request.time_us else None
    for name, value in changed.items():
        setattr(host, name, value)
    _seen(host, changed)
    if request.looked:
        scripts_record(host=host, looked=request.looked)


def _seen(host: Host, changed: Iterable[str] = ()) -> None:
    """Keep what the host reported, and when. Writes where something changed or the last write is seconds old."""
    now = timezone.now()
    # What was written before the clock was set back is none of now.
    age = now - host.last_seen_at if host.last_seen_at else None
    is_recent = age is not None and timedelta(0) <= age < timedelta(seconds=limits.SEEN_EVERY_SECONDS)
    if changed or not is_recent:
        host.last_seen_at = now
        with transaction.atomic(savepoint=False):
            host.save(update_fields=[*changed, "last_seen_at", "spool", "clock_skew_ms"])


def _attend(host: Host, request: PollRequest) -> tuple[CancelOrder, ...]:
    """Renew the leases that are due, which mostly are none, and return which of the sessions are to be stopped."""
    if not request.running:
        return ()
    if stops := stops_in_force():
        with transaction.atomic(savepoint=False):
            running_stop(host.pk, stops)
    now = timezone.now()
    due_before = now + timedelta(seconds=limits.LEASE_RENEW_SECONDS)
    needs = queries.needs_of(host.pk, protocol.session_ids(request.running), due_before)
    if needs.due:
        running = ShellSession.objects.filter(pk__in=needs.due, host=host, status__in=[Status.CLAIMED, Status.RUNNING])
        running.update(lease_expires_at=now + timedelta(seconds=limits.LEASE_SECONDS))
    return tuple(CancelOrder(str(session_id), why, grace_of(why)) for session_id, why in needs.cancels)


def _is_alive(host: Host, now: datetime) -> bool:
    return bool(host.last_seen_at and now - host.last_seen_at < timedelta(seconds=limits.OFFLINE_SECONDS))


def _server_is_up() -> None:
    """Remember, once a process, that hosts can reach the server again since now."""
    global _has_served  # noqa: PLW0603  (one flag a process)
    if not _has_served:
        ServerStart.objects.create(started_at=timezone.now())
        ServerStart.objects.filter(started_at__lt=timezone.now() - timedelta(days=1)).delete()
        _has_served = True
        driver.if_undone(_server_is_not_up)


def _server_is_not_up() -> None:
    """Forget it again: nobody else knows of it."""
    global _has_served  # noqa: PLW0603  (one flag a process)
    _has_served = False


def _facts(request: PollRequest) -> dict[str, object]:
    return {**asdict(request.facts), "protected": list(request.facts.protected)}
