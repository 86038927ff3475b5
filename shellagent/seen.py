"""What hosts have to do, as the server knows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count

from shellagent.models import ShellSession
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
    open_states = (Status.QUEUED, Status.CLAIMED, Status.RUNNING)
    # Grouped by host, not narrowed to some: narrowed, a database may read all that a host ever ran.
    rows = ShellSession.objects.filter(status__in=open_states).order_by().values_list("host_id", "status")
    found: dict[int, dict[str, int]] = {host_id: {} for host_id in host_ids}
    for host_id, status, count in rows.annotate(Count("pk")):
        if host_id in found:
            found[host_id][status] = count
    return {
        host_id: HostCounts(counts.get(Status.CLAIMED, 0) + counts.get(Status.RUNNING, 0), counts.get(Status.QUEUED, 0))
        for host_id, counts in found.items()
    }
