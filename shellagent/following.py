"""Following a session's output: what was stored after an offset, as soon as there is any."""

import codecs
import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Length

from audit.models import AuditPayload
from shellagent import queries, wake
from shellagent.services.recording import STREAMS
from shellagent.states import TERMINAL, Status
from shellagent.waiting import place

#: A stream's stored bytes that follow each other, by the offset of the first.
Part = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Followed:
    """Where a session is, and what its streams hold after the offsets that were asked for."""

    status: Status
    parts: Mapping[str, list[Part]]
    #: By stream, the offset to ask for next.
    next_offsets: Mapping[str, int]

    @property
    def is_end(self) -> bool:
        """Return whether nothing follows. A result that comes after a session was lost is the exception."""
        return self.status in TERMINAL


def output_follow(session_id: UUID, after: Mapping[str, int], seconds: float, *, waiter: str) -> Followed:
    """Return what these streams hold from their offsets on; held until there is something, the end, or time is over.

    `waiter` names who waits; beyond the caps of `shellagent.waiting` the answer comes at once.
    """
    deadline = time.monotonic() + seconds
    followed = _look(session_id, after)
    if seconds <= 0 or _is_news(followed):
        return followed
    with place(waiter) as has_place, wake.listening(wake.session_channel(session_id)) as bell:
        while True:
            bell.clear()
            followed = _look(session_id, after)
            remaining = wake.remaining_seconds(deadline)
            if _is_news(followed) or not has_place or remaining <= 0:
                return followed
            wake.release_connection()
            bell.wait(min(wake.RECHECK_SECONDS, remaining))


def _is_news(followed: Followed) -> bool:
    return followed.is_end or any(followed.parts.values())


def _look(session_id: UUID, after: Mapping[str, int]) -> Followed:
    # The status first: where it is an end, all that the record brought is there for the second query.
    status = queries.session_status(session_id)
    parts = {stream: _stored(session_id, stream, offset) for stream, offset in after.items()}
    ends = {stream: found[-1][0] + len(found[-1][1]) if found else after[stream] for stream, found in parts.items()}
    return Followed(status, parts, ends)


def _stored(session_id: UUID, stream: str, after: int) -> list[Part]:
    rows = AuditPayload.objects.filter(session_id=session_id, kind=STREAMS[stream])
    if after:
        rows = rows.alias(end=F("offset") + Length("data")).filter(end__gt=after)
    found: list[Part] = []
    for offset, data in rows.order_by("offset").values_list("offset", "data"):
        start = max(offset, after)
        fresh = bytes(data)[start - offset :]
        if found and start == found[-1][0] + len(found[-1][1]):
            found[-1] = (found[-1][0], found[-1][1] + fresh)
        elif fresh:
            found.append((start, fresh))
    return found


def whole_characters(followed: Followed) -> Followed:
    """Return it without the beginning of a character whose other bytes may still come."""
    if followed.is_end:
        return followed
    parts, ends = {}, dict(followed.next_offsets)
    for stream, found in followed.parts.items():
        parts[stream] = list(found)
        if found:
            offset, data = found[-1]
            begun = _begun_character(data)
            ends[stream] -= begun
            parts[stream][-1:] = [(offset, data[:-begun])] if begun else [(offset, data)]
            parts[stream] = [part for part in parts[stream] if part[1]]
    return Followed(followed.status, parts, ends)


def _begun_character(data: bytes) -> int:
    """Return how many bytes at the end begin a character of UTF-8 and do not end it."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(data[-4:])
    return len(decoder.getstate()[0])
