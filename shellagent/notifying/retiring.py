"""How long the log of deliveries is kept."""

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings

from shellagent.notifying.models import Message, Notice

#: So many at a time, so that no transaction holds others up.
_BATCH: Final = 1_000


def messages_retire(now: datetime) -> int:
    """Forget messages that are over and older than ATOM_RETENTION_MESSAGES_DAYS (0 keeps them). Returns how many."""
    if not settings.ATOM_RETENTION_MESSAGES_DAYS:
        return 0
    cutoff = now - timedelta(days=settings.ATOM_RETENTION_MESSAGES_DAYS)
    over = Message.objects.filter(state__in=[Message.State.SENT, Message.State.GIVEN_UP], created_at__lt=cutoff)
    total = 0
    while ids := list(over.order_by("created_at").values_list("pk", flat=True)[:_BATCH]):
        Message.objects.filter(pk__in=ids).delete()
        total += len(ids)
    told = Notice.objects.filter(occurred_at__lt=cutoff, spread_at__isnull=False, messages=None)
    while ids := list(told.values_list("pk", flat=True)[:_BATCH]):
        Notice.objects.filter(pk__in=ids).delete()
    return total
