"""Hosts, and which agent may use which: enrolled, started, stopped and linked by their services."""

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from audit.admin_lists import ShowOnlyAdmin, TypedAdmin
from audit.admin_text import visible
from governance.admin_agents import person, told
from governance.policy.types import Maturity
from governance.services import user_party
from shellagent import limits, local_process
from shellagent.models import AgentHost, Host
from shellagent.protocol import Desired
from shellagent.representation import host_is_online, missing_protections
from shellagent.seen import host_counts
from shellagent.services import (
    agent_host_delete,
    agent_host_set,
    enrolment_issue,
    host_set_audit_mode,
    host_set_desired,
    host_set_enabled,
)
from shellagent.services.keys_of_hosts import host_key_wish
from shellagent.states import AuditMode

#: The variable that `localagent enroll` reads; named here because the host's modules stay out of the web server.
CODE_VARIABLE: Final = "ATOM_ENROL_CODE"
#: As it is called in a checkout, with the Python of its virtual environment.
_MANAGE: Final = ".venv/bin/python manage.py"

if TYPE_CHECKING:
    _LinkForm = forms.ModelForm[AgentHost]
else:
    _LinkForm = forms.ModelForm


def liveness(host: Host) -> str:
    """Return a host's state in one word."""
    if not host.is_enabled:
        return "disabled"
    if not host.is_enrolled:
        return "waiting"
    if not host_is_online(host):
        return "offline"
    return "online" if host.desired_state == Desired.RUNNING else "stopped"


class EnrolForm(forms.Form):
    """The new host's name."""

    name = forms.RegexField(
        r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z",
        max_length=60,
        help_text="How you will call the machine: letters, digits, dots and dashes.",
        error_messages={"invalid": "Use letters, digits, dots and dashes."},
    )


