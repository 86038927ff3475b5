"""Writing the trail: `record` inside the caller's transaction, and the payloads that events commit to."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet
from uuid_utils.compat import uuid7

from audit import canonical, listening
from audit.event_signatures import events_sign
from audit.models import AuditEvent, AuditLoss, AuditPayload
from audit.origin import current_origin
from audit.seal_bell import noted
from audit.standing import standing
from audit.statements import Prepared, insert_values
from audit.tags import Tag
from audit.trail_keys import trail_keys

#: Losses that one event tells of.
_LOSSES_AT_ONCE: Final = 500


class TrailError(RuntimeError):
    """An event belongs in the transaction of the change that it tells of."""


@dataclass(frozen=True, slots=True)
class Party:
    """Who did something, or what it was done to. `type` is user, agent, host, session, rule or system."""

    type: str
    id: str = ""
    label: str = ""


SYSTEM = Party("system", label="the product")
TRAIL = Party("system", label="the trail")


@dataclass(frozen=True, slots=True)
class About:
    """What an event is looked for by, besides its parties: the agent's and the host's id, and the category."""

    agent_id: int | None = None
    host_id: int | None = None
    category: str | None = None


NOTHING = About()


@dataclass(frozen=True, slots=True)
class Event:
    """What is to be recorded. `data` holds what canonical JSON can hold: no floats, integers below 2**53.

    An agent or a host that is a party of the event is found by it without being named in `about`.
    """

    tag: Tag
    actor: Party
    subject: Party
    outcome: str = ""
    data: Mapping[str, object] = field(default_factory=dict)
    session_id: UUID | None = None
    session_seq: int | None = None
    about: About = NOTHING


@dataclass(frozen=True, slots=True)
class Receipt:
    """What whoever asked can keep: with it they can show later that the event was written, and that it is gone."""

    uid: str
    hash: str
    signature: str


def record(*events: Event) -> list[Receipt | None]:
    """Write events in the caller's transaction, signed together. Returns a receipt for each, in their order.

    Where the trail cannot be written, and all are about hosts in best effort, it is counted what is lost instead, in
    the same transaction; then there are no receipts.

    Raises KeyFileError where this server has no key to sign them with, TrailError outside a transaction, CanonicalError
    for data that has no canonical form, and the database's own error where it cannot be written: then the change it
    tells of does not happen either.
    """
    if not connection.in_atomic_block:
        raise TrailError(TrailError.__doc__)
    if not events:
        return []
    if standing.cannot_write and standing.spares([_number(event, "host", event.about.host_id) for event in events]):
        losses_keep(events)
        return [None] * len(events)
    rows = [_row(event) for event in events]
    signatures = events_sign([digest for _values, digest in rows], trail_keys())
    signed = [(*row, signature) for (row, _digest), signature in zip(rows, signatures, strict=True)]
    insert_values(AuditEvent, _EVENT_COLUMNS, signed)
    noted(len(signed))
    receipts = [Receipt(str(row[0]), str(row[-2]), str(row[-1])) for row in signed]
    listening.tell(events, receipts)
    return [*receipts]


def losses_keep(events: Sequence[Event]) -> None:
    """Count events that are lost, in the caller's transaction."""
    now = datetime.now(UTC)
    names = ("tag", "host_id", "session_id", "session_seq", "lost_at")
    insert_values(
        AuditLoss,
        names,
        [
            (str(event.tag), _number(event, "host", event.about.host_id), event.session_id, event.session_seq, now)
            for event in events
        ],
    )


def losses_tell() -> int:
    """Write how many events were lost, now that one can be written, and forget them. Returns how many it told of."""
    told = 0
    while True:
        with transaction.atomic():
            lost = list(AuditLoss.objects.order_by("pk")[:_LOSSES_AT_ONCE])
            if not lost:
                return told
            data = {
                "lost": len(lost),
                "since_us": int(lost[0].lost_at.timestamp() * 1000) * 1000,
                "until_us": int(lost[-1].lost_at.timestamp() * 1000) * 1000,
                "hosts": sorted({loss.host_id for loss in lost if loss.host_id is not None}),
                "tags": dict(Counter(loss.tag for loss in lost)),
                # The numbers that sessions' events lack.
                "sessions": [[str(loss.session_id), loss.session_seq] for loss in lost if loss.session_id],
            }
            record(Event(Tag.TRAIL_DEGRADED, SYSTEM, Party("system", label="the trail"), data=data))
            removed, _by_model = AuditLoss.objects.filter(pk__in=[loss.pk for loss in lost]).delete()
            if removed != len(lost):  # Another process tells of them.
                transaction.set_rollback(True)
                return told
        told += len(lost)


