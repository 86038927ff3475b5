"""SQL that is compiled once. Building a statement costs the ORM several times what running it costs the database.

`insert` writes rows of one model; `Prepared` runs a query that the ORM wrote, again and again with other values. Both
keep the ORM's own conversions, so that a value looks the same whichever way it was read or written.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connection, models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit import driver

Value = TypeVar("Value")
_PLAIN: frozenset[type] = frozenset({str, int, bool, bytes, type(None)})
_Converters = list[tuple[int, list[Any], Any]]
_Built = tuple[str, list[Any], list[tuple[int, int]], _Converters]


def insert(rows: Sequence[models.Model]) -> None:
    """Insert rows of one model. Their automatic primary keys are left unset. Raises the database's own errors."""
    if not rows:
        return
    model = type(rows[0])
    names = _own_names(model)
    insert_values(model, names, [[getattr(row, name) for name in names] for row in rows])
    for row in rows:
        row._state.adding = False
        row._state.db = DEFAULT_DB_ALIAS


def insert_values(
    model: type[models.Model],
    names: tuple[str, ...],
    rows: Sequence[Sequence[object]],
    *,
    ignore_known: bool = False,
) -> None:
    """Insert rows given as the values of these columns (attribute names), without making an instance of each.

    With `ignore_known` a row that breaks a unique constraint is passed over. Raises the database's own errors.
    """
    if not rows:
        return
    vendor = driver.database_now().vendor
    into, fields = _insertion(model, names, vendor)
    prepare = preparer(vendor)
    values = [
        [
            value if type(value) in as_they_are else prepare(field, value)
            for (field, as_they_are), value in zip(fields, row, strict=True)
        ]
        for row in rows
    ]
    driver.insert_many(into, values, " ON CONFLICT DO NOTHING" if ignore_known else "")


@cache
def _own_names(model: type[models.Model]) -> tuple[str, ...]:
    return tuple(str(field.attname) for field in model._meta.concrete_fields if not isinstance(field, models.AutoField))


@cache
def _insertion(
    model: type[models.Model], names: tuple[str, ...], vendor: str
) -> tuple[str, list[tuple["models.Field[Any, Any]", frozenset[type]]]]:
    """Return what stands before VALUES, and each column's field with the types that it takes as they are."""
    del vendor  # part of the cache's key: quoting is the database's
    by_name = {field.attname: field for field in model._meta.concrete_fields}
    fields = [by_name[name] for name in names]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    nothing: frozenset[type] = frozenset()
    kept = [(field, nothing if isinstance(field, models.JSONField) else _PLAIN) for field in fields]
    return f"INSERT INTO {quote(model._meta.db_table)} ({columns})", kept


def preparer(vendor: str) -> Callable[["models.Field[Any, Any]", object], Any]:
    """Return what turns a field's value into what this kind of database takes, as the ORM would."""
    adapt = _adapter(vendor)

    def prepare(field: "models.Field[Any, Any]", value: object) -> Any:
        kind = type(value)
        # The plain ones need nothing of the ORM, and are most.
        if kind in _PLAIN and not isinstance(field, models.JSONField):
            return value
        if kind is UUID or kind is datetime:
            return adapt(value)
        return field.get_db_prep_save(value, connection)

    return prepare


