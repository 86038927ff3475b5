"""The admin site: Django's own, with this product's name, order and first page."""

from functools import partial
from typing import Any, Final

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

#: The sections in the order of how often they are needed, and what they are called here.
SECTIONS: Final = {
    "shellagent": "Commands and hosts",
    "governance": "Agents and rules",
    "notifying": "Notifications",
    "audit": "Audit trail",
    "auth": "People",
    "axes": "Logins",
}
_INDEX_ROWS: Final = 20


class AtomAdminSite(admin.AdminSite):
    """The product's site."""

    site_header = "Atom Local Agent"
    site_title = "Atom Local Agent"
    index_title = "Now"
    index_template = "admin/now.html"
    site_url = None

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the sections that this person may see, in the product's order and words."""
        apps = super().get_app_list(request, app_label)
        order = list(SECTIONS)
        for app in apps:
            app["name"] = SECTIONS.get(app["app_label"], app["name"])
        return sorted(apps, key=lambda app: order.index(app["app_label"]) if app["app_label"] in order else len(order))

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return what every page knows; what is stopped is said on each that somebody who is logged in sees."""
        from audit.standing import standing  # noqa: PLC0415 - models, which are there only by now
        from governance.stops import stops_in_force  # noqa: PLC0415
        from shellagent.services import hosts_in_best_effort  # noqa: PLC0415

        context = super().each_context(request)
        if self.has_permission(request):
            context["stops"] = stops_in_force()
            context["trail_failure"], context["best_effort"] = standing.failure, list(hosts_in_best_effort().values())
            context["may_stop"] = request.user.has_perm("shellagent.control_host")
            context["waiting_count"] = partial(_waiting_count, request)
        return context

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Change one's own password, in one transaction with the event that says so."""
        with transaction.atomic():
            return super().password_change(request, extra_context)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show what waits, what runs and which hosts are alive, each to whom may see it."""
        user = request.user
        if not isinstance(user, User):
            raise PermissionDenied
        return super().index(request, {**_now(request, user), **(extra_context or {})})


def _waiting_count(request: HttpRequest) -> int | None:
    """Return how many wait, to who may see it. Called by the one template that shows it."""
    from shellagent.admin_access import may_view_sessions  # noqa: PLC0415
    from shellagent.pending import pending_count  # noqa: PLC0415

    return pending_count() if may_view_sessions(request) else None


def _now(request: HttpRequest, user: User) -> dict[str, Any]:
    # Models can be imported only once the site stands.
    from audit.trail_health import trail_health  # noqa: PLC0415
    from governance.models import Agent  # noqa: PLC0415
    from shellagent.admin_access import may_view_sessions  # noqa: PLC0415
    from shellagent.admin_hosts import liveness  # noqa: PLC0415
    from shellagent.admin_plans import plan_line, requests_of  # noqa: PLC0415
    from shellagent.admin_queue import INDEX_ROWS, queue_context  # noqa: PLC0415
    from shellagent.models import Host, ShellSession  # noqa: PLC0415
    from shellagent.queries import rows_in  # noqa: PLC0415
    from shellagent.services import sessions_expire  # noqa: PLC0415
    from shellagent.states import Status  # noqa: PLC0415

    may = {
        "sessions": may_view_sessions(request),
        "hosts": user.has_perm("shellagent.view_host") or user.has_perm("shellagent.control_host"),
        "control": user.has_perm("shellagent.control_host"),
        "add_agent": user.has_perm("governance.add_agent"),
        "trail": user.has_perm("audit.view_audit"),
    }
    shown: dict[str, Any] = {"may": may}
    if may["sessions"]:
        sessions_expire()
        every = ShellSession.objects.select_related("agent", "host")
        going = [Status.RUNNING, Status.CLAIMED, Status.QUEUED]
        newest = sorted(rows_in(going, "pk", "status"), reverse=True)
        ids = [pk for wanted in going for pk in [pk for pk, status in newest if status == wanted][:_INDEX_ROWS]]
        read = every.in_bulk(ids)
        active = [read[pk] for pk in ids if pk in read]
        ended = list(every.exclude(status__in=[Status.PENDING, *going]).order_by("-id")[:6])
        requests = requests_of([*active, *ended])

        def rows(sessions: list[ShellSession]) -> list[tuple[ShellSession, Any]]:
            known = [(session, requests.get(session.pk)) for session in sessions]
            return [(session, plan_line(request.plan) if request else "") for session, request in known]

        shown |= {
            **queue_context(request, "index", INDEX_ROWS),
            "active": rows(active),
            "ended": rows(ended),
            "sessions_url": reverse("admin:shellagent_shellsession_changelist"),
        }
    if may["hosts"]:
        shown["hosts"] = [(host, liveness(host)) for host in Host.objects.order_by("name")[:50]]
    if may["trail"]:
        shown["trail"] = trail_health(timezone.now())
    shown["has_agents"] = Agent.objects.exists()
    shown["has_hosts"] = Host.objects.exists()
    return shown
