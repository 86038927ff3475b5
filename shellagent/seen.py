"""What hosts have to do, as the server knows it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count

from shellagent.models import ShellSession
from shellagent.queries import rows_in
from shellagent.states import Status


@dataclass(frozen=True, slots=True)
class HostCounts:
    """Sessions of one host: claimed or running, and waiting for it."""

    running: int = 0
    queued: int = 0


def open_counts() -> dict[str, int]:
    """Return how many sessions are in each state that has not ended."""
    states = (Status.PENDING, Status.QUEUED, Status.CLAIMED, Status.RUNNING)
    rows = ShellSession.objects.filter(status__in=states).order_by().values_list("status")
    counts = dict(rows.annotate(Count("pk")))
    return {status.value: counts.get(status.value, 0) for status in states}


def host_counts(host_ids: Sequence[int]) -> dict[int, HostCounts]:
    """Return the counts of these hosts, in one query."""
    found = Counter(rows_in((Status.QUEUED, Status.CLAIMED, Status.RUNNING), "host_id", "status"))
    return {
        host_id: HostCounts(
            found[host_id, Status.CLAIMED] + found[host_id, Status.RUNNING], found[host_id, Status.QUEUED]
        )
        for host_id in host_ids
    }
