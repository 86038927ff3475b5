"""Verifying the trail: everything that a database administrator could have done to it, looked for and named.

The log is walked once (`verifying_log`), and what is around it looked at (`verifying_around`). A finding is `tampered`
(what is there is not what was written), `incomplete` (it cannot be said) or a `warning`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection

from audit import triggers
from audit.event_signatures import event_signature_read
from audit.models import AuditCheckpoint, AuditEvent, AuditLeaf
from audit.notes import NoteError, is_note_signed, note_digest, note_read, notes_in
from audit.retiring import retired_size
from audit.sealing import KnownRoots, event_refusal
from audit.trail_keys import PublicKeys
from audit.verifying_around import outside_problems
from audit.verifying_halves import begin_of, log_verify
from audit.verifying_log import Progress, Verification, no_progress
from audit.verifying_report import Report, Severity

#: What waits longer than this is said to be unsealed too long.
UNSEALED_AFTER: Final = timedelta(minutes=2)


def surroundings(report: Report, keys: PublicKeys, now: datetime) -> None:
    """Look at what is not in the log: the triggers, what waits, sessions' numbers, and events that are nowhere."""
    for name in triggers.missing(connection):
        report.find(Severity.TAMPERED, f"the trigger {name} is missing, disabled or changed")
    if not AuditCheckpoint.objects.exists() and AuditEvent.objects.exists():
        report.find(Severity.INCOMPLETE, "there is no checkpoint yet")
    report.retired, problems = retired_size(keys)
    for what in problems:
        report.find(Severity.TAMPERED, what)
    for is_tampered, what in outside_problems(keys, now, UNSEALED_AFTER):
        report.find(Severity.TAMPERED if is_tampered else Severity.INCOMPLETE, what)


def verify(keys: PublicKeys, *, now: datetime, progress: Progress = no_progress, processes: int = 1) -> Report:
    """Verify the whole log and what is around it. With two processes the caller's connections are closed."""
    report = log_verify(keys, progress=progress, processes=processes)
    surroundings(report, keys, now)
    return report


def verify_from(keys: PublicKeys, leaf: int, *, now: datetime, progress: Progress = no_progress) -> Report:
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
    event = AuditEvent.objects.filter(uid=uid).values_list("pk", "hash", "body", "signature").first()
    report = Report()
    if event is None:
        report.find(Severity.INCOMPLETE, "there is no such event; who holds its receipt can show that it was removed")
        return report
    leaf = AuditLeaf.objects.filter(event_id=event[0]).values_list("index", flat=True).first()
    why = event_refusal(*event[1:], keys, KnownRoots(takes_unsigned=leaf is not None))
    if why:
        report.find(Severity.TAMPERED, f"the event is not what was written: {why}", leaf)
    if leaf is None:
        if not why:
            report.find(Severity.INCOMPLETE, "the event is as it was signed, and is not sealed yet")
        return report
    until = AuditCheckpoint.objects.filter(size__gt=leaf).order_by("number").first()
    if until is None:
        report.find(Severity.TAMPERED, "no checkpoint takes in this event's leaf", leaf)
        return report
    start = AuditCheckpoint.objects.filter(number=until.number - 1).first()
    return _from(keys, start, until=until.number, only=leaf, report=report)


def verify_receipt(keys: PublicKeys, receipt: Mapping[str, Any]) -> Report:
    """Verify what `execute` or `approve` gave as a receipt, and that its event is there and sealed."""
    report = Report()
    try:
        uid, digest = UUID(str(receipt["uid"])), bytes.fromhex(str(receipt["hash"]))
        signature = event_signature_read(str(receipt["signature"]))
    except (LookupError, ValueError):
        report.find(Severity.INCOMPLETE, "this is no receipt")
        return report
    if signature.key_id not in keys.keys:
        report.find(Severity.INCOMPLETE, "the receipt is signed by a key that is not known")
        return report
    if not signature.is_of(digest, keys):
        report.find(Severity.TAMPERED, "the signature of the receipt is wrong")
        return report
    known = AuditEvent.objects.filter(uid=uid).values_list("hash", flat=True).first()
    if known == digest.hex():
        return verify_entry(keys, uid)
    if known is None and retired_size(keys)[0]:
        what = "the event of the receipt is not here; look for it in the bundle of the range that was retired"
        report.find(Severity.INCOMPLETE, what)
    else:
        is_gone = known is None
        report.find(Severity.TAMPERED, f"the event of the receipt is {'gone' if is_gone else 'not what was written'}")
    return report


def _from(
    keys: PublicKeys,
    start: AuditCheckpoint | None,
    *,
    until: int | None = None,
    only: int | None = None,
    report: Report | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Verify from a checkpoint on, which has to be signed itself; from the beginning where there is none."""
    verification = Verification(keys, progress=progress, only=only, report=report)
    if start is None:
        return verification.run(until=until)
    try:
        begin = begin_of(start.note, keys)
    except NoteError as error:
        what = f"the checkpoint to begin from is damaged ({error})"
        verification.report.find(Severity.TAMPERED, what, start.number)
        return verification.report
    return verification.run(begin=begin, note=start.note, until=until)


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
