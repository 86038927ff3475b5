"""Agents and their keys: each change through its service, with its reason and its event."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from audit.admin_lists import ShowOnlyAdmin
from governance.errors import ProblemError
from governance.models import Agent, AgentKey
from governance.policy.types import Maturity
from governance.services import agent_create, agent_set_maturity, agent_set_suspended, key_issue, key_revoke, user_party

#: What the shipped matrix makes of each level, in a few words.
MEANING: Final = {
    Maturity.STUDENT: "a person approves what it may do; devops and delete are denied",
    Maturity.INTERN: "a person approves what it may do",
    Maturity.SUPERVISED: "reads in its folders without asking, and asks for the rest",
    Maturity.AUTONOMOUS: "runs without asking, except what is unknown or blocked",
}

if TYPE_CHECKING:
    _AgentForm = forms.ModelForm[Agent]
else:
    _AgentForm = forms.ModelForm


class AgentAddForm(_AgentForm):
    """A new agent. It starts as a STUDENT; maturity is earned, and changed with a reason."""

    class Meta:
        model = Agent
        fields = ["name", "owner"]


class MaturityForm(forms.Form):
    """Another maturity, and why."""

    maturity = forms.ChoiceField(
        choices=[(level.value, f"{level}: {MEANING[level]}") for level in Maturity],
        widget=forms.RadioSelect,
    )
    reason = forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="What the agent did to earn or to lose it. Kept in the audit trail.",
    )


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(max_length=2000)


class KeyForm(forms.Form):
    """A new key's label and how long it lasts."""

    label = forms.CharField(max_length=80, required=False, help_text="Where it is used, so that you know it later.")
    days = forms.TypedChoiceField(
        label="Valid for",
        choices=[("", "until it is revoked"), ("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "a year")],
        coerce=int,
        empty_value=None,
        required=False,
    )


#: What the apps above add to an agent's page: each returns values for its template.
_parts: list[Callable[[HttpRequest, Agent], dict[str, Any]]] = []


def page_part(part: Callable[[HttpRequest, Agent], dict[str, Any]]) -> None:
    """Have an agent's page know these values too."""
    if part not in _parts:
        _parts.append(part)


def person(request: HttpRequest) -> User:
    """Return who is logged in. Raises PermissionDenied where nobody is."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def told(request: HttpRequest, work: Callable[[], object], done: str = "") -> bool:
    """Do it and say `done`; where it is refused, say why and what stands. Returns whether it was done."""
    try:
        work()
    except ProblemError as error:
        messages.error(request, f"Not done. {error.detail}")
        return False
    except ValidationError as error:
        messages.error(request, f"Not done. {' '.join(error.messages)}")
        return False
    if done:
        messages.success(request, done)
    return True


@admin.register(Agent)
class AgentAdmin(ShowOnlyAdmin[Agent]):
    """Agents: added here, then changed by their own buttons only."""

    list_display = ["name", "maturity_badge", "state", "owner", "created_at"]
    list_filter = ["maturity", "is_suspended"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__username"]
    show_facets = admin.ShowFacets.NEVER
    form = AgentAddForm
    actions = ["change_maturity"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("governance.add_agent"))

    def may_view(self, request: HttpRequest) -> bool:
        user = request.user
        wanted = ("view_agent", "change_agent", "add_agent", "change_maturity")
        return any(user.has_perm(f"governance.{name}") for name in wanted)

    def has_change_maturity_permission(self, request: HttpRequest) -> bool:
        """Return whether this person sees the action."""
        return bool(request.user.has_perm("governance.change_maturity"))

    def get_urls(self) -> list[URLPattern]:
        def view(work: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
            return self.admin_site.admin_view(work)

        own = [
            path("maturity/", view(self.maturity_view), name="governance_agent_maturity"),
            path("<int:agent_id>/suspend/", view(require_POST(self.suspend_view)), name="governance_agent_suspend"),
            path("<int:agent_id>/keys/", view(require_POST(self.key_issue_view)), name="governance_agent_key_issue"),
            path(
                "<int:agent_id>/keys/<int:key_id>/revoke/",
                view(require_POST(self.key_revoke_view)),
                name="governance_agent_key_revoke",
            ),
        ]
        return own + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "Agents",
            "empty_text": "No agent yet. Add one, then issue it a key and let it use a host.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def save_model(self, request: HttpRequest, obj: Agent, form: Any, change: bool) -> None:
        made = agent_create(name=obj.name, owner=obj.owner, actor=user_party(person(request)))
        obj.pk = made.pk
        obj._state.adding = False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.may_view(request):
            raise PermissionDenied
        agent = self.get_object(request, object_id)
        if agent is None:
            return cast(HttpResponse, self._get_obj_does_not_exist_redirect(request, self.opts, object_id))  # type: ignore[attr-defined]
        return self.page(request, agent)

    def page(self, request: HttpRequest, agent: Agent, **extra: object) -> HttpResponse:
        """Return an agent's page; `new_key` in `extra` is shown on it this once."""
        user, now = person(request), timezone.now()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": agent.name,
            "original": agent,
            "agent": agent,
            "meaning": MEANING[Maturity(agent.maturity)],
            "keys": [(key, _key_state(key, now)) for key in agent.keys.all()],
            "key_form": KeyForm(),
            "may_change": user.has_perm("governance.change_agent"),
            "may_change_maturity": self.has_change_maturity_permission(request),
            **{name: value for part in _parts for name, value in part(request, agent).items()},
            **extra,
        }
        response = TemplateResponse(request, "admin/governance/agent/page.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description="Change the maturity of the chosen agents", permissions=["change_maturity"])
    def change_maturity(self, request: HttpRequest, queryset: QuerySet[Agent]) -> HttpResponse:
        """Ask for the new maturity and the reason on a page of its own."""
        chosen = "&".join(f"agent={pk}" for pk in queryset.values_list("pk", flat=True))
        return HttpResponseRedirect(f"{reverse('admin:governance_agent_maturity')}?{chosen}")

    def maturity_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for a maturity and a reason, and change every chosen agent's."""
        if not self.has_change_maturity_permission(request):
            raise PermissionDenied
        numbers = [text for text in request.GET.getlist("agent") if text.isdecimal() and len(text) < 19]
        agents = list(Agent.objects.filter(pk__in=numbers))
        if not agents:
            messages.error(request, "Choose at least one agent.")
            return HttpResponseRedirect(reverse("admin:governance_agent_changelist"))
        form = MaturityForm(request.POST or None, initial={"maturity": agents[0].maturity})
        if request.method == "POST" and form.is_valid():
            maturity, reason = Maturity(form.cleaned_data["maturity"]), form.cleaned_data["reason"]
            actor = user_party(person(request))
            for agent in agents:
                told(
                    request,
                    lambda agent=agent: agent_set_maturity(  # type: ignore[misc]
                        agent=agent, maturity=maturity, reason=reason, actor=actor
                    ),
                    f"Agent {agent.name} is {maturity} now.",
                )
            return HttpResponseRedirect(_after(agents))
        names = ", ".join(agent.name for agent in agents)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Change the maturity of {names}",
            "agents": agents,
            "form": form,
            "back": _after(agents),
        }
        return TemplateResponse(request, "admin/governance/agent/maturity.html", context)

    def suspend_view(self, request: HttpRequest, agent_id: int) -> HttpResponse:
        """Suspend an agent, or resume it where it is suspended."""
        agent, form = self._changeable(request, agent_id), ReasonForm(request.POST)
        is_suspended = request.POST.get("wanted") == "suspend"
        if form.is_valid():
            told(
                request,
                lambda: agent_set_suspended(
                    agent=agent,
                    is_suspended=is_suspended,
                    reason=form.cleaned_data["reason"],
                    actor=user_party(person(request)),
                ),
                f"Agent {agent.name} is {'suspended: it can ask for nothing' if is_suspended else 'active again'}.",
            )
        else:
            messages.error(request, "Not done. Say why: the reason is kept in the audit trail.")
        return HttpResponseRedirect(_after([agent]))

    @sensitive_variables()
    def key_issue_view(self, request: HttpRequest, agent_id: int) -> HttpResponse:
        """Issue a key and show it in this answer only: it is in no address, cookie, message or store."""
        agent, form = self._changeable(request, agent_id), KeyForm(request.POST)
        if not form.is_valid():
            messages.error(request, "Not done. The label or the duration cannot be used.")
            return HttpResponseRedirect(_after([agent]))
        days = form.cleaned_data["days"]
        key = key_issue(
            agent=agent,
            actor=user_party(person(request)),
            label=form.cleaned_data["label"],
            expires_at=timezone.now() + timedelta(days=days) if days else None,
        )
        return self.page(request, agent, new_key=key)

    def key_revoke_view(self, request: HttpRequest, agent_id: int, key_id: int) -> HttpResponse:
        """Revoke a key at once."""
        agent = self._changeable(request, agent_id)
        key = get_object_or_404(AgentKey.objects.select_related("agent"), pk=key_id, agent=agent)
        told(
            request,
            lambda: key_revoke(key=key, actor=user_party(person(request))),
            f"The key {key.prefix}… is revoked; it opens nothing any more.",
        )
        return HttpResponseRedirect(_after([agent]))

    def _changeable(self, request: HttpRequest, agent_id: int) -> Agent:
        if not request.user.has_perm("governance.change_agent"):
            raise PermissionDenied
        return get_object_or_404(Agent.objects.select_related("owner"), pk=agent_id)

    @admin.display(description="maturity", ordering="maturity")
    def maturity_badge(self, agent: Agent) -> SafeString:
        """Return the maturity as a badge."""
        return format_html('<span class="atom-badge atom-is-{}">{}</span>', agent.maturity.lower(), agent.maturity)

    @admin.display(description="state", ordering="is_suspended")
    def state(self, agent: Agent) -> SafeString:
        """Return whether it may ask at all."""
        word = "suspended" if agent.is_suspended else "active"
        return format_html('<span class="atom-badge atom-is-{0}">{0}</span>', word)


def _key_state(key: AgentKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


def _after(agents: list[Agent]) -> str:
    if len(agents) == 1:
        return reverse("admin:governance_agent_change", args=[agents[0].pk])
    return reverse("admin:governance_agent_changelist")
