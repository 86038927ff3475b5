"""Statements on the database driver's own cursor: Django's wrappers around one cost several times what it does.

The connection, its transaction and its errors stay Django's. Where somebody listens to the statements, as a test that
counts them does, they go through the wrappers. Values have to be what the driver takes (`audit.statements.preparer`).

`once` keeps what was read until the end of a block, for reads that several parts of one transaction need.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

Value = TypeVar("Value")
#: As many rows go into one statement on PostgreSQL at most.
MOST_ROWS: Final = 32


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
        found: list[tuple[Any, ...]] = raw.execute(_spelled(sql, database.vendor), values).fetchall()
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
        begin = 0
        while begin < len(rows):
            # Lengths that are powers of two, so that few statements differ and each is soon a prepared one.
            size = min(MOST_ROWS, 1 << ((len(rows) - begin).bit_length() - 1))
            values = [value for row in rows[begin : begin + size] for value in row]
            cursor.execute(_with_places(into, width, size, ending), values)
            begin += size


@contextmanager
def together() -> Iterator[None]:
    """Let the writes of this block travel together where the database is a server: one round trip for them all.

    Nothing in the block may look at what a write returned, or read.
    """
    database = database_now()
    if database.vendor != "postgresql" or _is_heard(database):
        yield
        return
    raw = _raw(database)
    with database.wrap_database_errors, raw.pipeline():
        yield


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
    before = getattr(_kept, "values", None)
    _kept.values = {}
    try:
        yield
    finally:
        _kept.values = before


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
