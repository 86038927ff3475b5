"""What django-q2 does on a schedule. Every task may run twice; whatever must be right is computed on read as well."""

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone
from django_q.models import Failure, Schedule

from audit.anchors import anchors_publish
from audit.counting import days_count
from audit.models import AuditErasure
from audit.sealing import seal_all
from audit.verdicts import verdict_update
from shellagent.notifying.outbox import DELIVER
from shellagent.notifying.retiring import messages_retire
from shellagent.records import agent_days_count
from shellagent.services import (
    idempotency_keys_retire,
    leases_tidy,
    payloads_retire,
    promotions_review,
    sessions_expire,
    stops_enforce,
)

_A_DAY = 24 * 60
_FAILURES_KEPT = timedelta(days=7)
_WORKER_LATE = timedelta(minutes=3)

#: The only functions that are ever scheduled, and every how many minutes.
SCHEDULED = {
    "shellagent.tasks.seal": 1,
    "shellagent.tasks.tidy": 1,
    "shellagent.tasks.retire": 60,
    "shellagent.tasks.count": 5,
    "shellagent.tasks.deliver": 1,
    "shellagent.tasks.verify": 1,
    "shellagent.tasks.review": _A_DAY,
}


def tidy() -> dict[str, int]:
    """Expire what nobody took, settle what hosts fell silent about, end what is stopped. Returns how many of each."""
    expired = sessions_expire()
    lost, queued = leases_tidy()
    return {"expired": expired, "lost": lost, "queued": queued, "stopped": stops_enforce()}


def retire() -> dict[str, int]:
    """Remove what is older than the installation keeps. Returns how many of each."""
    return {
        "requests": payloads_retire(AuditErasure.Part.REQUEST, settings.ATOM_RETENTION_REQUEST_DAYS),
        "output": payloads_retire(AuditErasure.Part.OUTPUT, settings.ATOM_RETENTION_OUTPUT_DAYS),
        "idempotency_keys": idempotency_keys_retire(),
        "messages": messages_retire(timezone.now()),
        "failures": _failures_retire(timezone.now()),
    }


def _failures_retire(now: datetime) -> int:
    """Forget failed tasks after a week. django-q2 keeps all: without the trail's key, some are thousands a day."""
    return int(Failure.objects.filter(stopped__lt=now - _FAILURES_KEPT).delete()[0])


def seal() -> int:
    """Seal what waits and publish it, where no server's sealer did. Returns how many events were sealed."""
    now = timezone.now()
    sealed = seal_all(now)
    anchors_publish(now)
    return sealed


def verify() -> str:
    """Verify what was sealed since, and a slice of the whole trail each day. Returns the verdict."""
    return str(verdict_update(timezone.now()).verdict)


def count() -> int:
    """Count the trail's events and agents' sessions by day. Returns how many days of the trail were counted."""
    now = timezone.now()
    agent_days_count(now)
    return days_count(now)


def deliver() -> int:
    """Tell what is to be told, and come back when the next message is due. Returns how many attempts were made."""
    # What sends is imported where something is sent: most processes that import this never do.
    from shellagent.notifying.delivering import messages_deliver, next_due  # noqa: PLC0415

    attempts = messages_deliver()
    due, now = next_due(), timezone.now()
    if due is not None:
        # The scheduler looks every 30 s, and this schedule's own pace is a minute.
        Schedule.objects.filter(func=DELIVER, next_run__gt=max(due, now)).update(next_run=max(due, now))
    return attempts


def review() -> dict[str, int]:
    """Propose the promotions that agents earned, once a night. Returns how many were proposed and withdrawn."""
    agent_days_count(timezone.now())
    return promotions_review()


def schedules_install() -> None:
    """Make the schedules what SCHEDULED says: missing ones made, changed ones mended, others removed."""
    Schedule.objects.exclude(func__in=SCHEDULED).delete()
    for function, minutes in SCHEDULED.items():
        how = {"name": function, "schedule_type": Schedule.MINUTES, "minutes": minutes, "repeats": -1}
        known = Schedule.objects.filter(func=function).order_by("pk").first()
        if known is None:
            first = {"next_run": _next_night(timezone.now())} if minutes == _A_DAY else {}
            known = Schedule.objects.create(func=function, **how, **first)
        # Two servers that are set up at once on one database may both have made it.
        Schedule.objects.filter(func=function).exclude(pk=known.pk).delete()
        Schedule.objects.filter(pk=known.pk).update(**how)
    schedules_mend(timezone.now())


def schedules_mend(now: datetime) -> int:
    """Have due now what lies twice its pace ahead, or a day back. Returns how many schedules those were.

    The first was written while the clock was wrong, and would not run before that time. For the second the scheduler
    would count up minute by minute with the tables locked, which takes half a minute for a year.
    """
    mended = 0
    for function, minutes in SCHEDULED.items():
        of_now = (now - timedelta(minutes=_A_DAY), now + timedelta(minutes=2 * minutes))
        mended += Schedule.objects.filter(func=function).exclude(next_run__range=of_now).update(next_run=now)
    return mended


def _next_night(now: datetime) -> datetime:
    """Return the next time that it is three at night, by the server's time zone."""
    tonight = timezone.localtime(now).replace(hour=3, minute=0, second=0, microsecond=0)
    return tonight if tonight > now else tonight + timedelta(days=1)


def worker_health(now: datetime) -> str:
    """Return `ok`, `late` where scheduled work is overdue by minutes, or `not scheduled`."""
    due = Schedule.objects.filter(func__in=SCHEDULED).order_by("next_run").values_list("next_run", flat=True).first()
    if due is None:
        return "not scheduled"
    # The first comes within a minute: where it is further ahead, the clock was set back and nothing runs till then.
    return "ok" if now - _WORKER_LATE <= due <= now + _WORKER_LATE else "late"
