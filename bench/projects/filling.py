"""Very many sessions, by copying one in the database itself: through the services a million would take an hour."""

import os
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from django.db import connection

_FILL: Final = """
INSERT INTO shellagent_shellsession ({columns})
WITH RECURSIVE g(n) AS ({series})
SELECT {values} FROM shellagent_shellsession AS t, g WHERE t.id = %s
"""
#: `{moment}` is when session `n` began, in milliseconds.
_SQLITE: Final = {
    "series": "SELECT {low} UNION ALL SELECT n + 1 FROM g WHERE n < {high}",
    "id": "printf('%%012x7%%03x8%%015x', {moment}, n %% 8, n)",
    "created_at": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', ({moment}) / 1000.0, 'unixepoch')",
    "expires_at": "'2099-01-01 00:00:00'",
    "digest": "printf('%%064x', n)",
    "analyze": "ANALYZE",
}
_POSTGRES: Final = {
    "series": "SELECT n::bigint FROM generate_series({low}, {high}) AS n",
    "id": "(lpad(to_hex({moment}), 12, '0') || '7' || lpad(to_hex(n %% 8), 3, '0') || '8'"
    " || lpad(to_hex(n), 15, '0'))::uuid",
    "created_at": "to_timestamp(({moment}) / 1000.0)",
    "expires_at": "'2099-01-01 00:00:00+00:00'::timestamptz",
    "digest": "lpad(to_hex(n), 64, '0')",
    "analyze": "VACUUM ANALYZE",
}
_CHUNK: Final = 100_000


def fill(
    template: UUID, low: int, high: int, moment: str, differs: Callable[[Mapping[str, str]], dict[str, str]]
) -> None:
    """Add copies `low` to `high` of a session, and let the planner know.

    `moment` is SQL for when copy `n` began, in milliseconds. `differs` is given SQL of this database for some columns,
    and returns what the copies have in place of the template's values.
    """
    from shellagent.models import ShellSession  # noqa: PLC0415  (after Django's set-up)

    is_sqlite = connection.vendor == "sqlite"
    dialect = {name: text.replace("{moment}", moment) for name, text in (_SQLITE if is_sqlite else _POSTGRES).items()}
    own = {"id": dialect["id"], "expires_at": dialect["expires_at"], **differs(dialect)}
    columns = [field.column for field in ShellSession._meta.local_concrete_fields if field.column]
    with connection.cursor() as cursor:
        for begin in range(low, high + 1, _CHUNK):
            series = dialect["series"].format(low=begin, high=min(begin + _CHUNK - 1, high))
            statement = _FILL.format(
                columns=", ".join(f'"{column}"' for column in columns),
                series=series,
                values=", ".join(own.get(column, f't."{column}"') for column in columns),
            )
            cursor.execute(statement, [template.hex if is_sqlite else template])
        cursor.execute(dialect["analyze"])
        if is_sqlite:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    # The disk is still busy with a gigabyte then, and what comes after would wait for it.
    os.sync()
