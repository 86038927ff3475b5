"""Every address of the product."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, URLResolver, path, register_converter
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from atomsite import client
from atomsite.health import healthz
from atomsite.problems import problem_index
from audit.api import EventListView, VerifyView
from governance.admin_codes import code_view
from governance.api import AgentListView
from shellagent.admin_card import card_now_view, card_view
from shellagent.admin_grants import grant_view, revoke_view
from shellagent.admin_queue import queue_now_view, queue_same_view, queue_view
from shellagent.api import agents, control, execute, export, host, sessions, stopping
from shellagent.links import SessionConverter

register_converter(SessionConverter, "session")


def home(request: HttpRequest) -> HttpResponse:
    """Send a person to where their work is."""
    return redirect("admin:index")


def metrics(request: HttpRequest) -> HttpResponseBase:
    """Answer a scraper."""
    # Most web processes are never asked, and the library takes eleven megabytes.
    from atomsite.metrics import MetricsView  # noqa: PLC0415

    return MetricsView.as_view()(request)


urlpatterns: list[URLPattern | URLResolver] = [
    path("", home),
    path("admin/", admin.site.urls),
    path("queue", admin.site.admin_view(queue_view), name="queue"),
    path("queue/now", admin.site.admin_view(queue_now_view), name="queue-now"),
    path("queue/same/<slug:digest>", admin.site.admin_view(queue_same_view), name="queue-same"),
    path("code", admin.site.admin_view(code_view), name="code"),
    path("s/<session:session_id>", admin.site.admin_view(card_view), name="card"),
    path("s/<session:session_id>/grant/<str:kind>", admin.site.admin_view(grant_view), name="grant"),
    path("grants/<int:rule_id>/revoke", admin.site.admin_view(revoke_view), name="grant-revoke"),
    path("s/<session:session_id>/now", admin.site.admin_view(card_now_view), name="card-now"),
    path("atom", client.client, name="client"),
    path("atom.sha256", client.digest, name="client-digest"),
    path("healthz", healthz, name="healthz"),
    path("metrics", metrics, name="metrics"),
    path("problems/", problem_index, name="problems"),
    path("problems/<slug:slug>", problem_index, name="problem"),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="api-docs"),
    path("api/local-agent/execute", execute.ExecuteView.as_view(), name="execute"),
    path("api/local-agent/approve", execute.ApproveView.as_view(), name="approve"),
    path("api/local-agent/status", control.StatusView.as_view(), name="status"),
    path("api/local-agent/start", control.StartHostView.as_view(), name="host-start"),
    path("api/local-agent/stop", control.StopHostView.as_view(), name="host-stop"),
    path("api/local-agent/sessions", sessions.SessionListView.as_view(), name="sessions"),
    path("api/local-agent/sessions/<uuid:session_id>", sessions.SessionView.as_view(), name="session"),
    path("api/local-agent/sessions/<uuid:session_id>/output", sessions.OutputView.as_view(), name="session-output"),
    path("api/local-agent/sessions/<uuid:session_id>/cancel", sessions.CancelView.as_view(), name="session-cancel"),
    path("api/local-agent/killswitch", stopping.KillSwitchView.as_view(), name="kill-switch"),
    path("api/agents", AgentListView.as_view(), name="agents"),
    path("api/agents/<int:agent_id>", agents.AgentView.as_view(), name="agent"),
    path("api/agents/<int:agent_id>/governance", execute.DryRunView.as_view(), name="governance"),
    path("api/local-agent/rotate-key", control.RotateKeyView.as_view(), name="host-rotate-key"),
    path("api/host/key", host.KeyView.as_view(), name="host-key"),
    path("api/host/poll", host.PollView.as_view(), name="host-poll"),
    path("api/host/status", host.HostStatusView.as_view(), name="host-status"),
    path("api/host/start", host.StartView.as_view(), name="host-grant"),
    path("api/host/enroll", host.EnrolView.as_view(), name="host-enrol"),
    path("api/host/sessions/<uuid:session_id>/output", host.HostOutputView.as_view(), name="host-output"),
    path("api/shell/log", host.RecordView.as_view(), name="host-record"),
    path("api/audit/events", EventListView.as_view(), name="audit-events"),
    path("api/audit/verify", VerifyView.as_view(), name="audit-verify"),
    path("api/audit/export", export.ExportView.as_view(), name="audit-export"),
]

handler404 = "atomsite.problems.not_found"
handler500 = "atomsite.problems.server_error"
