"""What time does to sessions. Each is idempotent: on read it makes the answer right, on a schedule it tidies."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit.trail import SYSTEM
from shellagent import limits, wake
from shellagent.models import IdempotencyKey, ServerStart, ShellSession
from shellagent.services.moving import sessions_move
from shellagent.states import Status

_BATCH = 500


def sessions_expire() -> int:
    """Expire what nobody decided on, or no host took, in time. Returns how many."""
    now = timezone.now()
    due = ShellSession.objects.filter(status__in=[Status.PENDING, Status.QUEUED], expires_at__lte=now)
    return _expire(list(due.values_list("pk", flat=True)[:_BATCH]), now)


def session_expire(session_id: UUID) -> bool:
    """Expire one session where it is due, whatever else is. Returns whether it was."""
    now = timezone.now()
    due = ShellSession.objects.filter(pk=session_id, status__in=[Status.PENDING, Status.QUEUED], expires_at__lte=now)
    return due.exists() and _expire([session_id], now) == 1


def _expire(ids: list[UUID], now: datetime) -> int:
    if not ids:
        return 0
    with transaction.atomic():
        # The time is asked again as the rows are locked: an approval may have given one a new time since.
        still_due = ShellSession.objects.filter(pk__in=ids, expires_at__lte=now)
        return len(
            sessions_move(
                still_due, Status.EXPIRED, actor=SYSTEM, finished_at=now, termination_detail="Nobody took it in time."
            )
        )


def leases_tidy() -> tuple[int, int]:
    """Give up running sessions whose host fell silent, and queue again the claimed ones that were never started.

    Returns how many were lost and how many queued again. No lease dies within a minute of the server's start.
    """
    now = timezone.now()
    if ServerStart.was_within(timedelta(seconds=limits.SERVER_GRACE_SECONDS), now):
        return 0, 0
    dead_before = now - timedelta(seconds=limits.LOST_AFTER_SECONDS)
    silent = ShellSession.objects.filter(status=Status.RUNNING, lease_expires_at__lt=dead_before)
    never_started = ShellSession.objects.filter(status=Status.CLAIMED, lease_expires_at__lt=now)
    with transaction.atomic():
        lost = sessions_move(
            silent,
            Status.LOST,
            actor=SYSTEM,
            sources=[Status.RUNNING],
            finished_at=now,
            termination_reason="lost",
            termination_detail="The host stopped renewing its lease. It may still have run to its end.",
        )
        hosts = set(never_started.values_list("host_id", flat=True))
        queued = sessions_move(
            never_started,
            Status.QUEUED,
            actor=SYSTEM,
            sources=[Status.CLAIMED],
            claim_key="",
            lease_expires_at=None,
            expires_at=now + timedelta(seconds=limits.QUEUED_SECONDS),
        )
        if queued:
            wake.ring_on_commit(*(wake.host_channel(host_id) for host_id in hosts))
    return len(lost), len(queued)


def idempotency_keys_retire() -> int:
    """Forget Idempotency-Keys that are past their time. Returns how many."""
    cutoff = timezone.now() - timedelta(hours=limits.IDEMPOTENCY_HOURS)
    removed, _by_model = IdempotencyKey.objects.filter(created_at__lte=cutoff).delete()
    return removed
