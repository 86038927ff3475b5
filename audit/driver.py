"""Statements on the database driver's own cursor: Django's wrappers around one cost several times what it does.

The connection, its transaction and its errors stay Django's. Where somebody listens to the statements, as a test that
counts them does, they go through the wrappers. Values have to be what the driver takes (`audit.statements.preparer`).

`once` keeps what was read until the end of a block, for reads that several parts of one transaction need. `if_undone`
has something outside of the database taken back together with that transaction.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

Value = TypeVar("Value")
#: As many rows go into one statement on PostgreSQL at most.
MOST_ROWS: Final = 32
#: So many go into one statement however many they are.
FEW_ROWS: Final = 8
_together = threading.local()


class MissedError(RuntimeError):
    """An update touched fewer rows than it was to."""

    def __init__(self) -> None:
        super().__init__("a row that was read under a lock was changed by somebody else")


def database_now() -> BaseDatabaseWrapper:
    """Return this thread's connection. Ask once for many uses: `django.db.connection` looks it up for each."""
    return connections[DEFAULT_DB_ALIAS]


def fetch(sql: str, values: Sequence[Any], database: BaseDatabaseWrapper | None = None) -> list[tuple[Any, ...]]:
    """Run a statement that returns rows. Raises the database's errors as Django's."""
    database = database or database_now()
    if _is_heard(database):
        with database.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall())
    raw = _raw(database)
    with database.wrap_database_errors:
        if database.vendor == "postgresql" and not raw.autocommit and not raw.pgconn.transaction_status:
            # The BEGIN that comes first travels with it.
            with raw.pipeline():
                cursor = raw.execute(sql, values)
        else:
            cursor = raw.execute(_spelled(sql, database.vendor), values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def fetch_any(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Fetch rows that somebody may have damaged: what is not UTF-8, which SQLite keeps, comes with surrogates in it."""
    try:
        return fetch(sql, values)
    except OperationalError as error:
        database = database_now()
        if database.vendor != "sqlite" or "UTF-8" not in str(error):
            raise
    raw = _raw(database)
    raw.text_factory = lambda value: value.decode(errors="surrogateescape")
    try:
        return fetch(sql, values)
    finally:
        raw.text_factory = str


def run_many(sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run a statement for each of these values. Returns how many rows it touched. Raises as `fetch` does."""
    database = database_now()
    if _is_heard(database):
        with database.cursor() as cursor:
            cursor.executemany(sql, rows)
            return int(cursor.rowcount)
    raw = _raw(database)
    with database.wrap_database_errors:
        raw_cursor = raw.cursor()
        if len(rows) == 1:
            raw_cursor.execute(_spelled(sql, database.vendor), rows[0])
        else:
            raw_cursor.executemany(_spelled(sql, database.vendor), rows)
        return int(raw_cursor.rowcount)


def insert_many(into: str, rows: Sequence[Sequence[Any]], ending: str = "") -> None:
    """Insert rows: `into` and `ending` are what stands before and after VALUES. Raises as `fetch` does."""
    database = database_now()
    width = len(rows[0])
    if database.vendor != "postgresql" or _is_heard(database):
        # One statement for any number of rows: every length of its own would be another one that SQLite keeps prepared.
        run_many(f"{into} VALUES ({', '.join(['%s'] * width)}){ending}", rows)
        return
    raw = _raw(database)
    with database.wrap_database_errors:
        cursor = _numbered_cursor()(raw)
        for part in _parts(rows):
            cursor.execute(_with_places(into, width, len(part), ending), [value for row in part for value in row])


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """An UPDATE of single rows: in each, `places` (column and type) are found and `columns` are set.

    `always` is what is set beside them, the same for every row.
    """

    table: str
    always: str
    columns: tuple[tuple[str, str], ...]
    places: tuple[tuple[str, str], ...]

    def one(self) -> str:
        """Return the statement for one row: the values of `columns`, then those of `places`."""
        assigned = ", ".join([self.always, *(f"{name} = %s" for name, _type in self.columns)])
        where = " AND ".join(f"{name} = %s" for name, _type in self.places)
        return f"UPDATE {self.table} SET {assigned} WHERE {where}"  # noqa: S608 - columns of a model

    def many(self, size: int) -> str:
        """Return the statement for so many rows at once, as PostgreSQL has it."""
        types = [kind for _name, kind in (*self.columns, *self.places)]
        first = ", ".join(f"${at}::{kind}" for at, kind in enumerate(types, 1))
        others = (", ".join(f"${row * len(types) + at}" for at in range(1, len(types) + 1)) for row in range(1, size))
        values = ", ".join(f"({row})" for row in (first, *others))
        assigned = ", ".join([self.always, *(f"{name} = n{at}" for at, (name, _) in enumerate(self.columns))])
        where = " AND ".join(f"{name} = n{at}" for at, (name, _) in enumerate(self.places, len(self.columns)))
        names = ", ".join(f"n{at}" for at in range(len(types)))
        return f"UPDATE {self.table} SET {assigned} FROM (VALUES {values}) AS new({names}) WHERE {where}"  # noqa: S608


def update_each(update: RowUpdate, rows: Sequence[Sequence[Any]]) -> None:
    """Update these rows, each given by its values. Raises MissedError unless it touched as many, else as `fetch` does.

    In a block of `together` that is raised at its end.
    """
    database = database_now()
    if database.vendor != "postgresql" or _is_heard(database):
        if run_many(update.one(), rows) != len(rows):
            raise MissedError
        return
    cursors = []
    with database.wrap_database_errors, _traveling(_raw(database)) as raw:
        for part in _parts(rows):
            cursor = _numbered_cursor()(raw)
            cursor.execute(_update(update, len(part)), [value for row in part for value in row])
            cursors.append(cursor)

    def check() -> None:
        if sum(cursor.rowcount for cursor in cursors) != len(rows):
            raise MissedError

    if (checks := getattr(_together, "checks", None)) is not None:
        checks.append(check)
    else:
        check()


@contextmanager
def together() -> Iterator[None]:
    """Let the writes of this block travel together where the database is a server: one round trip for them all.

    Nothing in the block may look at what a write returned, or read. A block within another is part of it.
    """
    database = database_now()
    if database.vendor != "postgresql" or _is_heard(database) or getattr(_together, "checks", None) is not None:
        yield
        return
    checks: list[Callable[[], None]] = []
    _together.checks = checks
    try:
        with database.wrap_database_errors, _raw(database).pipeline():
            yield
    finally:
        _together.checks = None
    for check in checks:
        check()


@contextmanager
def _traveling(raw: Any) -> Iterator[Any]:
    """Give the connection, in a pipeline of this block's own unless it is in one already."""
    if getattr(_together, "checks", None) is not None:
        yield raw
    else:
        with raw.pipeline():
            yield raw


def _parts(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    """Part rows into few lengths, small ones and powers of two, so that each statement is soon a prepared one."""
    begin = 0
    while begin < len(rows):
        left = len(rows) - begin
        size = left if left <= FEW_ROWS else min(MOST_ROWS, 1 << (left.bit_length() - 1))
        yield rows[begin : begin + size]
        begin += size


@cache
def _update(update: RowUpdate, size: int) -> str:
    return update.many(size)


@cache
def _numbered_cursor() -> Any:
    """Return psycopg's cursor that takes a statement as it is, with `$1` for the first value."""
    from psycopg import RawCursor  # noqa: PLC0415 - on PostgreSQL only

    return RawCursor


@cache
def _with_places(into: str, width: int, size: int, ending: str) -> str:
    rows = (", ".join(f"${row * width + column + 1}" for column in range(width)) for row in range(size))
    return f"{into} VALUES {', '.join(f'({row})' for row in rows)}{ending}"


def _is_heard(database: BaseDatabaseWrapper) -> bool:
    return bool(database.execute_wrappers) or database.force_debug_cursor


def _raw(database: BaseDatabaseWrapper) -> Any:
    database.ensure_connection()
    database.validate_no_broken_transaction()
    return database.connection


@cache
def _spelled(sql: str, vendor: str) -> str:
    """Return a statement with the driver's own place holders."""
    return sql.replace("%s", "?").replace("%%", "%") if vendor == "sqlite" else sql


_kept = threading.local()


@contextmanager
def remembering() -> Iterator[None]:
    """Have `once` read each thing once in this block. For one transaction: what it reads is the same throughout."""
    before = getattr(_kept, "values", None), getattr(_kept, "undo", None)
    undo: list[Callable[[], object]] = []
    _kept.values, _kept.undo = {}, undo
    try:
        yield
    except BaseException:
        for do in reversed(undo):
            do()
        raise
    finally:
        _kept.values, _kept.undo = before


def if_undone(do: Callable[[], object]) -> None:
    """Have this done where a block of `remembering` fails, for what was noted outside of its transaction.

    Elsewhere nothing is: there each thing has a transaction of its own.
    """
    undo: list[Callable[[], object]] | None = getattr(_kept, "undo", None)
    if undo is not None:
        undo.append(do)


def once(key: Hashable, read: Callable[[], Value]) -> Value:
    """Return what `read` gives, or gave under this key before in a block of `remembering`."""
    values: dict[Hashable, Value] | None = getattr(_kept, "values", None)
    if values is None:
        return read()
    if key not in values:
        values[key] = read()
    return values[key]


def note(key: Hashable, value: object) -> None:
    """Keep what was just written, for `noted` in the same block of `remembering`."""
    values = getattr(_kept, "values", None)
    if values is not None:
        values[key] = value


def noted(key: Hashable) -> Any:
    """Return what was kept under this key in this block of `remembering`, or None."""
    values = getattr(_kept, "values", None)
    return None if values is None else values.get(key)
