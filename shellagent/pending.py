"""What waits for a person: one lean query, in the order in which it should be decided."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from django.utils import timezone

from governance.policy.types import Category
from shellagent.models import ShellSession
from shellagent.states import Status

#: More than this is not looked at; what comes behind is seen once something before it is decided.
LOOKED_AT_MAX: Final = 5_000
_SEVERITY: Final = {category.value: category.severity for category in Category}


class Pending(NamedTuple):
    """A session that waits, without what it asks for."""

    id: UUID
    event_seq: int
    category: str
    agent: str
    host: str
    digest: str
    expires_at: datetime


def sessions_pending() -> list[Pending]:
    """Return what waits and has not expired: the most severe category first, and of each the oldest."""
    rows = ShellSession.objects.filter(status=Status.PENDING, expires_at__gt=timezone.now()).order_by("id")
    names = ("id", "event_seq", "category", "agent_label", "host_label", "digest", "expires_at")
    found = [Pending(*row) for row in rows.values_list(*names)[:LOOKED_AT_MAX]]
    return sorted(found, key=lambda one: (-_SEVERITY.get(one.category, len(_SEVERITY)), one.id))


def pending_count() -> int:
    """Return how many wait and have not expired."""
    return ShellSession.objects.filter(status=Status.PENDING, expires_at__gt=timezone.now()).count()


def version_of(pending: Iterable[Pending]) -> str:
    """Return what differs whenever a session came, went or changed."""
    told = hashlib.sha256()
    for one in pending:
        told.update(one.id.bytes + one.event_seq.to_bytes(4, "big"))
    return told.hexdigest()[:32]


def counts_by(pending: Sequence[Pending], name: str) -> list[tuple[str, int]]:
    """Return how many wait by category, agent or host, in the order of their first one."""
    counts: dict[str, int] = {}
    for one in pending:
        value = str(getattr(one, name))
        counts[value] = counts.get(value, 0) + 1
    return list(counts.items())
