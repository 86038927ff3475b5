"""`/healthz`: whether this server works, for a load balancer or a monitor. Unauthenticated, and says nothing else."""

import logging
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from shellagent import limits, tasks
from shellagent.models import ShellSession
from shellagent.states import Status

logger = logging.getLogger(__name__)

#: An answer serves for this long, so that anybody who asks often asks the database seldom.
KEPT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """`status` is ok; degraded where commands wait although nothing is broken here; or unavailable."""

    status: str
    database: str
    worker: str
    oldest_queued_seconds: int | None

    @property
    def is_serving(self) -> bool:
        """Return whether requests can be answered."""
        return self.status != "unavailable"


UNREACHABLE: Final = Health("unavailable", "unreachable", "unknown", None)
_lock = threading.Lock()
_kept: tuple[float, Health] | None = None


def health(now: datetime) -> Health:
    """Look at the database, and in it at the worker's schedules and at the queue."""
    try:
        worker = tasks.worker_health(now)
        oldest = oldest_seconds(Status.QUEUED, now)
    except (DatabaseError, InterfaceError) as error:
        logger.error("the database is not available: %s", error)
        return UNREACHABLE
    # What waits longer than a session may is what nobody expires.
    is_well = worker == "ok" and (oldest or 0) <= limits.QUEUED_SECONDS
    return Health("ok" if is_well else "degraded", "ok", worker, oldest)


def oldest_seconds(status: Status, now: datetime) -> int | None:
    """Return for how long the oldest session in this state waits, None where there is none."""
    oldest = ShellSession.objects.filter(status=status).order_by("id").values_list("created_at", flat=True).first()
    return None if oldest is None else max(0, int((now - oldest).total_seconds()))


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 while requests can be answered, else 503."""
    global _kept  # noqa: PLW0603 - one answer a process
    with _lock:
        if _kept is None or time.monotonic() - _kept[0] > KEPT_SECONDS:
            _kept = (time.monotonic(), health(timezone.now()))
        found = _kept[1]
    headers = {"Cache-Control": "no-store", **({} if found.is_serving else {"Retry-After": "5"})}
    return JsonResponse(asdict(found), status=200 if found.is_serving else 503, headers=headers)
