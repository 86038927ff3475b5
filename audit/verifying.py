"""Verifying the trail: everything that a database administrator could have done to it, looked for and named.

The log is walked once, in order and in pieces, so that memory stays flat at any length. A finding is `tampered` (what
is there is not what was written), `incomplete` (it cannot be said) or a `warning`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from django.db import connection

from audit import triggers
from audit.models import AuditCheckpoint, AuditEvent, AuditLeaf
from audit.notes import FIRST, Checkpoint, NoteError, is_note_signed, note_digest, note_read, notes_in
from audit.sealing import KnownRoots, event_refusal
from audit.trail_keys import PublicKeys
from audit.tree import Frontier, leaf_hash
from audit.verifying_rows import CHUNK, RowCheck, leaves_behind, leaves_between, outside_problems

#: What waits longer than this is said to be unsealed too long.
UNSEALED_AFTER: Final = timedelta(minutes=2)


class Verdict(StrEnum):
    SOUND = "sound"
    TAMPERED = "tampered"
    INCOMPLETE = "incomplete"


class Severity(StrEnum):
    TAMPERED = "tampered"
    INCOMPLETE = "incomplete"
    WARNING = "warning"


@dataclass(slots=True)
class Finding:
    """Something wrong with a range: leaves or checkpoints `first` to `last`, or one thing named in `what`."""

    severity: Severity
    what: str
    first: int | None = None
    last: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return {"severity": str(self.severity), "what": self.what, "first": self.first, "last": self.last}


@dataclass(slots=True)
class Report:
    """What was verified and found. `first` and `size` are leaves: from this one up to, not including, that one."""

    first: int = 0
    size: int = 0
    checkpoint: int = 0
    digest: str = ""
    findings: list[Finding] = field(default_factory=list)
    #: Findings beyond the first thousand are counted only.
    more: int = 0
    is_tampered: bool = False
    is_incomplete: bool = False

    @property
    def verdict(self) -> Verdict:
        """Return the worst of what was found."""
        if self.is_tampered:
            return Verdict.TAMPERED
        return Verdict.INCOMPLETE if self.is_incomplete else Verdict.SOUND

    def find(self, severity: Severity, what: str, at: int | None = None, last: int | None = None) -> None:
        """Add a finding; one that goes on where the last of its kind ended makes that one longer."""
        self.is_tampered = self.is_tampered or severity is Severity.TAMPERED
        self.is_incomplete = self.is_incomplete or severity is Severity.INCOMPLETE
        end = at if last is None else last
        for known in reversed(self.findings[-8:]):
            if at is not None and (known.severity, known.what) == (severity, what) and known.last in (at - 1, at):
                known.last = end
                return
        if len(self.findings) < 1000:
            self.findings.append(Finding(severity, what, at, end))
        else:
            self.more += 1

    def to_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return {
            "verdict": str(self.verdict),
            "first": self.first,
            "size": self.size,
            "checkpoint": self.checkpoint,
            "digest": self.digest,
            "findings": [finding.to_json() for finding in self.findings],
            "findings_not_shown": self.more,
        }


Progress = Callable[[int, int], None]


class Verification:
    """One pass over the log from a checkpoint on; `start` is None for the whole log."""

    def __init__(self, keys: PublicKeys, *, progress: Progress = lambda done, size: None) -> None:
        self.keys = keys
        self.report = Report()
        self._progress = progress
        self._rows = RowCheck(self._found)
        self._tree = Frontier()
        self._previous: Checkpoint | None = None
        self._previous_digest = FIRST
        self._cursor: Iterator[tuple[Any, ...]] = iter(())

    def run(self, *, begin: Checkpoint | None = None, note: str = "", until: int | None = None) -> Report:
        """Verify what comes after the checkpoint `begin`, whose note is `note`, up to the checkpoint number `until`.

        Without either: the whole log.
        """
        if begin is not None:
            self._tree, self._previous, self._previous_digest = begin.tree(), begin, note_digest(note)
            self.report.first = self.report.size = begin.size
            self.report.checkpoint, self.report.digest = begin.number, self._previous_digest.hex()
        last = until if until is not None else _highest_number()
        size = AuditCheckpoint.objects.filter(number__lte=last).order_by("-number").values_list("size", flat=True)
        end = size.first() or 0
        self._cursor = leaves_between(self._tree.size, end)
        number = begin.number if begin else 0
        for row in _checkpoints(number, last):
            self._checkpoint(row, end)
        self._rows.finish()
        if until is None and (behind := leaves_behind()):
            self.report.find(Severity.TAMPERED, "leaves stand behind the newest checkpoint", *behind)
        return self.report

    def _found(self, what: str, at: int) -> None:
        self.report.find(Severity.TAMPERED, what, at)

    def _checkpoint(self, row: AuditCheckpoint, end: int) -> None:
        expected = self.report.checkpoint + 1
        if row.number != expected:
            self.report.find(Severity.TAMPERED, "checkpoints are missing", expected, row.number - 1)
        self.report.checkpoint, self.report.digest = row.number, row.digest
        try:
            checkpoint = note_read(row.note)
            found = checkpoint.tree()
            self._signed(row, checkpoint)
        except NoteError as error:
            self.report.find(Severity.TAMPERED, f"a checkpoint is damaged ({error})", row.number)
            return
        before = self._previous
        if checkpoint.previous != self._previous_digest and row.number == expected:
            self.report.find(Severity.TAMPERED, "a checkpoint does not follow the one before it", row.number)
        if before and checkpoint.size < before.size:
            self.report.find(Severity.TAMPERED, "a checkpoint is smaller than the one before it", row.number)
            return
        if before and checkpoint.time_us < before.time_us:
            self.report.find(Severity.WARNING, "the clock stepped back before this checkpoint", row.number)
        self._leaves_to(checkpoint.size, end)
        if self._tree.size == checkpoint.size and self._tree.root() != checkpoint.root:
            first = before.size if before else 0
            what = f"the leaves are not those that checkpoint {row.number} was signed over"
            self.report.find(Severity.TAMPERED, what, first, checkpoint.size - 1)
            # The log goes on from what was signed, so that a bad range says nothing of those behind it.
            self._tree = found
        self._previous, self._previous_digest = checkpoint, note_digest(row.note)
        self.report.size = checkpoint.size

    def _signed(self, row: AuditCheckpoint, checkpoint: Checkpoint) -> None:
        signed = is_note_signed(row.note, self.keys)
        if signed is None:
            whose = "another log" if checkpoint.log != self.keys.log else "a key that is not known"
            self.report.find(Severity.TAMPERED, f"a checkpoint is signed by {whose}", row.number)
        elif not signed:
            self.report.find(Severity.TAMPERED, "a checkpoint's signature is wrong", row.number)
        copies = (row.number, row.size, row.digest, row.previous)
        time = datetime.fromtimestamp(checkpoint.time_us // 1_000_000, UTC).replace(
            microsecond=checkpoint.time_us % 1_000_000
        )
        said = (checkpoint.number, checkpoint.size, note_digest(row.note).hex(), checkpoint.previous.hex())
        if copies != said or row.sealed_at != time:
            self.report.find(Severity.TAMPERED, "a checkpoint's columns are not what its note says", row.number)

    def _leaves_to(self, size: int, end: int) -> None:
        tree = self._tree
        while tree.size < size:
            row = next(self._cursor, None)
            if row is None:
                self._found_missing(tree.size, size - 1)
                self._give_up(size)
                return
            index, leaf, event_hash = row[0], bytes(row[1]), self._rows.check(row)
            if index > tree.size:
                self._found_missing(tree.size, min(index, size) - 1)
                if index >= size:
                    self._cursor = _again(row, self._cursor)
                    self._give_up(size)
                    return
                # Without the missing ones the root cannot be found; what is there is looked at all the same.
                tree.size = index
            if event_hash is not None and leaf != leaf_hash(event_hash):
                self._found("a leaf is not the hash of its event", index)
            if tree.size.bit_count() == len(tree.hashes):
                tree.append(leaf)
            else:
                tree.size += 1
            if not index % CHUNK:
                self._progress(index, end)

    def _found_missing(self, first: int, last: int) -> None:
        self.report.find(Severity.TAMPERED, "leaves are missing", first, last)

    def _give_up(self, size: int) -> None:
        """Go on at a size whose root cannot be found any more."""
        self._tree = Frontier()
        self._tree.size = size


def _again(row: tuple[Any, ...], rest: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    yield row
    yield from rest


def _highest_number() -> int:
    return AuditCheckpoint.objects.order_by("-number").values_list("number", flat=True).first() or 0


def _checkpoints(after: int, until: int) -> Iterator[AuditCheckpoint]:
    while True:
        rows = list(AuditCheckpoint.objects.filter(number__gt=after, number__lte=until).order_by("number")[:500])
        yield from rows
        if not rows:
            return
        after = rows[-1].number


def surroundings(report: Report, keys: PublicKeys, now: datetime) -> None:
    """Look at what is not in the log: the triggers, what waits, sessions' numbers, and events that are nowhere."""
    for name in triggers.missing(connection):
        report.find(Severity.TAMPERED, f"the trigger {name} is missing, disabled or changed")
    if not AuditCheckpoint.objects.exists() and AuditEvent.objects.exists():
        report.find(Severity.INCOMPLETE, "there is no checkpoint yet")
    for is_tampered, what in outside_problems(keys, now, UNSEALED_AFTER):
        report.find(Severity.TAMPERED if is_tampered else Severity.INCOMPLETE, what)