class Prepared:
    """A `values_list` query of the ORM, compiled at its first run for each database and padded length of its lists.

    `build` makes the query from arguments that stand for what comes later: int, str, UUID, datetime, or a list of
    UUIDs. `rows` runs it with values of the same kinds, in the same order.
    """

    def __init__(self, build: Callable[..., models.QuerySet[Any, Any]], *kinds: type) -> None:
        self.build = build
        self.kinds = kinds
        self._built: dict[tuple[Any, ...], _Built] = {}

    def rows(self, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows for these values."""
        if any(isinstance(value, list) and not value for value in values):
            return []
        database = driver.database_now()
        sql, params, converters = self._filled(values, database.vendor)
        found = driver.fetch(sql, params, database)
        return [_converted(row, converters, database) for row in found] if converters else found

    def plan(self, *values: Any) -> str:
        """Return how the database goes about these values, in its own words."""
        database = driver.database_now()
        sql, params, _converters = self._filled(values, database.vendor)
        explain = "EXPLAIN QUERY PLAN" if database.vendor == "sqlite" else "EXPLAIN"
        return "\n".join(str(row[-1]) for row in driver.fetch(f"{explain} {sql}", params, database))

    def _filled(self, values: Sequence[Any], vendor: str) -> tuple[str, list[Any], _Converters]:
        values = [padded(value) if isinstance(value, list) else value for value in values]
        lengths = tuple(len(value) if isinstance(value, list) else 0 for value in values)
        key = (vendor, *lengths)
        built = self._built.get(key)
        if built is None:
            built = self._built[key] = self._compile(lengths)
        sql, template, places, converters = built
        flat = list(itertools.chain.from_iterable(value if isinstance(value, list) else (value,) for value in values))
        params, adapt = list(template), _adapter(vendor)
        for position, index in places:
            params[position] = adapt(flat[index])
        return sql, params, converters

    def _compile(self, lengths: Sequence[int]) -> _Built:
        numbers = itertools.count(1)
        stand_ins = [
            [_stand_in(UUID, next(numbers)) for _ in range(length)] if kind is list else _stand_in(kind, next(numbers))
            for kind, length in zip(self.kinds, lengths, strict=True)
        ]
        compiler = self.build(*stand_ins).query.get_compiler(using=DEFAULT_DB_ALIAS)
        sql, params = compiler.as_sql()
        flat = list(itertools.chain.from_iterable(item if isinstance(item, list) else (item,) for item in stand_ins))
        adapted = [_adapter(connection.vendor)(item) for item in flat]
        places = [(position, adapted.index(param)) for position, param in enumerate(params) if param in adapted]
        if {index for _position, index in places} != set(range(len(flat))):
            raise ValueError("a value has no place in the query that was built")
        sql, kept = _with_constants(sql, params, {position for position, _index in places})
        places = [(kept.index(position), index) for position, index in places]
        converters = compiler.get_converters([column for column, _sql, _alias in compiler.select])
        values = [params[position] for position in kept]
        return sql, values, places, [(at, found, column) for at, (found, column) in converters.items()]


def _with_constants(sql: str, params: Sequence[Any], varying: Collection[int]) -> tuple[str, list[int]]:
    """Write the texts and numbers that never vary into the SQL. Returns it, and which parameters are left.

    Only then can a planner tell that a partial index holds what a query wants: SQLite read a host's whole history in
    its place, and PostgreSQL's generic plans cannot use one either.
    """
    parts = sql.split("%s")
    kept = [at for at, value in enumerate(params) if at in varying or type(value) not in (str, int)]
    values = ["%s" if at in kept else _literal(value) for at, value in enumerate(params)]
    return "".join(itertools.chain.from_iterable(zip(parts, [*values, ""], strict=True))), kept


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''").replace("%", "%%") + "'"


def padded(values: Sequence[Value]) -> list[Value]:
    """Return values for an IN list with the last one repeated up to a power of two, so that few statements differ."""
    return [*values, *[values[-1]] * ((1 << (len(values) - 1).bit_length()) - len(values))]


def _stand_in(kind: type, number: int) -> Any:
    """Return a value that nothing else in a query equals."""
    if kind is UUID:
        return UUID(int=(0xA70 << 64) + number)
    if kind is datetime:
        return datetime(1971, 2, 3, tzinfo=UTC) + timedelta(seconds=number)
    return kind(f"7310{number:04}")


@cache
def _adapter(vendor: str) -> Callable[[Any], Any]:
    """Return what a database's driver needs done to a value."""
    return _for_sqlite if vendor == "sqlite" else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _for_sqlite(value: Any) -> Any:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime):
        # Times are kept in UTC without saying so; for any other zone the backend does the sum.
        return (
            str(value.replace(tzinfo=None)) if value.tzinfo is UTC else connection.ops.adapt_datetimefield_value(value)
        )
    return value


def _converted(
    row: Sequence[Any], converters: Iterable[tuple[int, list[Any], Any]], database: BaseDatabaseWrapper
) -> tuple[Any, ...]:
    values = list(row)
    for at, found, column in converters:
        value = values[at]
        for convert in found:
            value = convert(value, column, database)
        values[at] = value
    return tuple(values)
