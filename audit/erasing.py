"""Taking stored bytes out of the trail's payloads. What stays: the row's place, its size and the commitment to it."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from django.db import connection
from django.db.models import QuerySet

from audit.models import AuditErasure, AuditPayload
from audit.statements import preparer

_Part = AuditErasure.Part
_Kind = AuditPayload.Kind
#: What each part takes out.
KINDS_OF: Final[Mapping[str, Sequence[AuditPayload.Kind]]] = {
    _Part.REQUEST: (_Kind.REQUEST, _Kind.DECISION, _Kind.SCRIPTS),
    _Part.OUTPUT: (_Kind.STDOUT, _Kind.STDERR),
    _Part.ALL: tuple(_Kind),
}


def payloads_erase(rows: QuerySet[AuditPayload], now: datetime) -> list[str]:
    """Erase these payloads in the caller's transaction, which also writes the event that names the commitments.

    Returns the commitments. The salt goes with the bytes: with it, short or guessable bytes could be found again.
    """
    fields = {field.attname: field for field in AuditPayload._meta.concrete_fields}
    prepare = preparer(connection.vendor)
    changes, commitments = [], []
    # Under a lock: of two that erase at once the second finds nothing left, and names nothing.
    left = rows.select_for_update().filter(erased_at=None).order_by("pk")
    for number, salt, data in left.values_list("pk", "salt", "data"):
        commitment = hashlib.sha256(bytes(salt) + bytes(data)).hexdigest()
        commitments.append(commitment)
        changes.append([prepare(fields["erased_at"], now), commitment, len(data), b"", b"", number])
    if changes:
        with connection.cursor() as cursor:
            cursor.executemany(
                f"UPDATE {AuditPayload._meta.db_table} SET erased_at = %s, commitment = %s, size = %s, "  # noqa: S608
                "salt = %s, data = %s WHERE id = %s",
                changes,
            )
    return commitments