def verify(keys: PublicKeys, *, now: datetime, progress: Progress = lambda done, size: None) -> Report:
    """Verify the whole log and what is around it."""
    report = Verification(keys, progress=progress).run()
    surroundings(report, keys, now)
    return report


def verify_from(keys: PublicKeys, leaf: int, *, now: datetime, progress: Progress = lambda done, size: None) -> Report:
    """Verify from the checkpoint on that stands at or before this leaf, and what is around the log."""
    start = AuditCheckpoint.objects.filter(size__lte=leaf).order_by("-number").first()
    report = _from(keys, start, progress=progress)
    surroundings(report, keys, now)
    return report


def verify_last(keys: PublicKeys) -> Report:
    """Verify the newest checkpoint and what it added."""
    newest = AuditCheckpoint.objects.order_by("-number")[:2]
    report = _from(keys, newest[1] if len(newest) > 1 else None)
    if not newest:
        report.find(Severity.INCOMPLETE, "there is no checkpoint yet")
    return report


def verify_entry(keys: PublicKeys, uid: UUID) -> Report:
    """Verify one event, and the checkpoint that took it in."""
    event = AuditEvent.objects.filter(uid=uid).first()
    if event is None:
        report = Report()
        report.find(Severity.INCOMPLETE, "there is no such event; who holds its receipt can show that it was removed")
        return report
    leaf = AuditLeaf.objects.filter(event=event).first()
    if leaf is None:
        report = Report()
        known = KnownRoots(takes_unsigned=False)
        if why := event_refusal(event.hash, event.body, event.signature, keys, known):
            report.find(Severity.TAMPERED, f"the event is not what was written: {why}")
        else:
            report.find(Severity.INCOMPLETE, "the event is as it was signed, and is not sealed yet")
        return report
    until = AuditCheckpoint.objects.filter(size__gt=leaf.pk).order_by("number").first()
    if until is None:
        report = Report()
        report.find(Severity.TAMPERED, "no checkpoint takes in this event's leaf", leaf.pk)
        return report
    start = AuditCheckpoint.objects.filter(number=until.number - 1).first()
    return _from(keys, start, until=until.number)


