# ruff: noqa: S608  (only names and numbers of this module are put into this SQL)
"""What a verification reads of the database, in pieces: the log's leaves with their events, payloads, what waits."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection

from audit import driver
from audit.models import AuditEvent, AuditPayload, AuditPending
from audit.sealing import KnownRoots, event_refusal
from audit.tags import Tag
from audit.trail_keys import PublicKeys

#: Rows that are read at a time.
CHUNK: Final = 2000
#: As many problems of a kind are named at most.
_MOST: Final = 1000
_REMOVALS: Final = (Tag.ERASURE_DONE, Tag.RETENTION_APPLIED)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN: Final = "tag, actor_type, actor_id, actor_label, subject_type, subject_id, subject_label, outcome, session_seq"
_TEXTS: Final = {
    "sqlite": "uid, session_id, occurred_at",
    "postgresql": "replace(uid::text, '-', ''), replace(session_id::text, '-', ''), occurred_at",
}


def leaves_between(begin: int, end: int) -> Iterator[tuple[Any, ...]]:
    """Yield index, hash, event id, body and columns of these leaves; an event that is gone has None for its own."""
    sql = (
        f'SELECT "index", leaf.hash, event_id, body, event.hash, agent_id, host_id, category, '
        f"{_TEXTS[connection.vendor]}, {_PLAIN} FROM audit_auditleaf AS leaf "
        f"LEFT JOIN audit_auditevent AS event ON event.id = leaf.event_id "
        f'WHERE "index" >= %s AND "index" < %s ORDER BY "index" LIMIT {CHUNK}'
    )
    while rows := driver.fetch(sql, [begin, end]):
        yield from rows
        begin = rows[-1][0] + 1


def leaves_behind() -> tuple[int, int] | None:
    """Return the first and last leaf that no checkpoint covers; asked in one statement, because sealing goes on."""
    ((first, last),) = driver.fetch(
        'SELECT min("index"), max("index") FROM audit_auditleaf '
        'WHERE "index" >= (SELECT coalesce(max(size), 0) FROM audit_auditcheckpoint)',
        [],
    )
    return None if first is None else (first, last)


class RowCheck:
    """Checks leaves' events one by one: body, hash, columns, and the payloads that they commit to."""

    def __init__(self, found: Callable[[str, int], None]) -> None:
        self._found = found
        self._is_sqlite = connection.vendor == "sqlite"
        self._committed: dict[str, dict[str, int]] = {}
        # On disk once it grows: what was erased, and what events of erasures name.
        self._erased = sqlite3.connect("")
        self._erased.execute("CREATE TABLE gone (commitment TEXT PRIMARY KEY, leaf INTEGER) WITHOUT ROWID")
        self._erased.execute("CREATE TABLE named (commitment TEXT PRIMARY KEY) WITHOUT ROWID")

    def check(self, row: tuple[Any, ...]) -> bytes | None:
        """Check a row of `leaves_between`. Returns the hash of the body, None where there is no event."""
        index, body = row[0], row[3]
        if body is None:
            self._found("a leaf's event is missing", index)
            return None
        digest = hashlib.sha256(body.encode())
        if digest.hexdigest() != row[4]:
            self._found("an event's hash is not that of its body", index)
        try:
            said = json.loads(body)
            expected = self._columns(said)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            self._found("an event's body cannot be read", index)
            return digest.digest()
        if row[5:] != expected:
            self._found("an event's columns are not what its body says", index)
        if "commitment" in body:
            self._commitments(said, index)
        return digest.digest()

    def finish(self) -> None:
        """Check what is left to check at the end."""
        self._look_up()
        for (body,) in AuditEvent.objects.filter(
            pk__in=AuditPending.objects.values("event_id"), tag__in=_REMOVALS
        ).values_list("body"):
            self._name(json.loads(body)["data"])
        unnamed = self._erased.execute(
            "SELECT min(leaf), count(*) FROM gone WHERE commitment NOT IN (SELECT commitment FROM named)"
        ).fetchone()
        if unnamed[1]:
            self._found(f"{unnamed[1]} payloads are erased and no event says so", unnamed[0])
        self._erased.close()

    def _columns(self, said: Mapping[str, Any]) -> tuple[Any, ...]:
        actor, subject, about, session = said["actor"], said["subject"], said["about"], said["session_id"]
        time = _EPOCH + timedelta(microseconds=said["time_us"])
        return (
            about["agent"],
            about["host"],
            about["category"],
            said["uid"].replace("-", ""),
            session.replace("-", "") if session else None,
            time.replace(tzinfo=None) if self._is_sqlite else time,
            said["tag"],
            actor["type"],
            actor["id"],
            actor["label"][:200],
            subject["type"],
            subject["id"],
            subject["label"][:200],
            said["outcome"],
            said["session_seq"],
        )

    def _commitments(self, said: Mapping[str, Any], index: int) -> None:
        if said["tag"] in _REMOVALS:
            self._name(said["data"])
            return
        if said["session_id"]:
            known = self._committed.setdefault(said["session_id"], {})
            known.update(dict.fromkeys(_found_in(said["data"]), index))
        if len(self._committed) >= 200:
            self._look_up()

    def _name(self, data: Mapping[str, Any]) -> None:
        names = [(name,) for name in data.get("commitments", [])]
        self._erased.executemany("INSERT OR IGNORE INTO named VALUES (?)", names)

    def _look_up(self) -> None:
        wanted, self._committed = self._committed, {}
        if not wanted:
            return
        rows = AuditPayload.objects.filter(session_id__in=[UUID(one) for one in wanted])
        for session, salt, data, erased_at, commitment in rows.values_list(
            "session_id", "salt", "data", "erased_at", "commitment"
        ).iterator(CHUNK):
            known = wanted[str(session)]
            if erased_at is None:
                known.pop(hashlib.sha256(bytes(salt) + bytes(data)).hexdigest(), None)
            elif commitment in known:
                row = (commitment, known.pop(commitment))
                self._erased.execute("INSERT OR IGNORE INTO gone VALUES (?, ?)", row)
        for known in wanted.values():
            for index in sorted(known.values()):
                self._found("a payload is not what its event commits to, or is gone", index)


