"""Whether an event's columns are what its body says. Pure; made for a million events.

A body is canonical, so its head and its tail can be spelled from the columns and compared as text: no JSON is read.
What does not compare is read and compared value by value, so that only this says what is wrong.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring as _quoted
from typing import Any, Final

#: The columns in the order that `expected` has them in, as SQL for each database. A time is text on SQLite and
#: microseconds on PostgreSQL; a uid has no dashes.
TIMES: Final = {"sqlite": "CAST({} AS TEXT)", "postgresql": "(extract(epoch FROM {}) * 1000000)::bigint"}
_IDS: Final = {"sqlite": "{}", "postgresql": "replace({}::text, '-', '')"}
COLUMNS: Final = {
    vendor: f"agent_id, host_id, category, actor_type, actor_id, actor_label, {_IDS[vendor].format('uid')}, "
    f"{TIMES[vendor].format('occurred_at')}, {_IDS[vendor].format('session_id')}, subject_type, subject_id, "
    "subject_label, tag, outcome, session_seq"
    for vendor in ("sqlite", "postgresql")
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_KEPT: Final = 4096


class ColumnCheck:
    """Compares columns with bodies, and keeps the spelling of what comes again: who acts, what it is done to, times."""

    def __init__(self, *, is_sqlite: bool) -> None:
        self._is_sqlite = is_sqlite
        self._seconds: dict[int, str] = {}
        self._heads: dict[tuple[Any, ...], str] = {}
        self._subjects: dict[tuple[Any, ...], tuple[str, str]] = {}

    def agrees(self, body: str, columns: tuple[Any, ...]) -> bool:
        """Return whether the body says what the columns do. Raises what reading a damaged body raises."""
        return self._is_spelled(body, columns) or columns == self.expected(json.loads(body))

    def _is_spelled(self, body: str, columns: tuple[Any, ...]) -> bool:
        actor, (uid, time), subject, (tag, outcome, seq) = columns[:6], columns[6:8], columns[8:12], columns[12:]
        try:
            # "time_us":(16 digits),"uid":"(36)","v":1} ends every body of this century.
            digits, spelled = body[-68:-52], body[-44:-8]
            if spelled.replace("-", "") != uid or self.time(int(digits)) != time:
                return False
            head = self._heads.get(actor) or self._head(actor)
            session, party = self._subjects.get(subject) or self._subject(subject)
            tail = (
                f',"outcome":{_quoted(outcome)}{session}{"null" if seq is None else format(seq, "d")}{party}'
                f'{_quoted(tag)},"time_us":{digits},"uid":"{spelled}","v":1}}'
            )
        except (TypeError, ValueError, OverflowError):
            return False
        # No string can hold the tail's quotes without escaping them, so what ends with it ends in these fields.
        return body.startswith(head) and body.endswith(tail)

    def _head(self, columns: tuple[Any, ...]) -> str:
        agent, host, category, actor_type, actor_id, actor_label = columns
        if len(self._heads) > _MOST_KEPT:
            self._heads.clear()
        agent, host = ("null" if value is None else format(value, "d") for value in (agent, host))
        head = (
            f'{{"about":{{"agent":{agent},"category":{"null" if category is None else _quoted(category)},'
            f'"host":{host}}},"actor":{{"id":{_quoted(actor_id)},"label":{_quoted(actor_label)},'
            f'"type":{_quoted(actor_type)}}},'
        )
        self._heads[columns] = head
        return head

    def _subject(self, columns: tuple[Any, ...]) -> tuple[str, str]:
        session, subject_type, subject_id, subject_label = columns
        if len(self._subjects) > _MOST_KEPT:
            self._subjects.clear()
        name = "null"
        if session is not None:
            name = _quoted("-".join((session[:8], session[8:12], session[12:16], session[16:20], session[20:])))
        party = (
            f',"subject":{{"id":{_quoted(subject_id)},"label":{_quoted(subject_label)},'
            f'"type":{_quoted(subject_type)}}},"tag":'
        )
        self._subjects[columns] = f',"session_id":{name},"session_seq":', party
        return self._subjects[columns]

    def time(self, time_us: int) -> str | int:
        """Return a time as the database's column has it."""
        if not self._is_sqlite:
            return time_us
        second, rest = divmod(time_us, 1_000_000)
        known = self._seconds.get(second)
        if known is None:
            if len(self._seconds) > _MOST_KEPT:
                self._seconds.clear()
            known = self._seconds[second] = str((_EPOCH + timedelta(seconds=second)).replace(tzinfo=None))
        return f"{known}.{rest:06}" if rest else known

    def expected(self, said: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the columns that a body has."""
        actor, subject, about, session = said["actor"], said["subject"], said["about"], said["session_id"]
        return (
            about["agent"],
            about["host"],
            about["category"],
            actor["type"],
            actor["id"],
            actor["label"][:200],
            said["uid"].replace("-", ""),
            self.time(said["time_us"]),
            session.replace("-", "") if session else None,
            subject["type"],
            subject["id"],
            subject["label"][:200],
            said["tag"],
            said["outcome"],
            said["session_seq"],
        )
