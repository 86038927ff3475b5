# ruff: noqa: S608  (only names and numbers of this module are put into this SQL)
"""What a verification reads of the log, in pieces: its leaves with their events, and the payloads they commit to."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from django.db import connection

from audit import driver
from audit.models import AuditEvent, AuditPayload
from audit.retiring import retired_size
from audit.sealing import KnownRoots, event_refusal
from audit.tags import Tag
from audit.trail_keys import PublicKeys
from audit.verifying_columns import COLUMNS, ColumnCheck

#: Rows that are read at a time.
CHUNK: Final = 2000
_REMOVALS: Final = (Tag.ERASURE_DONE, Tag.RETENTION_APPLIED)
#: Where a row of `leaves_from` has its columns.
_COLUMNS_FROM: Final = 6
_NAME: Final = "commitment"
_MOST_BYTES: Final = 16 * 2**20
_FROM: Final = "FROM audit_auditpayload"
_SESSION: Final = {
    vendor: f'{session}, salt, data, erased_at IS NULL, commitment, kind, "offset"'
    for vendor, session in {"sqlite": "session_id", "postgresql": "replace(session_id::text, '-', '')"}.items()
}
_KINDS: Final = frozenset(AuditPayload.Kind.values)
#: The kind and the offset that an event gives a payload; None for what it does not say.
_Place = tuple[str | None, int | None]
_ANYWHERE: Final[_Place] = (None, None)


def leaves_from(begin: int, *, at_a_time: int = CHUNK) -> Iterator[tuple[Any, ...]]:
    """Yield index, hash, event id, body, hash, signature and columns of the leaves from one on.

    What belongs to an event is None where that is gone.
    """
    sql = (
        f'SELECT "index", leaf.hash, event_id, body, event.hash, signature, {COLUMNS[connection.vendor]} '
        f"FROM audit_auditleaf AS leaf LEFT JOIN audit_auditevent AS event ON event.id = leaf.event_id "
        f'WHERE "index" >= %s ORDER BY "index" LIMIT {int(at_a_time)}'
    )
    while rows := driver.fetch_any(sql, [begin]):
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

    def __init__(self, keys: PublicKeys, found: Callable[[str, int], None]) -> None:
        self._keys = keys
        self._found = found
        self._retired, _problems = retired_size(keys)
        self._columns = ColumnCheck(is_sqlite=connection.vendor == "sqlite")
        self._committed: dict[str, dict[str, tuple[int, _Place]]] = {}
        # On disk once it grows: what was erased, and what events of erasures name.
        self._erased = sqlite3.connect("")
        self._erased.execute("CREATE TABLE gone (commitment TEXT PRIMARY KEY, leaf INTEGER) WITHOUT ROWID")
        self._erased.execute("CREATE TABLE named (commitment TEXT PRIMARY KEY) WITHOUT ROWID")

    def time(self, time_us: int) -> str | int:
        """Return a time as `verifying_columns.TIMES` reads it."""
        return self._columns.time(time_us)

    def check(self, row: tuple[Any, ...]) -> bytes | None:
        """Check a row of `leaves_from`. Returns the hash of the body, None where there is none."""
        index, body = row[0], row[3]
        if body is None:
            if index >= self._retired:
                self._found("a leaf's event is missing", index)
            return None
        try:
            digest = hashlib.sha256(body.encode())
        except (AttributeError, UnicodeEncodeError):
            self._found("an event's body cannot be read", index)
            return None
        if digest.hexdigest() != row[4]:
            self._found("an event's hash is not that of its body", index)
        try:
            if not self._columns.agrees(body, row[_COLUMNS_FROM:]):
                self._found("an event's columns are not what its body says", index)
            if "commitment" in body:
                self._commitments(body, index)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            self._found("an event's body cannot be read", index)
        return digest.digest()

    def finish(self) -> None:
        """Check what is left to check at the end."""
        self._look_up()
        for (index,) in self._erased.execute(_UNNAMED + " LIMIT 1").fetchall():
            # Events of erasures may stand behind the part of the log that was looked at, or wait to be sealed.
            self._name_by_signature()
            count, first = self._erased.execute(f"SELECT count(*), min(leaf) FROM ({_UNNAMED})").fetchone()
            if count:
                self._found(f"{count} payloads are erased and no event says so", first or index)
        self._erased.close()

    def _commitments(self, body: str, index: int) -> None:
        if '"tag":"erasure:done"' in body or '"tag":"retention:applied"' in body:
            said = json.loads(body)
            if said["tag"] in _REMOVALS:
                self._name(said["data"])
                return
        session = _session_of(body)
        if session is not None:
            known = self._committed.setdefault(session, {})
            for commitment, place in _commitments_in(body):
                if place != _ANYWHERE or commitment not in known:
                    known[commitment] = index, place
            if len(self._committed) >= 256:
                self._look_up()

    def _name(self, data: Mapping[str, Any]) -> None:
        names = [(name,) for name in data.get("commitments", [])]
        self._erased.executemany("INSERT OR IGNORE INTO named VALUES (?)", names)

    def _name_by_signature(self) -> None:
        known = KnownRoots(takes_unsigned=False)
        removals = AuditEvent.objects.filter(tag__in=_REMOVALS).values_list("hash", "body", "signature")
        for digest, body, signature in removals.iterator(CHUNK):
            if not event_refusal(digest, body, signature, self._keys, known):
                self._name(json.loads(body)["data"])

    def _look_up(self) -> None:
        wanted, self._committed = self._committed, {}
        for session, salt, data, is_there, commitment, kind, offset in _payloads_of(list(wanted)):
            known = wanted[session]
            made = hashlib.sha256(bytes(salt) + data).hexdigest() if is_there else commitment
            if made not in known or not _is_at(known[made][1], kind, offset):
                continue
            index, _place = known.pop(made)
            if not is_there:
                self._erased.execute("INSERT OR IGNORE INTO gone VALUES (?, ?)", (made, index))
        for known in wanted.values():
            for index in sorted(index for index, _place in known.values()):
                self._found("a payload is not what its event commits to, or is gone", index)


_UNNAMED: Final = "SELECT leaf FROM gone WHERE commitment NOT IN (SELECT commitment FROM named)"


def _is_at(place: _Place, kind: str, offset: int) -> bool:
    wanted_kind, wanted_offset = place
    return (wanted_kind is None or wanted_kind == kind) and (wanted_offset is None or wanted_offset == offset)


def _session_of(body: str) -> str | None:
    """Return a body's session without dashes; in a text that stands before it the quotes would be escaped."""
    _, _, rest = body.rpartition(',"session_id":')
    session = rest[1:37].replace("-", "")
    try:
        return session if rest.startswith('"') and len(bytes.fromhex(session)) == 16 else None
    except ValueError:
        # Somebody wrote into the body, which its hash has told already.
        return None


