"""System checks of the audit trail."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DatabaseError, connections

from audit import triggers


@register(Tags.database)
def append_only_triggers(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Report each database whose audit table can be changed. Silent before the table is there."""
    found: list[CheckMessage] = []
    for alias in databases or []:
        connection = connections[alias]
        try:
            if triggers.TABLE not in connection.introspection.table_names():
                continue
            absent = triggers.missing(connection)
        except DatabaseError as error:
            found.append(Error(f"The audit trail's triggers could not be read: {error}", id="audit.E002"))
            continue
        if absent:
            found.append(
                Error(
                    f"The audit trail can be changed: {', '.join(absent)} missing or disabled.",
                    hint="Somebody removed them. Find out who, keep a copy of the database, and install them again "
                    "from audit/triggers.py.",
                    id="audit.E001",
                )
            )
    return found
