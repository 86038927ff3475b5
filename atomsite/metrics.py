"""`/metrics`: figures for Prometheus.

They are read from the database at each scrape, so that every web process tells the same; but for what a process takes.
"""

import os
import secrets
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Any, Final

import psutil
from django.conf import settings
from django.db.models import Count, Max
from django.http import HttpResponse
from django.utils import timezone
from django_q.models import Failure
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from atomsite.health import oldest_seconds
from audit.models import AuditEvent, AuditLoss
from audit.negotiation import AsItIs
from audit.standing import standing
from audit.trail_health import TrailHealth, trail_health
from governance.authentication import bearer_key
from governance.models import KillSwitch
from governance.stops import stops_in_force
from shellagent import tasks
from shellagent.models import Host
from shellagent.representation import host_is_online
from shellagent.seen import host_counts, open_counts
from shellagent.states import Status

#: Events older than this are counted for good: none with a smaller id can still be committed.
SETTLED_SECONDS: Final = 60.0


class EventTally:
    """How many events of each kind the trail holds. What was counted once is not read again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settled: Tally[str] = Tally()
        self._settled_id = 0
        self._mark = (time.monotonic(), 0)

    def counts(self) -> Tally[str]:
        """Return the counts by tag."""
        with self._lock:
            fresh, last = self._between(None)
            found = self._settled + fresh
            marked_at, marked_id = self._mark
            if time.monotonic() - marked_at > SETTLED_SECONDS:
                if marked_id > self._settled_id:
                    self._settled += self._between(marked_id)[0]
                    self._settled_id = marked_id
                self._mark = (time.monotonic(), last)
        return found

    def _between(self, last_id: int | None) -> tuple[Tally[str], int]:
        events = AuditEvent.objects.filter(id__gt=self._settled_id)
        if last_id is not None:
            events = events.filter(id__lte=last_id)
        rows = list(events.order_by().values_list("tag").annotate(Count("id"), Max("id")))
        return Tally({tag: count for tag, count, _last in rows}), max((row[2] for row in rows), default=0)


class AtomCollector(Collector):
    """Everything that is told, read when it is asked for."""

    def __init__(self) -> None:
        self._tally = EventTally()

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._sessions()
        yield from self._hosts()
        yield from self._worker()
        yield from _trail()
        yield from _process()

    def _sessions(self) -> Iterator[Metric]:
        now = timezone.now()
        sessions = GaugeMetricFamily("atom_sessions", "Sessions that have not ended.", labels=["status"])
        for status, count in open_counts().items():
            sessions.add_metric([status], count)
        yield sessions
        oldest = GaugeMetricFamily(
            "atom_oldest_session_seconds", "For how long the oldest session waits.", labels=["status"], unit="seconds"
        )
        for status in (Status.PENDING, Status.QUEUED):
            oldest.add_metric([status.value], oldest_seconds(status, now) or 0)
        yield oldest
        events = CounterMetricFamily("atom_events", "Events in the audit trail.", labels=["tag"])
        for tag, count in sorted(self._tally.counts().items()):
            events.add_metric([tag], count)
        yield events
        stops = GaugeMetricFamily("atom_kill_switches", "Kill switches that are on.", labels=["scope"])
        for scope in KillSwitch.Scope.values:
            stops.add_metric([scope], sum(stop.scope == scope for stop in stops_in_force()))
        yield stops

    def _hosts(self) -> Iterator[Metric]:
        hosts = list(Host.objects.exclude(key_digest=None).order_by("name"))
        counts = host_counts([host.pk for host in hosts])
        up = GaugeMetricFamily("atom_host_up", "Whether the host was heard of within 30 seconds.", labels=["host"])
        seen = GaugeMetricFamily(
            "atom_host_last_seen_timestamp_seconds", "When the host was last heard of.", labels=["host"]
        )
        sessions = GaugeMetricFamily("atom_host_sessions", "Open sessions of a host.", labels=["host", "state"])
        spool = GaugeMetricFamily("atom_host_spool", "Results that wait on the host.", labels=["host"])
        skew = GaugeMetricFamily(
            "atom_host_clock_skew_seconds", "How far the host's clock is ahead.", labels=["host"], unit="seconds"
        )
        info = GaugeMetricFamily("atom_host_info", "What the host is.", labels=["host", "version", "boot_id"])
        for host in hosts:
            up.add_metric([host.name], host_is_online(host))
            if host.last_seen_at:
                seen.add_metric([host.name], host.last_seen_at.timestamp())
            sessions.add_metric([host.name, "running"], counts[host.pk].running)
            sessions.add_metric([host.name, "queued"], counts[host.pk].queued)
            spool.add_metric([host.name], host.spool)
            if host.clock_skew_ms is not None:
                skew.add_metric([host.name], host.clock_skew_ms / 1000)
            info.add_metric([host.name, host.version, host.boot_id], 1)
        yield from (up, seen, sessions, spool, skew, info)

    def _worker(self) -> Iterator[Metric]:
        is_well = tasks.worker_health(timezone.now()) == "ok"
        yield GaugeMetricFamily("atom_worker_up", "Whether scheduled work is done in time.", value=is_well)
        yield GaugeMetricFamily(
            "atom_worker_failed_tasks", "Tasks that failed, of those that are kept.", value=Failure.objects.count()
        )


def _trail() -> Iterator[Metric]:
    """Yield how the audit trail is."""
    health = trail_health(timezone.now())
    sound = GaugeMetricFamily("atom_trail_sound", "Whether the trail was found to be what was written, lately.")
    sound.add_metric([], health.is_sound is True)
    yield sound
    verified, pending = health.verdict.size if health.verdict else 0, health.oldest_pending_seconds or 0
    yield GaugeMetricFamily("atom_trail_verified_events", "Events that were verified.", value=verified)
    yield GaugeMetricFamily("atom_trail_sealed_events", "Events that have their place.", value=health.sealed_size)
    oldest = GaugeMetricFamily(
        "atom_trail_oldest_pending_seconds", "For how long the oldest event waits to be sealed.", unit="seconds"
    )
    oldest.add_metric([], pending)
    yield oldest
    yield GaugeMetricFamily("atom_trail_refused_events", "Waiting events that are not as signed.", value=health.refused)
    yield from _kept(health)


def _kept(health: TrailHealth) -> Iterator[Metric]:
    """Yield whether the trail can be kept, which is what the answering web process knows, and how each sink does."""
    yield GaugeMetricFamily("atom_trail_kept", "Whether the audit trail can be kept.", value=not standing.failure)
    yield GaugeMetricFamily("atom_trail_lost", "Lost events that are not told of yet.", value=AuditLoss.objects.count())
    published = GaugeMetricFamily(
        "atom_trail_anchor_seconds", "How long ago a sink got a checkpoint.", labels=["sink"], unit="seconds"
    )
    behind = GaugeMetricFamily("atom_trail_anchor_behind", "Checkpoints that a sink lacks.", labels=["sink"])
    failing = GaugeMetricFamily(
        "atom_trail_anchor_failing_seconds", "For how long a sink fails.", labels=["sink"], unit="seconds"
    )
    for sink in health.sinks:
        if sink.published_seconds is not None:
            published.add_metric([sink.name], sink.published_seconds)
        behind.add_metric([sink.name], sink.behind)
        failing.add_metric([sink.name], sink.failing_seconds or 0)
    yield from (published, behind, failing)


def _process() -> Iterator[Metric]:
    """Yield what the answering web process takes."""
    process = psutil.Process()
    with process.oneshot():
        memory, times, threads = process.memory_info(), process.cpu_times(), process.num_threads()
    pid = [str(os.getpid())]
    resident = GaugeMetricFamily(
        "atom_web_resident_bytes", "Memory of the web process that answers.", labels=["pid"], unit="bytes"
    )
    resident.add_metric(pid, memory.rss)
    processor = CounterMetricFamily(
        "atom_web_cpu_seconds", "Processor time of the web process that answers.", labels=["pid"], unit="seconds"
    )
    processor.add_metric(pid, times.user + times.system)
    running = GaugeMetricFamily("atom_web_threads", "Threads of the web process that answers.", labels=["pid"])
    running.add_metric(pid, threads)
    yield from (resident, processor, running)


class Scraper:
    """Who showed the metrics' own token. Stands in `request.user`."""

    is_authenticated = True
    is_active = True
    pk = "metrics"

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Return whether it is the one permission that the token is for."""
        return perm == MetricsView.permission


class MetricsTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer` with what `ATOM_METRICS_TOKEN` holds."""

    def authenticate(self, request: Request) -> tuple[Any, str] | None:
        key = bearer_key(request)
        if key is None:
            return None
        wanted = settings.ATOM_METRICS_TOKEN
        if not wanted or not secrets.compare_digest(key.encode(), wanted.encode()):
            raise AuthenticationFailed("This is not the token of the metrics.")
        return Scraper(), "metrics"

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="atom-metrics"'


class _MaySeeHosts(BasePermission):
    """The token, or a person who sees every host."""

    message = "The metrics are for people who see every host (`shellagent.view_host`), and for their own token."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user and request.user.has_perm(MetricsView.permission))


@extend_schema(exclude=True)
class MetricsView(APIView):
    """The figures, as text or as OpenMetrics by what the caller accepts."""

    permission = "shellagent.view_host"
    authentication_classes = [MetricsTokenAuthentication, SessionAuthentication]
    permission_classes = [_MaySeeHosts]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AsItIs

    def get(self, request: Request) -> HttpResponse:
        encode, content_type = choose_encoder(request.META.get("HTTP_ACCEPT", ""))
        return HttpResponse(encode(_REGISTRY), content_type=content_type, headers={"Cache-Control": "no-store"})


_REGISTRY: Final = CollectorRegistry()
_REGISTRY.register(AtomCollector())