@admin.register(Host)
class HostAdmin(ShowOnlyAdmin[Host]):
    """Machines and the local agents on them."""

    list_display = ["name", "state", "last_seen_at", "version", "protected_by", "spool"]
    list_filter = ["is_enabled", "desired_state"]
    search_fields = ["name"]
    show_facets = admin.ShowFacets.NEVER

    def may_view(self, request: HttpRequest) -> bool:
        user = request.user
        return bool(user.has_perm("shellagent.view_host") or user.has_perm("shellagent.control_host"))

    def get_urls(self) -> list[URLPattern]:
        def view(work: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
            return self.admin_site.admin_view(work)

        own = [
            path("enrol/", view(self.enrol_view), name="shellagent_host_enrol"),
            path("<int:host_id>/control/", view(require_POST(self.control_view)), name="shellagent_host_control"),
        ]
        return own + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "Hosts",
            "tool_url": reverse("admin:shellagent_host_enrol") if _may_control(request) else "",
            "tool_name": "Enrol a host",
            "empty_text": "No host yet, so no command can run. Enrol a machine to begin.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.may_view(request):
            raise PermissionDenied
        host = self.get_object(request, object_id)
        if host is None:
            return cast(HttpResponse, self._get_obj_does_not_exist_redirect(request, self.opts, object_id))  # type: ignore[attr-defined]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": host.name,
            "original": host,
            "host": host,
            "liveness": liveness(host),
            "counts": host_counts([host.pk])[host.pk],
            "missing": missing_protections(host),
            "facts": sorted(host.facts.items()),
            "links": host.agents.select_related("agent"),
            "may_control": _may_control(request),
        }
        return TemplateResponse(request, "admin/shellagent/host/page.html", context)

    @sensitive_variables()
    def enrol_view(self, request: HttpRequest) -> HttpResponse:
        """Issue a one-use code and show the command for the machine. The code is in this answer only."""
        if not _may_control(request):
            raise PermissionDenied
        form = EnrolForm(request.POST or None, initial={"name": request.GET.get("name", "")[:60]})
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Enrol a host",
            "form": form,
            "minutes": limits.ENROLMENT_SECONDS // 60,
        }
        if request.method == "POST" and form.is_valid():
            name = form.cleaned_data["name"]
            try:
                code = enrolment_issue(name=name, actor=user_party(person(request)))
            except ValidationError as error:
                messages.error(request, f"Not done. {' '.join(error.messages)}")
            else:
                url = shlex.quote(settings.ATOM_PUBLIC_URL)
                context |= {
                    "name": name,
                    "enrol_command": f"{CODE_VARIABLE}={code} {_MANAGE} localagent enroll --backend-url {url}",
                    "start_command": f"{_MANAGE} localagent start",
                    "host": Host.objects.get(name=name),
                }
        response = TemplateResponse(request, "admin/shellagent/host/enrol.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def control_view(self, request: HttpRequest, host_id: int) -> HttpResponse:
        """Start, stop, enable or disable it, or have it replace its key."""
        if not _may_control(request):
            raise PermissionDenied
        host, actor = get_object_or_404(Host, pk=host_id), user_party(person(request))
        wanted = request.POST.get("wanted", "")
        if wanted in ("start", "stop"):
            desired = Desired.RUNNING if wanted == "start" else Desired.STOPPED
            done = (
                f"Host {host.name} takes commands again."
                if wanted == "start"
                else f"Host {host.name} ends what it runs, and takes nothing more."
            )
            told(request, lambda: host_set_desired(host=host, desired=desired, actor=actor), done)
            if wanted == "start" and host.is_local and not host_is_online(host) and not local_process.spawn():
                messages.warning(request, "Its local agent could not be started from here; the server's log says why.")
        elif wanted in ("enable", "disable"):
            is_enabled = wanted == "enable"
            words = "enabled; its key works" if is_enabled else "disabled; its key opens nothing"
            told(
                request,
                lambda: host_set_enabled(host=host, is_enabled=is_enabled, actor=actor),
                f"Host {host.name} is {words}.",
            )
        elif wanted == "rotate-key":
            done = f"Host {host.name} replaces its key with its next poll."
            told(request, lambda: host_key_wish(host=host, actor=actor), done)
        elif wanted in list(AuditMode):
            mode = AuditMode(wanted)
            done = f"Host {host.name} is in {mode.value.replace('_', ' ')} now."
            told(request, lambda: host_set_audit_mode(host=host, mode=mode, actor=actor), done)
        else:
            messages.error(request, "Not done. A host is started, stopped, enabled or disabled, or replaces its key.")
        return HttpResponseRedirect(reverse("admin:shellagent_host_change", args=[host.pk]))

    @admin.display(description="state")
    def state(self, host: Host) -> SafeString:
        """Return the liveness as a badge."""
        return format_html('<span class="atom-badge atom-is-{0}">{0}</span>', liveness(host))

    @admin.display(description="protections")
    def protected_by(self, host: Host) -> SafeString | str:
        """Return what the host reports to confine commands."""
        if not host.protections:
            return "none reported"
        return format_html_join(
            " ", '<code class="atom-tag">{}</code>', ((visible(str(name)),) for name in host.protections)
        )


class AgentHostForm(_LinkForm):
    """A link. `as_default` stands for the model's field, because the service moves the default from another link."""

    as_default = forms.BooleanField(
        label="Default", required=False, help_text="Where the agent's commands run when it names no host."
    )

    class Meta:
        model = AgentHost
        fields = ["agent", "host", "working_directory", "maturity_cap"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["as_default"].initial = self.instance.is_default

    def clean_working_directory(self) -> str:
        folder: str = self.cleaned_data["working_directory"]
        if folder and not folder.startswith("/"):
            raise ValidationError("The working directory must be absolute, like /srv/project.")
        return folder


@admin.register(AgentHost)
class AgentHostAdmin(TypedAdmin[AgentHost]):
    """Which agent may use which host."""

    form = AgentHostForm
    list_display = ["agent", "host", "is_default", "working_directory", "maturity_cap"]
    list_filter = ["host", "agent"]
    list_select_related = ["agent", "host"]
    show_facets = admin.ShowFacets.NEVER

    def get_readonly_fields(self, request: HttpRequest, obj: AgentHost | None = None) -> list[str]:
        return ["agent", "host"] if obj else []

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "Which agent may use which host",
            "empty_text": "No agent may use a host yet, so nothing can run. Add a link.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def save_model(self, request: HttpRequest, obj: AgentHost, form: Any, change: bool) -> None:
        link = agent_host_set(
            agent=obj.agent,
            host=obj.host,
            actor=user_party(person(request)),
            is_default=form.cleaned_data["as_default"],
            working_directory=obj.working_directory,
            maturity_cap=Maturity(obj.maturity_cap) if obj.maturity_cap else None,
        )
        obj.pk = link.pk

    def delete_model(self, request: HttpRequest, obj: AgentHost) -> None:
        agent_host_delete(link=obj, actor=user_party(person(request)))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[AgentHost]) -> None:
        for link in queryset.select_related("agent", "host"):
            agent_host_delete(link=link, actor=user_party(person(request)))


def _may_control(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("shellagent.control_host"))
