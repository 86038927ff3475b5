# ruff: noqa: S608  (only numbers of this module are put into this SQL)
"""What a verification looks at besides the log: what waits, events that are nowhere, sessions' numbers."""

import itertools
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from audit import driver
from audit.models import AuditEvent, AuditLoss
from audit.retiring import first_whole_session
from audit.sealing import KnownRoots, event_refusal
from audit.tags import Tag
from audit.trail_keys import PublicKeys
from audit.verifying_columns import TIMES, ColumnCheck
from audit.verifying_rows import CHUNK

#: As many problems of a kind are named at most.
_MOST: Final = 1000


def outside_problems(keys: PublicKeys, now: datetime, unsealed_after: timedelta) -> Iterator[tuple[bool, str]]:
    """Yield what is wrong outside the log: whether it shows tampering, and what it is."""
    yield from pending_problems(keys, now, unsealed_after)
    nowhere = driver.fetch(
        "SELECT id FROM audit_auditevent AS event WHERE NOT EXISTS (SELECT 1 FROM audit_auditleaf AS leaf "
        "WHERE leaf.event_id = event.id) AND NOT EXISTS (SELECT 1 FROM audit_auditpending AS pending "
        f"WHERE pending.event_id = event.id) ORDER BY id LIMIT {_MOST}",
        [],
    )
    for (number,) in nowhere:
        yield True, f"event {number} is neither sealed nor waiting"
    # A session's first events may be retired; not those of a session that began after that. Its id has its time.
    begun: Any = first_whole_session(keys)
    gaps = driver.fetch(
        "SELECT session_id, count(*), min(session_seq), max(session_seq) FROM audit_auditevent "
        "WHERE session_id IS NOT NULL GROUP BY session_id "
        "HAVING count(*) <> max(session_seq) - min(session_seq) + 1 "
        f"OR (min(session_seq) <> 1 AND session_id >= %s) LIMIT {_MOST}",
        [begun.hex if connection.vendor == "sqlite" else begun],
    )
    lost = _lost() if gaps else {}
    for session, count, first, last in gaps:
        named = lost.get(str(session).replace("-", ""), set())
        if not _are_lost(session, named):
            yield True, f"session {session} has {count} events, numbered from {first} to {last}"
    untold = driver.fetch("SELECT count(*) FROM audit_auditloss", [])
    if untold[0][0]:
        yield False, f"{untold[0][0]} events could not be written, and no event tells of it yet"
    again = driver.fetch(
        "SELECT pending.event_id FROM audit_auditpending AS pending "
        f"JOIN audit_auditleaf AS leaf ON leaf.event_id = pending.event_id LIMIT {_MOST}",
        [],
    )
    for (number,) in again:
        yield True, f"event {number} waits, though it is sealed"
    unknown = driver.fetch(
        "SELECT count(*) FROM audit_auditanchor "
        "WHERE checkpoint_id > (SELECT coalesce(max(number), 0) FROM audit_auditcheckpoint)",
        [],
    )
    if unknown[0][0]:
        yield True, f"{unknown[0][0]} checkpoints are noted as published and are not there"


def _lost() -> dict[str, set[int]]:
    """Return the numbers of sessions' events that could not be written, as events tell of it or will."""
    found: dict[str, set[int]] = {}
    told = AuditEvent.objects.filter(tag=Tag.TRAIL_DEGRADED).values_list("body", flat=True)
    for session, number in itertools.chain.from_iterable(json.loads(body)["data"]["sessions"] for body in told):
        found.setdefault(session.replace("-", ""), set()).add(number)
    for loss in AuditLoss.objects.exclude(session_id=None):
        found.setdefault(str(loss.session_id).replace("-", ""), set()).add(loss.session_seq or 0)
    return found


def _are_lost(session: Any, named: set[int]) -> bool:
    """Return whether all that a session's events lack is named."""
    if not named:
        return False
    numbers = AuditEvent.objects.filter(session_id=str(session)).values_list("session_seq", flat=True)
    there = {number or 0 for number in numbers}
    return set(range(1, max({*there, *named}) + 1)) == there | named and not there & named


def pending_problems(keys: PublicKeys, now: datetime, unsealed_after: timedelta) -> Iterator[tuple[bool, str]]:
    """Yield what is wrong with what waits to be sealed."""
    known = KnownRoots(takes_unsigned=not driver.fetch("SELECT 1 FROM audit_auditcheckpoint LIMIT 1", []))
    late, after = 0, 0
    edge_us = round((now - unsealed_after).timestamp() * 1_000_000)
    late_before: Any = ColumnCheck(is_sqlite=connection.vendor == "sqlite").time(edge_us)
    sql = (
        "SELECT event_id, refusal, event.hash, body, signature, "
        f"{TIMES[connection.vendor].format('occurred_at')} FROM audit_auditpending LEFT JOIN audit_auditevent AS event "
        f"ON event.id = event_id WHERE event_id > %s ORDER BY event_id LIMIT {CHUNK}"
    )
    while rows := driver.fetch_any(sql, [after]):
        for number, refusal, digest, body, signature, time in rows:
            if digest is None:
                yield True, f"event {number} was waiting and is gone"
            elif why := refusal or event_refusal(digest, body, signature, keys, known):
                yield True, f"event {number} is not what was written: {why}"
            else:
                late += time < late_before
        after = rows[-1][0]
    if late:
        yield False, f"{late} events wait for longer than {int(unsealed_after.total_seconds())} s to be sealed"
