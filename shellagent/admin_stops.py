"""The kill switch in the admin: two buttons, and the list of when it was used."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from audit.admin_lists import ShowOnlyAdmin
from governance.admin_agents import person, told
from governance.models import Agent, KillSwitch
from governance.services import user_party
from shellagent.models import Host
from shellagent.services import killswitch_off, killswitch_on


@admin.register(KillSwitch)
class KillSwitchAdmin(ShowOnlyAdmin[KillSwitch]):
    """When somebody stopped everything, a host or an agent, why, and who lifted it."""

    list_display = ["scope", "subject", "switched_at", "switched_label", "reason", "lifted_at", "lifted_label"]
    list_filter = ["scope"]
    fields = ["scope", "subject", "reason", "switched_at", "switched_label"]
    fields += ["lifted_at", "lifted_label", "lifted_reason"]
    search_fields = ["subject", "reason"]
    show_facets = admin.ShowFacets.NEVER

    def may_view(self, request: HttpRequest) -> bool:
        user = request.user
        return bool(user.has_perm("governance.view_killswitch") or user.has_perm("shellagent.control_host"))

    def get_urls(self) -> list[URLPattern]:
        def view(work: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
            return self.admin_site.admin_view(require_POST(work))

        own = [
            path("switch/", view(self.switch_view), name="governance_killswitch_switch"),
            path("<int:switch_id>/lift/", view(self.lift_view), name="governance_killswitch_lift"),
        ]
        return own + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"title": "Kill switches", "empty_text": "Nobody ever used it.", **(extra_context or {})}
        return super().changelist_view(request, context)

    def switch_view(self, request: HttpRequest) -> HttpResponse:
        """Stop what the form names; with no name, everything."""
        host = _named(Host, request, "host")
        agent = _named(Agent, request, "agent")
        self._switch(request, killswitch_on, host, agent, done=f"Stopped: {host or agent or 'everything'}.")
        if host:
            return HttpResponseRedirect(reverse("admin:shellagent_host_change", args=[host.pk]))
        if agent:
            return HttpResponseRedirect(reverse("admin:governance_agent_change", args=[agent.pk]))
        return HttpResponseRedirect(reverse("admin:index"))

    def lift_view(self, request: HttpRequest, switch_id: int) -> HttpResponse:
        """Lift a switch."""
        row = get_object_or_404(KillSwitch, pk=switch_id)
        host = get_object_or_404(Host, name=row.subject) if row.scope == KillSwitch.Scope.HOST else None
        agent = get_object_or_404(Agent, name=row.subject) if row.scope == KillSwitch.Scope.AGENT else None
        done = f"Lifted: {host or agent or 'everything'} may go on. What was cancelled stays cancelled."
        self._switch(request, killswitch_off, host, agent, done=done)
        return HttpResponseRedirect(reverse("admin:index"))

    def _switch(self, request: HttpRequest, switch: Any, host: Host | None, agent: Agent | None, *, done: str) -> None:
        user = person(request)
        if not user.has_perm("shellagent.control_host"):
            raise PermissionDenied
        reason = request.POST.get("reason", "")[:2000]
        told(
            request,
            lambda: switch(reason=reason, actor=user_party(user), user=user, host=host, agent=agent),
            done,
        )


def _named(model: Any, request: HttpRequest, name: str) -> Any:
    number = request.POST.get(name, "")
    if not number:
        return None
    return get_object_or_404(model, pk=int(number) if number.isdecimal() and len(number) < 19 else 0)
