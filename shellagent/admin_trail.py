"""The trail in the admin once more, with the filters that know of agents, hosts, categories and approvers."""

from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from audit.admin import AuditEventAdmin
from audit.admin_filters import ActorTypeFilter, OutcomeFilter, SubjectFilter, TagFilter, TimeFilter
from audit.exporting import Form
from audit.key_files import KeyFileError
from audit.models import AuditEvent
from audit.sealing import SealError
from audit.selecting import DECIDING
from governance.admin_agents import person
from governance.errors import ProblemError
from governance.models import Agent
from governance.policy.types import Category
from governance.services import user_party
from shellagent.downloads import download
from shellagent.exporting import EXPORT_PERMISSION, Export, export_make, export_selection
from shellagent.models import Approval, Host

#: A menu of more names than this helps nobody; the search finds `agent:7` as well.
_NAMES_MAX: Final = 200


class _NumberFilter(admin.SimpleListFilter):
    """A filter whose value is the id of a row."""

    def number(self) -> int | None:
        """Return the chosen id, or None where nothing or no number is chosen."""
        text = self.value() or ""
        return int(text) if text.isdecimal() and len(text) < 19 else None


class AgentFilter(_NumberFilter):
    """All that an agent is part of: what it asked for, what became of that, and what was done to it."""

    title = "agent"
    parameter_name = "agent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(pk), name) for pk, name in Agent.objects.order_by("name").values_list("pk", "name")[:_NAMES_MAX]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        number = self.number()
        return queryset if number is None else queryset.filter(agent_id=number)


class HostFilter(_NumberFilter):
    """All that a host is part of."""

    title = "host"
    parameter_name = "host"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(pk), name) for pk, name in Host.objects.order_by("name").values_list("pk", "name")[:_NAMES_MAX]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        number = self.number()
        return queryset if number is None else queryset.filter(host_id=number)


class ApproverFilter(_NumberFilter):
    """What a person decided on sessions, and what they were refused to decide."""

    title = "approver"
    parameter_name = "approver"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return approver_names()

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        number = self.number()
        if number is None:
            return queryset
        return queryset.filter(actor_type="user", actor_id=str(number), tag__in=DECIDING)


class EventCategoryFilter(admin.SimpleListFilter):
    """The category of the command that an event is about."""

    title = "category"
    parameter_name = "category"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(item.value, item.value) for item in Category]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset.filter(category=self.value()) if self.value() else queryset


class SessionApproverFilter(_NumberFilter):
    """The sessions that a person approved or rejected."""

    title = "approver"
    parameter_name = "approver"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return approver_names()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        number = self.number()
        if number is None:
            return queryset
        return queryset.filter(pk__in=Approval.objects.filter(approver_id=number).values("session_id"))


def approver_names() -> list[tuple[str, str]]:
    """Return who may be logged in at the admin, as values and names of a menu."""
    people = User.objects.filter(is_staff=True).order_by("username").values_list("pk", "username")
    return [(str(pk), name) for pk, name in people[:_NAMES_MAX]]


admin.site.unregister(AuditEvent)


@admin.register(AuditEvent)
class ReviewedEventAdmin(AuditEventAdmin):
    """Events, newest first."""

    list_filter = [
        *(TimeFilter, AgentFilter, HostFilter, ApproverFilter, EventCategoryFilter),
        *(OutcomeFilter, SubjectFilter, TagFilter, ActorTypeFilter),
    ]

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(require_safe(self.export_view))
        return [path("export/", export, name="audit_auditevent_export"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        forms = [Form.BUNDLE, Form.CSV, Form.OCSF] if request.user.has_perm(EXPORT_PERMISSION) else []
        return super().changelist_view(request, {"export_forms": forms, **(extra_context or {})})

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Hand over what the list's filters leave; what they cannot be is said on the list."""
        user = person(request)
        if not user.has_perm(EXPORT_PERMISSION):
            raise PermissionDenied
        asked = {name: str(value) for name, value in request.GET.items() if name not in ("format", "p")}
        form = request.GET.get("format", Form.BUNDLE)

        def make() -> Export:
            chosen = Form(form) if form in list(Form) else Form.BUNDLE
            selection = export_selection(asked)
            actor, now = user_party(user), timezone.now()
            return export_make(form=chosen, selection=selection, actor=actor, door="the admin", now=now)

        try:
            return download(make)
        except (ProblemError, KeyFileError, SealError) as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:audit_auditevent_changelist"))
