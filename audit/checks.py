"""System checks of the audit trail."""

from collections.abc import Sequence
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.utils import timezone

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
            found += _unsealed() if alias == DEFAULT_DB_ALIAS else []
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


_TABLES: Final = frozenset({triggers.PENDING, "audit_auditsink", "audit_auditverdict"})


def _unsealed() -> list[CheckMessage]:
    from audit.trail_health import trail_health  # noqa: PLC0415 - models, which are there only by now

    # While an upgrade has tables still to make, there is nothing to say yet; `migrate` itself asks here first.
    if not set(connections[DEFAULT_DB_ALIAS].introspection.table_names()) >= _TABLES:
        return []
    health = trail_health(timezone.now())
    if health.is_well:
        return []
    hint = "See the log of the servers and of the worker, and run `manage.py auditverify`."
    return [Error(f"The audit trail is not sealed as it should be: {health.text}.", hint=hint, id="audit.E003")]
