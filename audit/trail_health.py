"""How the sealing is doing: what waits and for how long, what was sealed and published last."""

from dataclasses import dataclass
from datetime import datetime

from audit.anchors import sink_label, sinks
from audit.models import AuditAnchor, AuditCheckpoint, AuditEvent, AuditPending, AuditSink
from audit.verdicts import STALE, TrailVerdict, verdict_read
from audit.verifying import UNSEALED_AFTER
from audit.verifying_report import Verdict


@dataclass(frozen=True, slots=True)
class SinkHealth:
    """How a sink does. Durations are whole seconds; `behind` is how many checkpoints it has not got yet."""

    name: str
    published_seconds: int | None
    behind: int
    error: str
    failing_seconds: int | None


@dataclass(frozen=True, slots=True)
class TrailHealth:
    """Durations are whole seconds, None where there is nothing to measure from."""

    sealed_size: int
    sealed_seconds: int | None
    anchored_seconds: int | None
    oldest_pending_seconds: int | None
    #: Events that are not what was signed when they were written.
    refused: int
    #: What was found when the trail was verified last; None where it was not yet, or the verdict is not this server's.
    verdict: TrailVerdict | None
    #: How long ago that was.
    verified_seconds: int | None
    sinks: tuple[SinkHealth, ...] = ()

    @property
    def is_well(self) -> bool:
        """Return whether nothing waits for too long, nothing was refused, and no sink fails for long."""
        waited = [self.oldest_pending_seconds or 0, *(sink.failing_seconds or 0 for sink in self.sinks)]
        return not self.refused and max(waited) <= UNSEALED_AFTER.total_seconds() and self.is_sound is not False

    @property
    def is_sound(self) -> bool | None:
        """Return whether the last look found the trail to be what was written; None where nobody looked lately."""
        if self.verdict is None or self.verified_seconds is None or self.verified_seconds > STALE.total_seconds():
            return None
        return self.verdict.verdict is Verdict.SOUND

    @property
    def state(self) -> str:
        """Return `ok`, `unsound`, or `late` where events wait to be sealed or cannot be."""
        if self.verdict is not None and self.is_sound is False and self.verdict.verdict is Verdict.TAMPERED:
            return "unsound"
        return "ok" if self.is_well else "late"

    @property
    def is_red(self) -> bool:
        """Return whether a person has to look: it is not sound, or was verified once and is no longer."""
        return not self.is_well or (self.is_sound is None and self.verified_seconds is not None)

    @property
    def text(self) -> str:
        """Return one line on it."""
        parts = [self._soundness()]
        if self.sealed_seconds is not None:
            parts.append(f"sealed {self.sealed_seconds} s ago")
        parts.append("never anchored" if self.anchored_seconds is None else f"anchored {self.anchored_seconds} s ago")
        if self.oldest_pending_seconds is not None and not self.is_well:
            parts.append(f"an event waits for {self.oldest_pending_seconds} s")
        if self.refused:
            parts.append(f"{self.refused} events are not what was written")
        parts += [f"{sink.name} fails for {sink.failing_seconds} s" for sink in self.sinks if sink.error]
        return ", ".join(parts)

    def _soundness(self) -> str:
        if self.verdict is None or self.verified_seconds is None:
            return f"sealed to event {self.sealed_size:,}, not verified yet"
        size = f"{self.verdict.size:,}"
        if self.is_sound:
            return f"sound to event {size}"
        if self.is_sound is None:
            return f"{self.verdict.verdict} to event {size} when it was verified {self.verified_seconds} s ago"
        first = self.verdict.findings[0]
        said = "tampered with" if self.verdict.verdict is Verdict.TAMPERED else "cannot be said to be sound"
        place = "" if first.first is None else f" at {first.first:,}"
        return f"{said}: {first.what}{place} (run `manage.py auditverify`)"


def _oldest_pending() -> datetime | None:
    first = AuditPending.objects.filter(refusal="").order_by("event_id").values_list("event_id", flat=True).first()
    return AuditEvent.objects.filter(pk=first).values_list("occurred_at", flat=True).first() if first else None


def unsealed_reason(now: datetime) -> str:
    """Return why what is written is not sealed, where it waits for longer than it may, else an empty text."""
    oldest = _oldest_pending()
    waits = now - oldest if oldest else UNSEALED_AFTER
    return f"events are not sealed: one waits for {int(waits.total_seconds())} s" if waits > UNSEALED_AFTER else ""


def trail_health(now: datetime) -> TrailHealth:
    """Look. Few rows are read at any length of the trail."""
    newest = AuditCheckpoint.objects.order_by("-number").first()
    anchored = AuditAnchor.objects.order_by("-id").values_list("anchored_at", flat=True).first()
    verdict = verdict_read()
    return TrailHealth(
        verdict=verdict,
        verified_seconds=_since(verdict.at if verdict else None, now),
        sealed_size=newest.size if newest else 0,
        sealed_seconds=_since(newest.sealed_at if newest else None, now),
        anchored_seconds=_since(anchored, now),
        oldest_pending_seconds=_since(_oldest_pending(), now),
        refused=AuditPending.objects.exclude(refusal="").count(),
        sinks=_sinks(newest.number if newest else 0, now),
    )


def _sinks(newest: int, now: datetime) -> tuple[SinkHealth, ...]:
    found = []
    failures = {row.name: row for row in AuditSink.objects.all()}
    for sink in sinks():
        label = sink_label(sink)
        last = AuditAnchor.objects.filter(sink=sink).order_by("-checkpoint_id").first()
        failure = failures.get(label[:200])
        found.append(
            SinkHealth(
                label,
                _since(last.anchored_at if last else None, now),
                max(0, newest - (last.checkpoint_id if last else 0)),
                failure.error if failure else "",
                _since(failure.failing_since if failure else None, now),
            )
        )
    return tuple(found)


def _since(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else max(0, int((now - moment).total_seconds()))