def receipt_of(session_id: UUID, *, is_newest: bool = False) -> Receipt | None:
    """Return the receipt for a session's first event, its request, or for its newest; None where none is signed."""
    for uid, digest, signature in _ends[is_newest].rows(session_id):
        return Receipt(str(uid), digest, signature) if signature else None
    return None


def _end(order: str) -> Prepared:
    def build(session_id: UUID) -> QuerySet[AuditEvent, Any]:
        rows = AuditEvent.objects.filter(session_id=session_id).order_by(order)
        return rows.values_list("uid", "hash", "signature")[:1]

    return Prepared(build, UUID)


_ends = {False: _end("session_seq"), True: _end("-session_seq")}

_EVENT_COLUMNS = (
    "uid",
    "session_id",
    "session_seq",
    "occurred_at",
    "tag",
    "actor_type",
    "actor_id",
    "actor_label",
    "subject_type",
    "subject_id",
    "subject_label",
    "outcome",
    "agent_id",
    "host_id",
    "category",
    "body",
    "hash",
    "signature",
)


def _row(event: Event) -> tuple[tuple[object, ...], bytes]:
    """Return the values of an event's columns up to its hash, and that hash as bytes."""
    uid = uuid7()
    now_us = time.time_ns() // 1000
    origin = current_origin()
    agent_id, host_id = _number(event, "agent", event.about.agent_id), _number(event, "host", event.about.host_id)
    body = canonical.dumps(
        {
            "v": 1,
            "uid": str(uid),
            "time_us": now_us,
            "monotonic_us": time.monotonic_ns() // 1000,
            "boot_id": _boot_id(),
            "tag": event.tag,
            "actor": {"type": event.actor.type, "id": event.actor.id, "label": event.actor.label},
            "subject": {"type": event.subject.type, "id": event.subject.id, "label": event.subject.label},
            "outcome": event.outcome,
            "session_id": str(event.session_id) if event.session_id else None,
            "session_seq": event.session_seq,
            "about": {"agent": agent_id, "host": host_id, "category": event.about.category},
            "origin": origin.to_json() if origin else None,
            "data": event.data,
        }
    )
    digest = hashlib.sha256(body.encode())
    row = (
        uid,
        event.session_id,
        event.session_seq,
        datetime.fromtimestamp(now_us // 1_000_000, UTC).replace(microsecond=now_us % 1_000_000),
        str(event.tag),
        event.actor.type,
        event.actor.id,
        event.actor.label[:200],
        event.subject.type,
        event.subject.id,
        event.subject.label[:200],
        str(event.outcome),
        agent_id,
        host_id,
        event.about.category,
        body,
        digest.hexdigest(),
    )
    return row, digest.digest()


def _number(event: Event, kind: str, known: int | None) -> int | None:
    """Return the id of the agent or host that an event is about: the one it names, else the one that is a party."""
    if known is not None:
        return known
    for party in (event.subject, event.actor):
        if party.type == kind and party.id.isdecimal():
            return int(party.id)
    return None


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes to store for a session. The commitment goes into the event that tells of them."""

    session_id: UUID
    kind: AuditPayload.Kind
    data: bytes
    offset: int = 0
    salt: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def commitment(self) -> str:
        """Return SHA-256(salt and bytes), hexadecimal."""
        return hashlib.sha256(self.salt + self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """Bytes that are stored for a session."""

    session_id: UUID
    kind: str
    offset: int
    data: bytes


def store(payloads: Iterable[Payload], now: datetime, *, ignore_known: bool = False) -> None:
    """Store payloads in the caller's transaction. With `ignore_known` one that is at its place already stays."""
    names = ("session_id", "kind", "offset", "salt", "data", "created_at")
    rows = [(item.session_id, str(item.kind), item.offset, item.salt, item.data, now) for item in payloads]
    insert_values(AuditPayload, names, rows, ignore_known=ignore_known)


def payloads_of(session_ids: Sequence[UUID], *kinds: AuditPayload.Kind) -> list[StoredPayload]:
    """Return the stored payloads of these sessions, ordered by session, kind and offset; erased ones are missing."""
    rows = _payloads(kinds).rows(list(session_ids))
    return [
        StoredPayload(session_id, kind, offset, bytes(data))
        for session_id, kind, offset, data, erased_at in rows
        if erased_at is None
    ]


@cache
def _payloads(kinds: tuple[AuditPayload.Kind, ...]) -> Prepared:
    def build(ids: list[UUID]) -> QuerySet[AuditPayload, Any]:
        # Erased ones are read too: asked for rows that are not, PostgreSQL takes the index of these while it is small,
        # and keeps to that plan when it has grown.
        rows = AuditPayload.objects.filter(session_id__in=ids)
        if kinds:
            rows = rows.filter(kind__in=[kind.value for kind in kinds])
        names = ("session_id", "kind", "offset", "data", "erased_at")
        return rows.order_by("session_id", "kind", "offset").values_list(*names)

    return Prepared(build, list)
