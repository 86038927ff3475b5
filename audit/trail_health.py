"""How the sealing is doing: what waits and for how long, what was sealed and published last."""

from dataclasses import dataclass
from datetime import datetime

from audit.models import AuditAnchor, AuditCheckpoint, AuditEvent, AuditPending
from audit.verifying import UNSEALED_AFTER


@dataclass(frozen=True, slots=True)
class TrailHealth:
    """Durations are whole seconds, None where there is nothing to measure from."""

    sealed_size: int
    sealed_seconds: int | None
    anchored_seconds: int | None
    oldest_pending_seconds: int | None
    #: Events that are not what was signed when they were written.
    refused: int

    @property
    def is_well(self) -> bool:
        """Return whether nothing waits for too long and nothing was refused."""
        waited = self.oldest_pending_seconds or 0
        return not self.refused and waited <= UNSEALED_AFTER.total_seconds()

    @property
    def text(self) -> str:
        """Return one line on it."""
        parts = [f"sealed to event {self.sealed_size:,}"]
        if self.sealed_seconds is not None:
            parts.append(f"sealed {self.sealed_seconds} s ago")
        parts.append("never anchored" if self.anchored_seconds is None else f"anchored {self.anchored_seconds} s ago")
        if self.oldest_pending_seconds is not None and not self.is_well:
            parts.append(f"an event waits for {self.oldest_pending_seconds} s")
        if self.refused:
            parts.append(f"{self.refused} events are not what was written")
        return ", ".join(parts)


def trail_health(now: datetime) -> TrailHealth:
    """Look. Few rows are read at any length of the trail."""
    newest = AuditCheckpoint.objects.order_by("-number").first()
    anchored = AuditAnchor.objects.order_by("-id").values_list("anchored_at", flat=True).first()
    first = AuditPending.objects.filter(refusal="").order_by("event_id").values_list("event_id", flat=True).first()
    oldest = None
    if first is not None:
        oldest = AuditEvent.objects.filter(pk=first).values_list("occurred_at", flat=True).first()
    return TrailHealth(
        sealed_size=newest.size if newest else 0,
        sealed_seconds=_since(newest.sealed_at if newest else None, now),
        anchored_seconds=_since(anchored, now),
        oldest_pending_seconds=_since(oldest, now),
        refused=AuditPending.objects.exclude(refusal="").count(),
    )


def _since(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else max(0, int((now - moment).total_seconds()))