def _commitments_in(body: str) -> Iterator[tuple[str, _Place]]:
    """Yield every commitment in a canonical body, with what it says of the payload's place."""
    at = body.find(_NAME)
    while at >= 0:
        begin = at + len(_NAME)
        if body.startswith('":"', begin):
            end = body.index('"', begin + 3)
            yield body[begin + 3 : end], _place(body, at, end + 1)
        elif body.startswith('s":[', begin):
            end = body.index("]", begin)
            for commitment in body[begin + 4 : end].replace('"', "").split(","):
                if commitment:
                    yield commitment, _ANYWHERE
        at = body.find(_NAME, begin)


def _place(body: str, name: int, end: int) -> _Place:
    """Return the place of the commitment whose name is at one index, and which ends at another."""
    if body.startswith(',"offset":', end):
        offset, _, rest = body[end + 10 : end + 80].partition(',"stream":"')
        return rest.partition('"')[0], int(offset)
    kind = body[body.rfind('"', 0, name) + 1 : name - 1]
    return (kind, None) if kind in _KINDS else _ANYWHERE


def _payloads_of(sessions: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield session, salt, bytes, whether they are there, commitment, kind and offset of these sessions' payloads."""
    is_sqlite = connection.vendor == "sqlite"
    among = f"IN ({', '.join(['%s'] * len(sessions))})" if is_sqlite else "= ANY(%s::uuid[])"
    values = sessions if is_sqlite else [sessions]
    if not sessions:
        return
    ((total,),) = driver.fetch(f"SELECT coalesce(sum(length(data)), 0) {_FROM} WHERE session_id {among}", values)
    select = f"SELECT {_SESSION[connection.vendor]} {_FROM}"
    if total <= _MOST_BYTES:
        yield from driver.fetch_any(f"{select} WHERE session_id {among}", values)
        return
    # Much output: row by row, so that memory stays flat.
    for (number,) in driver.fetch(f"SELECT id {_FROM} WHERE session_id {among}", values):
        yield from driver.fetch_any(f"{select} WHERE id = %s", [number])
