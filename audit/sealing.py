"""Sealing: what waits gets its gapless place in the log, and a signed checkpoint says so.

One transaction writes leaves, checkpoint and the end of the waiting. Any number of processes may seal: on SQLite one
writes at a time anyhow, on PostgreSQL a lock of the transaction lets one through, and either finds what the other did.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import connection, transaction

from audit import driver
from audit.event_signatures import (
    EventSignature,
    SignatureError,
    event_signature_read,
    signatures_digest,
    signed_here,
)
from audit.models import AuditCheckpoint, AuditLeaf, AuditPending
from audit.notes import FIRST, Checkpoint, NoteError, is_note_signed, note_digest, note_read, note_sign
from audit.statements import insert_values
from audit.trail_keys import PublicKeys, TrailKeys, trail_keys
from audit.tree import Frontier, leaf_hash

#: As many events go into one checkpoint at most, so that no sealing holds the database for long, and one event
#: is verified with few others.
MOST_AT_ONCE: Final = 1024
#: After so long without an event a checkpoint says that there was none.
EMPTY_AFTER: Final = timedelta(hours=1)
#: The number of PostgreSQL's advisory lock that sealers take.
_LOCK: Final = 0x41544F4D
_WAITING: Final = (
    'SELECT pending.event_id, event.hash, body, signature, leaf."index" FROM audit_auditpending AS pending '
    "LEFT JOIN audit_auditevent AS event ON event.id = pending.event_id "
    "LEFT JOIN audit_auditleaf AS leaf ON leaf.event_id = pending.event_id "
    "WHERE refusal = '' ORDER BY pending.event_id LIMIT %s"
)


class SealError(RuntimeError):
    """The log cannot be gone on with, because its newest checkpoint is not one of this server's."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one sealing did. `is_all` is False where more waits than one checkpoint takes."""

    number: int
    size: int
    events: int
    refused: int
    is_all: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    event_id: int
    leaf: bytes
    signature: str | None
    refusal: str


def seal(now: datetime) -> Sealed | None:
    """Seal what waits; without any, say so in a checkpoint once an hour. Returns None where there was nothing to do.

    Raises KeyFileError without a key, SealError, and the database's own errors: then everything waits as before.
    """
    keys = trail_keys()
    waiting = _waiting(keys.public)
    if not waiting and not _is_empty_due(now):
        return None
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        return _write(waiting, keys, now)


def seal_all(now: datetime) -> int:
    """Seal until nothing waits. Returns how many events were sealed. Raises as `seal` does."""
    count = 0
    while (sealed := seal(now)) is not None:
        count += sealed.events
        if sealed.is_all:
            break
    return count


def newest_checkpoint(keys: PublicKeys) -> tuple[Checkpoint | None, bytes]:
    """Return the newest checkpoint and the digest that the next one names it by.

    Raises SealError where it is not signed by a known key, which is also how a forged one is not built upon.
    """
    row = AuditCheckpoint.objects.order_by("-number").first()
    if row is None:
        return None, FIRST
    try:
        checkpoint = note_read(row.note)
        checkpoint.tree()
        if not is_note_signed(row.note, keys) or (checkpoint.log, checkpoint.number) != (keys.log, row.number):
            raise SealError(f"Checkpoint {row.number} is not signed by this server. Run `manage.py auditverify`.")
    except NoteError as error:
        raise SealError(f"Checkpoint {row.number}: {error}. Run `manage.py auditverify`.") from error
    return checkpoint, note_digest(row.note)


def event_refusal(event_hash: str, body: str, signature: str | None, keys: PublicKeys, known: "KnownRoots") -> str:
    """Return why an event is not what was signed when it was written, or an empty text where it is.

    Takes whatever a damaged row may hold.
    """
    try:
        digest = hashlib.sha256(body.encode())
    except (AttributeError, UnicodeEncodeError):
        return "its body is not text"
    if digest.hexdigest() != event_hash:
        return "its hash is not that of its body"
    if signature is None:
        return "" if known.takes_unsigned else "it is not signed"
    try:
        read = event_signature_read(signature)
        if read.key_id not in keys.keys:
            return "its key is not known"
        return "" if known.holds(read, digest.digest(), keys) else "its signature is wrong"
    except SignatureError:
        return "its signature is damaged"


