"""Where messages go, and when people are left in peace: saved by their services, addresses never shown again."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_POST

from audit.admin_lists import TypedAdmin
from governance.admin_agents import person, told
from governance.errors import ProblemError
from governance.services import user_party
from shellagent.notifying.kinds import CHOICES
from shellagent.notifying.models import Preference, Sink, all_kinds
from shellagent.notifying.services import (
    Checked,
    address_checked,
    preference_save,
    sink_delete,
    sink_save,
    sink_secret_issue,
    sink_test,
)

if TYPE_CHECKING:
    _SinkForm = forms.ModelForm[Sink]
    _PreferenceForm = forms.ModelForm[Preference]
else:
    _SinkForm = _PreferenceForm = forms.ModelForm


def _offer_people(fields: dict[str, forms.Field], *names: str) -> None:
    """Let a form's fields offer who is active, by name; no button beside them leads to the accounts."""
    for name in names:
        field: Any = fields.get(name)
        if field is not None:
            field.queryset = User.objects.filter(is_active=True).order_by("username")
            for button in ("can_add_related", "can_change_related", "can_view_related", "can_delete_related"):
                setattr(field.widget, button, False)


class SinkForm(_SinkForm):
    """A sink. The address is asked for once, and again where it changes."""

    new_address = forms.CharField(
        label="Address",
        required=False,
        max_length=2000,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "vTextField"}),
        help_text="An Apprise URL such as discord://…, email addresses, or an https:// address. Whoever has it can "
        "write there, so it is kept encrypted and not shown again.",
    )
    kinds = forms.MultipleChoiceField(
        label="Tells when",
        choices=[(kind.value, words) for kind, words in CHOICES.items()],
        widget=forms.CheckboxSelectMultiple,
        initial=all_kinds,
    )

    class Meta:
        model = Sink
        fields = ["name", "is_enabled", "way", "owner", "kinds", "detail", "group_seconds", "most_per_hour"]

    checked: Checked | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _offer_people(self.fields, "owner")
        if self.instance.pk and "new_address" in self.fields:
            self.fields["new_address"].help_text = f"{self.instance.address_shown} is kept where this stays empty."

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        address, way = values.get("new_address", ""), values.get("way", "")
        if address and way:
            try:
                self.checked = address_checked(way, address)
            except ProblemError as error:
                raise ValidationError({"new_address": error.detail}) from error
        elif way and (not self.instance.pk or way != Sink.objects.get(pk=self.instance.pk).way):
            raise ValidationError({"new_address": "Give the address."})
        return values


