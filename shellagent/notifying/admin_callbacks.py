"""Where agents may be called back, and what those calls are signed with."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from audit.admin_lists import ShowOnlyAdmin, TypedAdmin
from governance.admin_agents import person
from governance.models import Agent
from governance.services import user_party
from shellagent.notifying.addresses import AddressError, address_read
from shellagent.notifying.models import CallbackPlace, CallbackSecret
from shellagent.notifying.services import callback_place_delete, callback_place_save, callback_secret_issue

if TYPE_CHECKING:
    _PlaceForm = ModelForm[CallbackPlace]
else:
    _PlaceForm = ModelForm


class CallbackPlaceForm(_PlaceForm):
    """A beginning of addresses."""

    class Meta:
        model = CallbackPlace
        fields = ["prefix", "agent", "note"]

    def clean_prefix(self) -> str:
        prefix: str = self.cleaned_data["prefix"]
        try:
            if address_read(prefix).query:
                raise AddressError("What addresses begin with has no query.")
        except AddressError as error:
            raise ValidationError(str(error)) from error
        return prefix


@admin.register(CallbackPlace)
class CallbackPlaceAdmin(TypedAdmin[CallbackPlace]):
    """Callback addresses."""

    form = CallbackPlaceForm
    list_display = ["prefix", "whose", "note"]
    list_select_related = ["agent"]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "Where agents may be called back",
            "empty_text": "None yet: a request with a `callback_url` is refused. Add what addresses may begin with.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def save_model(self, request: HttpRequest, obj: CallbackPlace, form: Any, change: bool) -> None:
        callback_place_save(place=obj, actor=user_party(person(request)))

    def delete_model(self, request: HttpRequest, obj: CallbackPlace) -> None:
        callback_place_delete(place=obj, actor=user_party(person(request)))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[CallbackPlace]) -> None:
        for place in queryset:
            callback_place_delete(place=place, actor=user_party(person(request)))

    @admin.display(description="agents")
    def whose(self, place: CallbackPlace) -> str:
        """Return which agents may name it."""
        return str(place.agent) if place.agent else "every agent"


@admin.register(CallbackSecret)
class CallbackSecretAdmin(ShowOnlyAdmin[CallbackSecret]):
    """All agents on one page, each with its secret's age and a button."""

    def may_view(self, request: HttpRequest) -> bool:
        user = request.user
        return user.has_perm("notifying.view_callbacksecret") or user.has_perm("notifying.change_callbacksecret")

    def get_urls(self) -> list[URLPattern]:
        issue = self.admin_site.admin_view(require_POST(self.issue_view))
        return [path("<int:agent_id>/issue/", issue, name="notifying_callbacksecret_issue"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.may_view(request):
            raise PermissionDenied
        rows = {row.agent_id: row for row in CallbackSecret.objects.all()}
        now = timezone.now()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "What callbacks are signed with",
            "agents": [(agent, rows.get(agent.pk)) for agent in Agent.objects.order_by("name")],
            "now": now,
            "may_issue": request.user.has_perm("notifying.change_callbacksecret"),
        }
        return TemplateResponse(request, "admin/notifying/callbacksecret/page.html", context)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        """There is no page of one secret."""
        return HttpResponseRedirect(reverse("admin:notifying_callbacksecret_changelist"))

    @sensitive_variables()
    def issue_view(self, request: HttpRequest, agent_id: int) -> HttpResponse:
        """Issue a secret and show it in this answer only."""
        if not request.user.has_perm("notifying.change_callbacksecret"):
            raise PermissionDenied
        agent = get_object_or_404(Agent, pk=agent_id)
        back = reverse("admin:notifying_callbacksecret_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": "Callback secret",
            "secret": callback_secret_issue(agent=agent, actor=user_party(person(request))),
            "whose": f"the callbacks of {agent.name}",
            "list_url": back,
            "list_name": "Callback secrets",
            "back": back,
        }
        response = TemplateResponse(request, "admin/notifying/secret.html", context)
        response["Cache-Control"] = "no-store"
        return response
