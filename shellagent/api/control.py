"""Status, and starting and stopping a host's local agent."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, Q
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.standing import standing
from audit.trail_health import trail_health
from governance.authentication import AgentCaller
from governance.errors import ForbiddenError, NotFoundError
from governance.services import user_party
from shellagent import local_process, tasks
from shellagent.api.access import person, visible_sessions
from shellagent.api.parsers import BoundedFormParser, BoundedJSONParser
from shellagent.api.serializers import ControlledHostSerializer, ControlSerializer, StatusSerializer
from shellagent.api.stopping import stops_json
from shellagent.models import Host
from shellagent.protections import missing
from shellagent.protocol import Desired
from shellagent.queries import rows_in
from shellagent.representation import Json, host_is_online
from shellagent.schema import problems
from shellagent.seen import HostCounts, host_counts
from shellagent.services import host_set_desired, sessions_expire
from shellagent.services.keys_of_hosts import host_key_wish
from shellagent.states import Status


def hosts_json(hosts: Iterable[Host]) -> list[Json]:
    """Return hosts as people see them: what each is, whether it is alive, and what runs and waits there."""
    found = list(hosts)
    counts = host_counts([host.pk for host in found])
    return [_host_json(host, counts[host.pk]) for host in found]


def _host_json(host: Host, counts: HostCounts) -> Json:
    is_online = host_is_online(host)
    return {
        "id": host.pk,
        "name": host.name,
        "enabled": host.is_enabled,
        "enrolled": host.is_enrolled,
        "online": is_online,
        "last_seen_at": host.last_seen_at.isoformat() if host.last_seen_at else None,
        "offline_since": host.last_seen_at.isoformat() if host.last_seen_at and not is_online else None,
        "desired_state": host.desired_state,
        "audit_mode": host.audit_mode,
        "version": host.version,
        "boot_id": host.boot_id,
        "clock_skew_ms": host.clock_skew_ms,
        "running": counts.running,
        "queued": counts.queued,
        "spool": host.spool,
        "protections": host.protections,
        "protections_missing": list(missing(host.protections)) if host.last_seen_at else None,
        "limits": host.facts.get("limits") or None,
        "another_instance_refused_at": host.instance_refused_at.isoformat() if host.instance_refused_at else None,
        "last_error": host.last_error or None,
        "last_error_at": host.last_error_at.isoformat() if host.last_error_at else None,
    }


_OPEN = (Status.PENDING, Status.QUEUED, Status.CLAIMED, Status.RUNNING)


class StatusView(APIView):
    """Whether commands can run: hosts, what waits, the worker and the database.

    An agent sees the hosts that it may use, and counts of its own sessions.
    """

    @extend_schema(operation_id="status", responses={200: StatusSerializer})
    def get(self, request: Request) -> Response:
        caller: Any = request.user
        hosts = Host.objects.order_by("name")
        if isinstance(caller, AgentCaller):
            hosts = hosts.filter(agents__agent_id=caller.agent_id)
        elif not person(request).has_perm("shellagent.view_host"):
            hosts = hosts.filter(agents__agent__owner=person(request)).distinct()
        sessions_expire()
        health = trail_health(timezone.now())
        return Response(
            {
                "hosts": hosts_json(hosts),
                "sessions": _open_counts(request),
                # It has just answered the queries above; where it cannot, the answer is 503 `unavailable`.
                "database": "ok",
                "worker": tasks.worker_health(timezone.now()),
                "audit": "failed" if standing.failure else health.state,
                # A sink's address may hold a secret in its path.
                "anchors": [asdict(sink) for sink in health.sinks] if caller.has_perm("audit.view_audit") else [],
                "kill_switch": stops_json(caller),
                "time": timezone.now().isoformat(),
            }
        )


def _open_counts(request: Request) -> Json:
    """Return how many of the caller's sessions are in each state that has not ended, without reading its history."""
    caller: Any = request.user
    if isinstance(caller, AgentCaller):
        counts = Counter(status for agent, status in rows_in(_OPEN, "agent_id", "status") if agent == caller.agent_id)
    else:
        mine = visible_sessions(request).filter(status__in=_OPEN).order_by()
        counts = Counter(dict(mine.values_list("status").annotate(Count("pk"))))
    return {status.value: counts[status.value] for status in _OPEN}


class ControlView(GenericAPIView[Any]):
    """Say what is wanted of a host's local agent; its next poll brings the word."""

    serializer_class = ControlSerializer
    parser_classes = [BoundedJSONParser, BoundedFormParser]
    desired = Desired.RUNNING

    def post(self, request: Request) -> Response:
        user, host = self.asked(request)
        host = host_set_desired(host=host, desired=self.desired, actor=user_party(user))
        (answer,) = hosts_json([host])
        if self.desired is Desired.RUNNING and host.is_local and not host_is_online(host):
            answer["spawned"] = local_process.spawn()
        return Response(answer)

    def asked(self, request: Request) -> tuple[User, Host]:
        """Return who asks, and for which host. Raises ForbiddenError, NotFoundError."""
        user = person(request)
        if not user.has_perm("shellagent.control_host"):
            raise ForbiddenError("You lack the permission to control hosts.")
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        wanted = serializer.validated_data["host"]
        host = Host.objects.filter(Q(name=wanted) | Q(pk=int(wanted) if wanted.isdecimal() else 0)).first()
        if host is None:
            raise NotFoundError(f"There is no host called {wanted!r}.", field="host")
        return user, host


class StartHostView(ControlView):
    """Start a host's local agent, or let it go on. On the server's own machine the process is started too."""

    desired = Desired.RUNNING

    @extend_schema(operation_id="host_resume", responses={200: ControlledHostSerializer})
    def post(self, request: Request) -> Response:
        return super().post(request)


class StopHostView(ControlView):
    """Let a host finish what it runs and claim nothing more. Its process goes on polling."""

    desired = Desired.STOPPED

    @extend_schema(operation_id="host_drain", responses={200: ControlledHostSerializer})
    def post(self, request: Request) -> Response:
        return super().post(request)


class RotateKeyView(ControlView):
    """Have a host's local agent replace its key, with its next poll. What runs goes on."""

    @extend_schema(operation_id="host_rotate_key", responses={200: ControlledHostSerializer, **problems(409)})
    def post(self, request: Request) -> Response:
        user, host = self.asked(request)
        (answer,) = hosts_json([host_key_wish(host=host, actor=user_party(user))])
        return Response(answer)