@admin.register(Sink)
class SinkAdmin(TypedAdmin[Sink]):
    """Sinks."""

    form = SinkForm
    fieldsets = [
        (None, {"fields": ["name", "is_enabled", "way", "new_address"]}),
        ("What it says", {"fields": ["kinds", "detail"]}),
        ("How often, and to whom", {"fields": ["group_seconds", "most_per_hour", "owner"]}),
    ]
    list_display = ["name", "state", "kind", "shown", "whose", "tells", "last"]
    list_filter = ["way", "is_enabled"]
    list_select_related = ["owner"]
    show_facets = admin.ShowFacets.NEVER
    change_form_template = "admin/notifying/sink/form.html"

    def get_urls(self) -> list[URLPattern]:
        def post(work: Callable[..., HttpResponse]) -> Any:
            return self.admin_site.admin_view(require_POST(work))

        own = [
            path("<int:sink_id>/test/", post(self.test_view), name="notifying_sink_test"),
            path("<int:sink_id>/secret/", post(self.secret_view), name="notifying_sink_secret"),
        ]
        return own + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "Where messages go",
            "empty_text": "No sink yet: nobody is told when something waits. Add one.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    @method_decorator(sensitive_post_parameters("new_address"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show the form, or save it; what was typed as the address is in no report of an error."""
        return super().changeform_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Sink, form: Any, change: bool) -> None:
        secret = sink_save(sink=obj, actor=user_party(person(request)), address=form.checked)
        request.new_secret = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: Sink, post_url_continue: str | None = None) -> HttpResponse:
        if secret := getattr(request, "new_secret", ""):
            return self._shown(request, obj, secret)
        return HttpResponseRedirect(reverse("admin:notifying_sink_change", args=[obj.pk]))

    def response_change(self, request: HttpRequest, obj: Sink) -> HttpResponse:
        if secret := getattr(request, "new_secret", ""):
            return self._shown(request, obj, secret)
        return super().response_change(request, obj)

    def delete_model(self, request: HttpRequest, obj: Sink) -> None:
        sink_delete(sink=obj, actor=user_party(person(request)))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Sink]) -> None:
        for sink in queryset:
            sink_delete(sink=sink, actor=user_party(person(request)))

    def test_view(self, request: HttpRequest, sink_id: int) -> HttpResponse:
        """Send a test there."""
        sink = self._changeable(request, sink_id)
        done = "A test is on its way; this page and the log of messages say how it went."
        told(request, lambda: sink_test(sink=sink, actor=user_party(person(request))), done)
        return HttpResponseRedirect(reverse("admin:notifying_sink_change", args=[sink_id]))

    @sensitive_variables()
    def secret_view(self, request: HttpRequest, sink_id: int) -> HttpResponse:
        """Issue a new signing secret and show it in this answer only."""
        sink = self._changeable(request, sink_id)
        secrets: list[str] = []
        actor = user_party(person(request))
        if told(request, lambda: secrets.append(sink_secret_issue(sink=sink, actor=actor))):
            return self._shown(request, sink, secrets[0])
        return HttpResponseRedirect(reverse("admin:notifying_sink_change", args=[sink_id]))

    def _changeable(self, request: HttpRequest, sink_id: int) -> Sink:
        sink = get_object_or_404(Sink, pk=sink_id)
        if not self.has_change_permission(request, sink):
            raise PermissionDenied
        return sink

    def _shown(self, request: HttpRequest, sink: Sink, secret: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Signing secret",
            "secret": secret,
            "whose": sink.name,
            "list_url": reverse("admin:notifying_sink_changelist"),
            "list_name": "Sinks",
            "back": reverse("admin:notifying_sink_change", args=[sink.pk]),
        }
        response = TemplateResponse(request, "admin/notifying/secret.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.display(description="state")
    def state(self, sink: Sink) -> SafeString:
        """Return whether it works."""
        word, kind = ("works", "active") if sink.last_sent_at else ("not used yet", "queued")
        if sink.failing_since:
            word, kind = "failing", "failed"
        if not sink.is_enabled:
            word, kind = "off", "disabled"
        return format_html('<span class="atom-badge atom-is-{}">{}</span>', kind, word)

    @admin.display(description="way", ordering="way")
    def kind(self, sink: Sink) -> str:
        """Return its way in one word."""
        return "service" if sink.way == Sink.Way.APPRISE else sink.way

    @admin.display(description="owner")
    def whose(self, sink: Sink) -> str:
        """Return whose it is."""
        return str(sink.owner) if sink.owner else "several"

    @admin.display(description="last message")
    def last(self, sink: Sink) -> str:
        """Return when the last message arrived."""
        return f"{timezone.localtime(sink.last_sent_at):%Y-%m-%d %H:%M}" if sink.last_sent_at else "none"

    @admin.display(description="address")
    def shown(self, sink: Sink) -> str:
        """Return its address without what is secret."""
        return sink.address_shown

    @admin.display(description="tells")
    def tells(self, sink: Sink) -> str:
        """Return how many kinds it tells."""
        return "everything" if set(sink.kinds) >= set(CHOICES) else f"{len(sink.kinds)} of {len(CHOICES)} kinds"


class PreferenceForm(_PreferenceForm):
    """A person's quiet hours. Who fills it in sets their own, unless it says whose."""

    own_user_id: int | None = None

    class Meta:
        model = Preference
        fields = ["user", "time_zone", "quiet_from", "quiet_until", "escalate_after_minutes", "escalate_to"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _offer_people(self.fields, "user", "escalate_to")

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        second = values.get("escalate_to")
        if second is not None and not (second.is_active and second.has_perm("shellagent.approve")):
            raise ValidationError({"escalate_to": f"{second} may not approve commands."})
        whose = values["user"].pk if values.get("user") else self.instance.user_id or self.own_user_id
        if second is not None and second.pk == whose:
            raise ValidationError({"escalate_to": "That is the same person."})
        return values


@admin.register(Preference)
class PreferenceAdmin(TypedAdmin[Preference]):
    """Everybody who may approve keeps their own; who may change everybody's has a permission for it."""

    form = PreferenceForm
    list_display = ["user", "quiet", "time_zone", "escalation"]
    list_select_related = ["user", "escalate_to"]

    def _is_for_all(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("notifying.change_preference"))

    def _may(self, request: HttpRequest, obj: Model | None = None) -> bool:
        own = isinstance(obj, Preference) and obj.user_id == request.user.pk
        return self._is_for_all(request) or ((obj is None or own) and request.user.has_perm("shellagent.approve"))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may(request)

    def has_view_permission(self, request: HttpRequest, obj: Preference | None = None) -> bool:
        return self._may(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Preference | None = None) -> bool:
        return self._may(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Preference | None = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest) -> bool:
        has_own = Preference.objects.filter(user__in=[request.user.pk]).exists()
        return self._is_for_all(request) or (self._may(request) and not has_own)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Preference]:
        every = super().get_queryset(request)
        return every if self._is_for_all(request) else every.filter(user__in=[request.user.pk])

    def get_exclude(self, request: HttpRequest, obj: Preference | None = None) -> list[str]:
        return [] if self._is_for_all(request) and obj is None else ["user"]

    def get_fieldsets(self, request: HttpRequest, obj: Preference | None = None) -> Any:
        whose = ["user"] if self._is_for_all(request) and obj is None else []
        return [
            (None, {"fields": [*whose, "time_zone", "quiet_from", "quiet_until"]}),
            ("Where nobody decides in time", {"fields": ["escalate_after_minutes", "escalate_to"]}),
        ]

    def get_form(self, request: HttpRequest, obj: Preference | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"own_user_id": request.user.pk})

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "Quiet hours and escalation",
            "empty_text": "None yet: messages come at any hour, and nobody else is told. Add yours.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def save_model(self, request: HttpRequest, obj: Preference, form: Any, change: bool) -> None:
        if not obj.user_id:
            obj.user = person(request)
        preference_save(preference=obj, actor=user_party(person(request)))

    @admin.display(description="quiet")
    def quiet(self, preference: Preference) -> str:
        """Return the quiet hours."""
        if preference.quiet_from is None or preference.quiet_until is None:
            return "never"
        return f"{preference.quiet_from:%H:%M} to {preference.quiet_until:%H:%M}"

    @admin.display(description="where nobody decides")
    def escalation(self, preference: Preference) -> str:
        """Return who is told then."""
        if preference.escalate_to is None:
            return "nobody else is told"
        return f"{preference.escalate_to} is told after {preference.escalate_after_minutes} minutes"