def _found_in(value: Any) -> Iterator[str]:
    """Yield every commitment in an event's data, wherever it stands."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name.endswith("commitment") and isinstance(item, str):
                yield item
            elif name.endswith("commitments") and isinstance(item, list):
                yield from (one for one in item if isinstance(one, str))
            else:
                yield from _found_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _found_in(item)


def outside_problems(keys: PublicKeys, now: datetime, unsealed_after: timedelta) -> Iterator[tuple[bool, str]]:
    """Yield what is wrong outside the log: whether it shows tampering, and what it is."""
    yield from _pending_problems(keys, now, unsealed_after)
    nowhere = driver.fetch(
        "SELECT id FROM audit_auditevent AS event WHERE NOT EXISTS (SELECT 1 FROM audit_auditleaf AS leaf "
        "WHERE leaf.event_id = event.id) AND NOT EXISTS (SELECT 1 FROM audit_auditpending AS pending "
        f"WHERE pending.event_id = event.id) ORDER BY id LIMIT {_MOST}",
        [],
    )
    for (number,) in nowhere:
        yield True, f"event {number} is neither sealed nor waiting"
    gaps = driver.fetch(
        "SELECT session_id, count(*), min(session_seq), max(session_seq) FROM audit_auditevent "
        "WHERE session_id IS NOT NULL GROUP BY session_id "
        f"HAVING count(*) <> max(session_seq) OR min(session_seq) <> 1 LIMIT {_MOST}",
        [],
    )
    for session, count, first, last in gaps:
        yield True, f"session {session} has {count} events, numbered from {first} to {last}"


def _pending_problems(keys: PublicKeys, now: datetime, unsealed_after: timedelta) -> Iterator[tuple[bool, str]]:
    known = KnownRoots(takes_unsigned=not driver.fetch("SELECT 1 FROM audit_auditcheckpoint LIMIT 1", []))
    late = 0
    rows = AuditPending.objects.order_by("event_id").values_list(
        "event_id", "refusal", "event__hash", "event__body", "event__signature", "event__occurred_at"
    )
    gone = "SELECT event_id FROM audit_auditpending WHERE event_id NOT IN (SELECT id FROM audit_auditevent)"
    for (number,) in driver.fetch(gone, []):
        yield True, f"event {number} was waiting and is gone"
    for number, refusal, digest, body, signature, time in rows.filter(event__hash__isnull=False).iterator(CHUNK):
        if why := refusal or event_refusal(digest, body, signature, keys, known):
            yield True, f"event {number} is not what was written: {why}"
        else:
            late += now - time > unsealed_after
    if late:
        yield False, f"{late} events wait for longer than {int(unsealed_after.total_seconds())} s to be sealed"
