"""What the server says of its own trail: verified as it grows, and once a day from its beginning.

A task looks each minute: at what was sealed since, at what waits, at the triggers and at the end of the anchor files. A
walk over the whole log begins each day and goes on by a slice a minute, so that no task takes long at any length. Pages
only read the verdict. It is signed with the trail's key: who can only write the database cannot make it say more.
"""

import base64
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from django.db import connection, transaction

from audit import canonical, triggers
from audit.anchors import sink_file, sinks
from audit.key_files import KeyFileError
from audit.models import AuditCheckpoint, AuditEvent, AuditPending, AuditVerdict
from audit.notes import NoteError, is_note_signed, note_digest, note_read, notes_in
from audit.tags import Tag
from audit.trail import SYSTEM, TRAIL, Event, record
from audit.trail_keys import PublicKeys, trail_keys
from audit.verifying import UNSEALED_AFTER, surroundings
from audit.verifying_halves import begin_of
from audit.verifying_log import Verification
from audit.verifying_report import Finding, Report, Severity, Verdict

#: So many leaves are verified at one go of a task, and of somebody's question.
SLICE: Final = 100_000
SLICE_OF_A_QUESTION: Final = 10_000
#: A verdict that is younger answers a question as it is.
FRESH: Final = timedelta(seconds=10)
#: A verdict that is older says nothing of now: the worker does not look any more.
STALE: Final = timedelta(minutes=10)
_WALK_EVERY: Final = timedelta(days=1)
_MOST_FINDINGS: Final = 20
#: The end of an anchor file that is looked at. A note takes 2,000 bytes at most and two are published a second, so that
#: between two looks what went missing is not covered by what was sealed after it.
_TAIL_BYTES: Final = 512 * 1024
_CONTEXT: Final = b"atom audit verdict 1\n"

Findings = tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk over the whole log on its way: how far it is, and what it found."""

    checkpoint: int
    began_us: int
    found: Findings = ()


@dataclass(frozen=True, slots=True)
class TrailVerdict:
    """What was found up to a checkpoint. Times are microseconds since 1970.

    `lasting` was found in the log and stays until a walk over all of it finds nothing; `passing` is of the last look.
    """

    at_us: int = 0
    checkpoint: int = 0
    size: int = 0
    digest: str = ""
    lasting: Findings = ()
    passing: Findings = ()
    walk: Walk | None = None
    #: When the last walk that came to its end began, and how many leaves it saw.
    whole_us: int | None = None
    whole_size: int = 0

    @property
    def findings(self) -> Findings:
        """Return all that is wrong."""
        return (*self.lasting, *self.passing)

    @property
    def verdict(self) -> Verdict:
        """Return the worst of it."""
        severities = {finding.severity for finding in self.findings}
        if Severity.TAMPERED in severities:
            return Verdict.TAMPERED
        return Verdict.INCOMPLETE if Severity.INCOMPLETE in severities else Verdict.SOUND

    @property
    def at(self) -> datetime:
        """Return when it was looked last."""
        return _time(self.at_us)

    @property
    def whole_at(self) -> datetime | None:
        """Return when the whole log was verified last."""
        return None if self.whole_us is None else _time(self.whole_us)


def verdict_read() -> TrailVerdict | None:
    """Return the verdict that is kept; None where there is none yet, or where it is not this server's."""
    row = AuditVerdict.objects.order_by("pk").first()
    if row is None:
        return None
    try:
        keys, signature = trail_keys().public, base64.b64decode(row.signature, validate=True)
        if not keys.is_signed(signature[:4], signature[4:], _CONTEXT + row.body.encode()):
            return None
        return _from_json(json.loads(row.body))
    except (KeyFileError, ValueError, LookupError, TypeError):
        return None


def verdict_update(now: datetime, *, most: int = SLICE, walks: bool = True) -> TrailVerdict:
    """Look, verify at most so many leaves that are new, and go on with the walk. Returns the verdict, which is kept.

    A verdict that becomes another is an event. Raises KeyFileError, and the database's own errors.
    """
    keys = trail_keys()
    newest, kept = _newest(), verdict_read()
    found = _grown(kept or TrailVerdict(), keys.public, most)
    if walks:
        found = _walked(found, keys.public, now, most, newest)
    found = replace(found, at_us=_us(now), passing=_first(_passing(keys.public, now)))
    with transaction.atomic():
        AuditVerdict.objects.select_for_update().filter(pk=1).first()
        if (before := verdict_read()) != kept:
            # Somebody else looked meanwhile. Theirs stays, and the next look goes on from it.
            return before or found
        body = canonical.dumps(_to_json(found))
        signature = base64.b64encode(keys.id + keys.sign(_CONTEXT + body.encode())).decode()
        AuditVerdict.objects.update_or_create(pk=1, defaults={"body": body, "signature": signature})
        was = kept.verdict if kept else Verdict.SOUND
        if found.verdict is not was:
            tag = Tag.TRAIL_SOUND if found.verdict is Verdict.SOUND else Tag.TRAIL_UNSOUND
            said = {"was": str(was), "size": found.size, "findings": [one.to_json() for one in found.findings]}
            record(Event(tag, SYSTEM, TRAIL, str(found.verdict), said))
    return found


def verdict_answer(now: datetime) -> TrailVerdict:
    """Return a verdict for somebody who asks: the one that is kept while it is fresh, else after a short look."""
    known = verdict_read()
    if known is not None and now - FRESH < known.at <= now and _newest() == known.checkpoint:
        return known
    return verdict_update(now, most=SLICE_OF_A_QUESTION, walks=False)