class KnownRoots:
    """Signatures that were verified: the events of one call share theirs, and verifying is what costs."""

    def __init__(self, *, takes_unsigned: bool) -> None:
        #: Events from before there were signatures are taken in by the first checkpoint, and by no other.
        self.takes_unsigned = takes_unsigned
        self._known: dict[tuple[bytes, bytes, bytes], bool] = {}

    def holds(self, signature: EventSignature, event_hash: bytes, keys: PublicKeys) -> bool:
        """Return whether a signature is of this event. Raises SignatureError for a path that leads nowhere."""
        message = signature.message(event_hash)
        key = (signature.key_id, signature.signature, message)
        if signature.key_id in keys.keys and signed_here.has(*key):
            return True
        found = self._known.get(key)
        if found is None:
            if len(self._known) > 4096:
                self._known.clear()
            found = self._known[key] = keys.is_signed(signature.key_id, signature.signature, message)
        return found


def _waiting(keys: PublicKeys) -> list[_Waiting]:
    """Return what waits, verified. Done before the transaction: events do not change, and this is what takes time."""
    rows = driver.fetch_any(_WAITING, [MOST_AT_ONCE])
    if not rows:
        return []
    known = KnownRoots(takes_unsigned=not AuditCheckpoint.objects.exists())
    found = []
    for event_id, event_hash, body, signature, leaf in rows:
        refusal = "there is no such event"
        if leaf is not None:
            # Somebody put it back; a second leaf would be refused, and with it all that waits.
            refusal = "it is sealed already"
        elif event_hash is not None:
            refusal = event_refusal(event_hash, body, signature, keys, known)
        hashed = b"" if refusal else leaf_hash(bytes.fromhex(event_hash))
        found.append(_Waiting(event_id, hashed, signature, refusal))
    return found


def _is_empty_due(now: datetime) -> bool:
    newest = AuditCheckpoint.objects.order_by("-number").values_list("sealed_at", flat=True).first()
    return newest is not None and now - newest >= EMPTY_AFTER


def _write(waiting: Sequence[_Waiting], keys: TrailKeys, now: datetime) -> Sealed | None:
    before, previous = newest_checkpoint(keys.public)
    ids = [item.event_id for item in waiting]
    still = set(AuditPending.objects.filter(pk__in=ids, refusal="").values_list("pk", flat=True)) if ids else set()
    refused = [item for item in waiting if item.refusal and item.event_id in still]
    taken = [item for item in waiting if not item.refusal and item.event_id in still]
    for item in refused:
        AuditPending.objects.filter(pk=item.event_id).update(refusal=item.refusal)
    # Another sealer may have been here since: then there is nothing left to do.
    if not taken and not (before and not waiting and now - _sealed_at(before) >= EMPTY_AFTER):
        return None if not refused else Sealed(0, 0, 0, len(refused), is_all=len(waiting) < MOST_AT_ONCE)
    tree = before.tree() if before else Frontier()
    begin = tree.size
    tree.extend(item.leaf for item in taken)
    insert_values(
        AuditLeaf,
        ("index", "event_id", "hash"),
        [(begin + at, item.event_id, item.leaf) for at, item in enumerate(taken)],
    )
    AuditPending.objects.filter(pk__in=[item.event_id for item in taken]).delete()
    number = before.number + 1 if before else 1
    time_us = int(now.timestamp()) * 1_000_000 + now.microsecond
    signed = signatures_digest(item.signature for item in taken)
    checkpoint = Checkpoint(keys.log, tree.size, tree.root(), number, time_us, previous, tuple(tree.hashes), signed)
    note = note_sign(checkpoint, keys)
    row = (number, tree.size, now, note, note_digest(note).hex(), previous.hex())
    insert_values(AuditCheckpoint, ("number", "size", "sealed_at", "note", "digest", "previous"), [row])
    return Sealed(number, tree.size, len(taken), len(refused), is_all=len(waiting) < MOST_AT_ONCE)


def _sealed_at(checkpoint: Checkpoint) -> datetime:
    return datetime.fromtimestamp(checkpoint.time_us / 1_000_000, UTC)
