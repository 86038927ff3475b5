"""Retiring events: the oldest may go once a bundle holds them, and a signed statement says so for good.

Leaves and checkpoints stay, so that the log verifies as before, and a bundle can always be held against it. The
databases' triggers let exactly the events go that a retirement names; what went without a signed one is missing.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BufferedReader
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction

from audit.models import AuditCheckpoint, AuditPayload, AuditRetirement
from audit.notes import NoteError, is_note_signed, note_text, text_sign
from audit.sealing import seal_all
from audit.standalone.bundle import Options, bundle_verify
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Party, record
from audit.trail_keys import PublicKeys, trail_keys, verifier_text

_FIRST_LINE: Final = "atom audit retirement 1"
#: The youngest events that may go. What runs now has none that is older.
YOUNGEST: Final = timedelta(days=1)
#: So far servers' clocks may be apart.
_CLOCKS_APART: Final = timedelta(hours=1)
#: Events that go in one transaction, so that no writer waits for long.
_BATCH: Final = 1000


class RetireError(RuntimeError):
    """The events cannot be retired. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """What a retirement states: events of leaves below `size` may go; up to there checkpoint `number` was signed."""

    log: str
    size: int
    number: int
    digest: str
    #: SHA-256 of the bundle that holds them.
    bundle: str
    time_us: int

    def text(self) -> str:
        """Return what is signed."""
        lines = [_FIRST_LINE, f"log {self.log}", f"size {self.size}", f"checkpoint {self.number} {self.digest}"]
        return "\n".join([*lines, f"bundle {self.bundle}", f"time {self.time_us}"]) + "\n"


def retirement_read(note: str, keys: PublicKeys) -> Retirement:
    """Return what a retirement states. Raises NoteError where it is damaged, or no key of this log signed it."""
    text = note_text(note)
    lines = [line.partition(" ")[2] for line in text.splitlines()]
    try:
        _version, log, size, checkpoint, bundle, time_us = lines
        number, digest = checkpoint.split(" ")
        found = Retirement(log, int(size), int(number), digest, bundle, int(time_us))
    except ValueError as error:
        raise NoteError("it is not one") from error
    if found.text() != text:
        raise NoteError("it is not spelled as it would be written")
    if log != keys.log or not is_note_signed(note, keys):
        raise NoteError("no known key signed it")
    return found


def retired_size(keys: PublicKeys) -> tuple[int, list[str]]:
    """Return up to which leaf events may be gone, and what is wrong with retirements; those do not count."""
    size, problems = 0, []
    for row in AuditRetirement.objects.order_by("number"):
        try:
            said = retirement_read(row.note, keys)
            if said.size != row.size or not AuditCheckpoint.objects.filter(
                number=said.number, digest=said.digest, size=said.size
            ):
                raise NoteError("it does not name a checkpoint of this log, or its columns say otherwise")
            size = max(size, said.size)
        except NoteError as error:
            problems.append(f"retirement {row.number} is no statement of this server: {error}")
    return size, problems


def first_whole_session(keys: PublicKeys) -> UUID:
    """Return the id from which on sessions have all of their events: the time of the last retired checkpoint."""
    size, _problems = retired_size(keys)
    sealed_at = AuditCheckpoint.objects.filter(size=size).order_by("number").values_list("sealed_at", flat=True)
    last = sealed_at.first() if size else None
    # A UUIDv7 begins with 48 bits of milliseconds; the clock that made it may be another server's.
    return UUID(int=int((last + _CLOCKS_APART).timestamp() * 1000) << 80 if last else 0)


@dataclass(frozen=True, slots=True)
class Retired:
    """What a retirement did, or would do: events of leaves from `first` up to `size` are gone, `removed` now."""

    first: int
    size: int
    checkpoint: int
    removed: int


def range_retire(*, before: datetime, bundle: BufferedReader, now: datetime, is_dry: bool = False) -> Retired:
    """Retire the events that were sealed before a time, which the bundle has to hold; those of a broken run go first.

    The statement and its event are committed before the first event goes. Raises RetireError, KeyFileError, SealError,
    and the database's own errors; after one of these it can be repeated.
    """
    if now - before < YOUNGEST:
        raise RetireError("Only events that are a day old, or older, can be retired.")
    keys = trail_keys()
    known, problems = retired_size(keys.public)
    if problems:
        raise RetireError(f"{problems[0]}. Run `manage.py auditverify`.")
    end = AuditCheckpoint.objects.filter(sealed_at__lt=before).order_by("-number").first()
    if end is None or end.size <= known:
        return Retired(known, known, end.number if end else 0, 0 if is_dry else _remove(known))
    digest = _held(bundle, keys.public, known, end)
    if AuditPayload.objects.filter(erased_at=None, created_at__lt=end.sealed_at).exists():
        raise RetireError(
            "Requests or output of that time are still stored, and their events say what they are. Let them age out "
            "first (ATOM_RETENTION_DAYS), or name an earlier time."
        )
    if is_dry:
        return Retired(known, end.size, end.number, 0)
    time_us = int(now.timestamp()) * 1_000_000 + now.microsecond
    said = Retirement(keys.log, end.size, end.number, end.digest, digest, time_us)
    with transaction.atomic():
        number = AuditRetirement.objects.count() + 1
        AuditRetirement.objects.create(number=number, size=said.size, note=text_sign(said.text(), keys), retired_at=now)
        data = {"first": known, "size": said.size, "checkpoint": said.number, "digest": said.digest, "bundle": digest}
        record(Event(Tag.TRAIL_RETIRED, SYSTEM, Party("system", label="the trail"), data=data))
    removed = _remove(end.size)
    seal_all(now)
    return Retired(known, end.size, end.number, removed)


def _held(bundle: BufferedReader, keys: PublicKeys, first: int, end: AuditCheckpoint) -> str:
    """Return the SHA-256 of a bundle that holds every event of these leaves. Raises RetireError where it does not."""
    digest = hashlib.file_digest(bundle, "sha256").hexdigest()
    bundle.seek(0)
    texts = tuple(verifier_text(keys.log, key) for key in keys.keys.values())
    held = 0

    def count(leaf: int) -> None:
        nonlocal held
        held += first <= leaf < end.size

    report = bundle_verify(bundle, Options(texts, on_event=count))
    if report.findings:
        raise RetireError(f"The bundle is {report.verdict}: {report.findings[0][1]}.")
    is_ours = AuditCheckpoint.objects.filter(number=report.checkpoint, digest=report.digest).exists()
    if not is_ours:
        raise RetireError("The bundle's last checkpoint is not in this database. Run `manage.py auditverify`.")
    if held != end.size - first:
        missing = f"{held:,} of the {end.size - first:,} events"
        raise RetireError(
            f"The bundle holds {missing} of leaves {first:,} to {end.size - 1:,}. Export it without filters."
        )
    return digest


def _remove(size: int) -> int:
    """Remove the events of the leaves below this one, batch by batch. Returns how many were there."""
    removed = 0
    for batch in _batches(size):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM audit_auditevent WHERE id IN "
                '(SELECT event_id FROM audit_auditleaf WHERE "index" >= %s AND "index" < %s)',
                batch,
            )
            removed += max(0, cursor.rowcount)
    return removed


def _batches(size: int) -> Iterator[list[Any]]:
    return ([begin, min(begin + _BATCH, size)] for begin in range(0, size, _BATCH))