def _grown(known: TrailVerdict, keys: PublicKeys, most: int) -> TrailVerdict:
    """Verify what was sealed since."""
    report, until = _verified(known.checkpoint, known.digest, keys, most)
    if report is None:
        return known
    lasting = known.lasting or _first(report.findings)
    return replace(known, checkpoint=until, size=report.size, digest=report.digest, lasting=lasting)


def _newest() -> int:
    return AuditCheckpoint.objects.order_by("-number").values_list("number", flat=True).first() or 0


def _walked(known: TrailVerdict, keys: PublicKeys, now: datetime, most: int, newest: int) -> TrailVerdict:
    walk = known.walk
    if walk is None:
        # One that began in the future was begun by a clock that was wrong.
        if known.whole_us is not None and now - _WALK_EVERY < _time(known.whole_us) <= now:
            return known
        walk = Walk(0, _us(now))
    report, until = _verified(walk.checkpoint, None, keys, most)
    if report is not None:
        walk = replace(walk, checkpoint=until, found=walk.found or _first(report.findings))
    if min(walk.checkpoint, known.checkpoint) < newest:
        return replace(known, walk=walk)
    around = Report()
    surroundings(around, keys, now)
    tampered = [finding for finding in around.findings if finding.severity is Severity.TAMPERED]
    found = _first([*walk.found, *tampered])
    return replace(known, lasting=found, walk=None, whole_us=walk.began_us, whole_size=known.size)


def _verified(after: int, digest: str | None, keys: PublicKeys, most: int) -> tuple[Report | None, int]:
    """Verify at most so many leaves behind a checkpoint. Returns what was found, None for nothing, and how far."""
    start = AuditCheckpoint.objects.filter(number=after).first()
    size = start.size if start else 0
    ahead = AuditCheckpoint.objects.filter(number__gt=after)
    until = ahead.filter(size__lte=size + most).order_by("-number").first() or ahead.order_by("number").first()
    report = Report()
    if after and (start is None or (digest is not None and note_digest(start.note).hex() != digest)):
        report.find(Severity.TAMPERED, "a checkpoint that was verified before is gone or another", after)
        newest = AuditCheckpoint.objects.order_by("-number").first()
        report.size, report.digest = (newest.size, note_digest(newest.note).hex()) if newest else (0, "")
        return report, newest.number if newest else 0
    if until is None:
        return None, after
    try:
        begin = begin_of(start.note, keys) if start else None
    except NoteError as error:
        report.find(Severity.TAMPERED, f"the checkpoint to begin from is damaged ({error})", after)
        report.size, report.digest = until.size, note_digest(until.note).hex()
        return report, until.number
    Verification(keys, report=report).run(begin=begin, note=start.note if start else "", until=until.number)
    return report, until.number


def _passing(keys: PublicKeys, now: datetime) -> Iterable[Finding]:
    """Yield what a look at few rows finds wrong."""
    for name in triggers.missing(connection):
        yield Finding(Severity.TAMPERED, f"the trigger {name} is missing, disabled or changed")
    refused = AuditPending.objects.exclude(refusal="").count()
    if refused:
        yield Finding(Severity.TAMPERED, f"{refused} waiting events are not what was written")
    waits = AuditPending.objects.filter(refusal="").order_by("event_id").values_list("event_id", flat=True).first()
    oldest = AuditEvent.objects.filter(pk=waits).values_list("occurred_at", flat=True).first() if waits else None
    if oldest is not None and now - oldest > UNSEALED_AFTER:
        seconds = int(UNSEALED_AFTER.total_seconds())
        yield Finding(Severity.INCOMPLETE, f"events wait for longer than {seconds} s to be sealed")
    for sink in sinks():
        if (path := sink_file(sink)) and (number := _missing_at_the_end(path, keys)):
            yield Finding(Severity.TAMPERED, "published checkpoints are not in the database", number, number)


def _missing_at_the_end(path: Path, keys: PublicKeys) -> int | None:
    """Return the number of the newest checkpoint near a file's end that is of this log and not in the database."""
    lines: list[str] = []
    with suppress(OSError), path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
        lines = stream.read().decode(errors="replace").splitlines(keepends=True)
    found = {note_digest(note).hex(): note for note in notes_in(lines)}
    known = set(AuditCheckpoint.objects.filter(digest__in=list(found)).values_list("digest", flat=True))
    for digest, note in reversed(found.items()):
        if digest in known:
            continue
        with suppress(NoteError):
            checkpoint = note_read(note)
            if checkpoint.log == keys.log and is_note_signed(note, keys):
                return checkpoint.number
    return None


def _first(findings: Iterable[Finding]) -> Findings:
    """Return as many findings as are kept; the command names them all. Warnings are none."""
    wrong = [finding for finding in findings if finding.severity is not Severity.WARNING]
    return tuple(wrong[:_MOST_FINDINGS])


def _time(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).replace(microsecond=time_us % 1_000_000)


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def _to_json(verdict: TrailVerdict) -> dict[str, Any]:
    return {"v": 1, **asdict(verdict)}


def _from_json(said: dict[str, Any]) -> TrailVerdict:
    values = {**said}
    if values.pop("v") != 1:
        raise ValueError("a verdict of another version")
    walk = values.pop("walk")
    for name in ("lasting", "passing"):
        values[name] = _findings(values[name])
    if walk is not None:
        walk = Walk(walk["checkpoint"], walk["began_us"], _findings(walk["found"]))
    return TrailVerdict(**values, walk=walk)


def _findings(said: Iterable[dict[str, Any]]) -> Findings:
    return tuple(Finding(Severity(one["severity"]), one["what"], one["first"], one["last"]) for one in said)
