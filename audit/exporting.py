"""Exporting the trail: in which forms, and that each export is itself an event, written before any of it is shown."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from django.db import transaction

from audit import sentences
from audit.models import AuditCheckpoint
from audit.sealing import seal_all
from audit.selecting import SealedEvent, Selection, sealed_events
from audit.tags import Tag
from audit.trail import TRAIL, Event, Party, record


class Form(StrEnum):
    """In which form events are exported."""

    BUNDLE = "bundle"
    CSV = "csv"
    OCSF = "ocsf"
    ASCIICAST = "asciicast"

    @property
    def label(self) -> str:
        """Return what a person calls it."""
        return {"bundle": "a bundle that can be verified anywhere", "csv": "CSV", "ocsf": "OCSF 1007"}.get(
            self, "a recording"
        )

    @property
    def suffix(self) -> str:
        """Return how a file of this form is called."""
        return {"bundle": "zip", "csv": "csv", "ocsf": "ocsf.jsonl", "asciicast": "cast"}[self]

    @property
    def media_type(self) -> str:
        """Return what it is, for HTTP."""
        types = {"bundle": "application/zip", "csv": "text/csv; charset=utf-8", "ocsf": "application/x-ndjson"}
        return types.get(self, "application/x-asciicast")


def export_begin(*, actor: Party, form: Form, selection: Selection, door: str, now: datetime) -> AuditCheckpoint:
    """Write that somebody exports, and seal it with all that waits. Returns the checkpoint that the export ends with.

    Raises KeyFileError, SealError, and the database's own errors: what cannot be recorded is not exported.
    """
    with transaction.atomic():
        data = {"format": str(form), "filters": selection.to_json(), "by": door}
        record(Event(Tag.TRAIL_EXPORTED, actor, TRAIL, data=data))
    seal_all(now)
    return AuditCheckpoint.objects.order_by("-number")[0]


_COLUMNS: Final = (
    *("leaf", "time", "event", "what", "outcome", "actor_type", "actor_id", "actor"),
    *("subject_type", "subject_id", "subject", "session", "session_seq", "agent_id", "host_id", "category"),
    *("address", "uid", "sha256"),
)


def csv_pieces(selection: Selection, until: int) -> Iterator[bytes]:
    """Yield the events as CSV (RFC 4180), with a head line and in the order of the log."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(_COLUMNS)
    for event in sealed_events(selection, until):
        writer.writerow([_cell(value) for value in _row(event)])
        if buffer.tell() > 1 << 16:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _row(event: SealedEvent) -> list[object]:
    body: dict[str, Any] = json.loads(event.body)
    actor, subject, about = body["actor"], body["subject"], body["about"]
    moment = datetime.fromtimestamp(body["time_us"] // 1_000_000, UTC)
    return [
        event.leaf,
        moment.replace(microsecond=body["time_us"] % 1_000_000).isoformat(),
        body["tag"],
        sentences.sentence(body),
        body["outcome"],
        *(actor["type"], actor["id"], actor["label"]),
        *(subject["type"], subject["id"], subject["label"]),
        *(body["session_id"], body["session_seq"], about["agent"], about["host"], about["category"]),
        (body["origin"] or {}).get("address", ""),
        *(event.uid, event.hash),
    ]


def _cell(value: object) -> object:
    """Return a value as a spreadsheet cannot take for a formula: words in the trail may come from anybody."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
