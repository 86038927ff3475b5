"""How many events each day had, kept beside the trail: no page ever counts a million rows.

A day that is over is counted once, an hour after its end, so that what was being written then is in it. The days since
are counted again at every run; each reads one range of the index on the time.
"""

from datetime import date, datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Count, Max, Min
from django.utils import timezone

from audit.models import AuditDay, AuditEvent

#: As many days are looked back for what was not counted yet.
DAYS_KEPT: Final = 400
_SETTLES_AFTER: Final = timedelta(hours=1)


def days_count(now: datetime) -> int:
    """Count the days (by the server's time zone) that are not final yet. Returns how many days were counted."""
    today = timezone.localdate(now)
    first = AuditEvent.objects.order_by("occurred_at").values_list("occurred_at", flat=True).first()
    if first is None:
        return 0
    begin = max(timezone.localdate(first), today - timedelta(days=DAYS_KEPT))
    final = set(AuditDay.objects.filter(day__gte=begin, is_final=True).values_list("day", flat=True).distinct())
    days = [begin + timedelta(days=number) for number in range((today - begin).days + 1)]
    due = [day for day in days if day not in final]
    for day in due:
        _count(day, now)
    return len(due)


def _count(day: date, now: datetime) -> None:
    start, end = begin_of(day), begin_of(day + timedelta(days=1))
    events = AuditEvent.objects.filter(occurred_at__gte=start, occurred_at__lt=end)
    found = events.order_by().values_list("tag").annotate(number=Count("pk"), first=Min("pk"), last=Max("pk"))
    is_final = now > end + _SETTLES_AFTER
    with transaction.atomic():
        # A day without events is remembered too, by a row that says so.
        rows = [
            AuditDay(day=day, tag=tag, count=number, first_id=first, last_id=last, is_final=is_final)
            for tag, number, first, last in found
        ]
        AuditDay.objects.bulk_create(
            rows or [AuditDay(day=day, tag="", count=0, is_final=is_final)],
            update_conflicts=True,
            unique_fields=["day", "tag"],
            update_fields=["count", "first_id", "last_id", "is_final"],
        )


def begin_of(day: date) -> datetime:
    """Return when a day begins, by the server's time zone."""
    return datetime(day.year, day.month, day.day, tzinfo=timezone.get_default_timezone())