def _from(
    keys: PublicKeys,
    start: AuditCheckpoint | None,
    *,
    until: int | None = None,
    progress: Progress = lambda done, size: None,
) -> Report:
    """Verify from a checkpoint on, which has to be signed itself; from the beginning where there is none."""
    verification = Verification(keys, progress=progress)
    if start is None:
        return verification.run(until=until)
    try:
        checkpoint = note_read(start.note)
        checkpoint.tree()
        if not is_note_signed(start.note, keys):
            raise NoteError("no known key signed it")
    except NoteError as error:
        verification.report.find(Severity.TAMPERED, f"the checkpoint to begin from is damaged ({error})", start.number)
        return verification.report
    return verification.run(begin=checkpoint, note=start.note, until=until)


def anchored(report: Report, lines: Iterable[str], keys: PublicKeys) -> int:
    """Compare the log with checkpoints that were published. Returns how many were compared.

    Each has to be in the database as it was published: one that is not shows that history was changed or cut.
    """
    count, batch = 0, []
    for note in notes_in(lines):
        batch.append(note)
        if len(batch) == 500:
            count += _compare(report, batch, keys)
            batch = []
    count += _compare(report, batch, keys)
    if not count:
        report.find(Severity.INCOMPLETE, "the anchor holds no checkpoint of this log")
    return count


def _compare(report: Report, batch: Sequence[str], keys: PublicKeys) -> int:
    digests = [note_digest(note).hex() for note in batch]
    known = set(AuditCheckpoint.objects.filter(digest__in=digests).values_list("digest", flat=True))
    count = len([digest for digest in digests if digest in known])
    for note, digest in zip(batch, digests, strict=True):
        if digest in known:
            continue
        try:
            checkpoint = note_read(note)
            is_signed = is_note_signed(note, keys)
        except NoteError as error:
            report.find(Severity.INCOMPLETE, f"the anchor holds what is no checkpoint ({error})")
            continue
        if not is_signed:
            report.find(Severity.INCOMPLETE, "the anchor holds a checkpoint that no known key signed")
            continue
        count += 1
        report.find(Severity.TAMPERED, "published checkpoints are not in the database", checkpoint.number)
    return count
