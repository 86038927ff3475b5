"""Operators' rules, and the policies that were in force."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit.admin_lists import ShowOnlyAdmin
from audit.admin_text import visible
from governance import previews
from governance.admin_rules import PreviewedForm, RuleAdmin, folder_of
from governance.models import Agent, PolicyRule, PolicyVersion
from governance.policies import stored_policy
from governance.policy.decide import Policy, build_policy
from governance.policy.proving import example_problems
from governance.policy.rules import ANY, OperatorRule
from governance.policy.types import Category, Maturity, Outcome

_MINUTES = "%Y-%m-%dT%H:%M"


class LinesField(forms.CharField):
    """Texts, one a line; blanks around them and empty lines do not count."""

    widget = forms.Textarea(attrs={"rows": 4, "cols": 80, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        lines = value if isinstance(value, list) else (value or "").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(initial) != self.to_python(data))


def _about(agents: list[str], hosts: list[str], least_maturity: str, most_maturity: str, directories: list[str]) -> str:
    """Return a scope in a few words."""
    parts = [*agents, *(f"on {name}" for name in hosts), *(f"in {folder}" for folder in directories)]
    parts += [f"from {least_maturity}"] if least_maturity else []
    parts += [f"up to {most_maturity}"] if most_maturity else []
    return ", ".join(parts) or "everybody"


def _names() -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, help_text="None chosen: all of them."
    )


class PolicyRuleForm(PreviewedForm):
    """One operator's rule. It is saved only where each of its examples comes out as it says."""

    agents = _names()
    hosts = _names()
    directories = LinesField(
        required=False,
        help_text="The rule is about commands that work in or below one of these folders, one a line; "
        "absolute, or from ~/. Empty: in any folder.",
    )
    expires_at = forms.DateTimeField(
        required=False,
        input_formats=[_MINUTES, "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format=_MINUTES),
    )
    examples = LinesField(label="Examples that match", help_text="Whole commands, one a line. At least one.")
    refuses = LinesField(
        label="Examples that must not match",
        required=False,
        help_text="Commands close by that the rule is not about, one a line. At least one.",
    )

    class Meta:
        model = PolicyRule
        fields = [
            *("name", "tokens", "is_whole", "outcome", "justification", "agents", "hosts"),
            *(
                "least_maturity",
                "most_maturity",
                "directories",
                "expires_at",
                "approvals_required",
                "examples",
                "refuses",
            ),
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        history, row = previews.history(), self.instance
        known = {
            "agents": list(Agent.objects.order_by("name").values_list("name", flat=True)),
            "hosts": history.host_names() if history else [],
        }
        for field, names in known.items():
            # A name that is there no more stays, until somebody takes it out.
            choices = dict.fromkeys([*names, *getattr(row, field)])
            self.fields[field].choices = [(name, name) for name in choices]  # type: ignore[attr-defined]
        zone = timezone.get_current_timezone_name()
        self.fields["expires_at"].help_text = f"In {zone}. A rule that allows must expire."

    def clean_directories(self) -> list[str]:
        return [folder_of(line) for line in self.cleaned_data["directories"]]

    def clean_expires_at(self) -> Any:
        moment = self.cleaned_data["expires_at"]
        if moment and moment <= timezone.now():
            raise ValidationError("This is over already.")
        return moment

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        for name in ("tokens", "name", "justification"):
            if not str(values.get(name, "")).isprintable():
                self.add_error(name, "Only characters that can be seen.")
        if values.get("outcome") == Outcome.ALLOW and "expires_at" in values and not values["expires_at"]:
            self.add_error("expires_at", "A rule that allows must expire.")
        least, most = values.get("least_maturity"), values.get("most_maturity")
        if least and most and Maturity(least).rank > Maturity(most).rank:
            self.add_error("most_maturity", f"No agent is at least {least} and at most {most}.")
        if not values.get("refuses") and values.get("tokens", "").strip() != ANY and "refuses" in values:
            self.add_error("refuses", "Give at least one command that the rule is not about.")
        return values

    def prove(self) -> None:
        try:
            rule = OperatorRule.from_json(self.instance.value().to_json())
        except ValueError as error:
            self.add_error("tokens", str(error))
            return
        values = self.cleaned_data
        for text, why in example_problems(rule, values["examples"], values["refuses"], stored_policy()):
            field = "examples" if text in values["examples"] and "must not match" not in why else "refuses"
            self.add_error(field, f"{text}: {why}")

    def policy_with(self, policy: Policy) -> Policy:
        own = self.instance.value()
        others = [rule for rule in policy.rules if rule.id != own.id]
        return build_policy(policy.matrix, policy.directories, [*others, own])


@admin.register(PolicyRule)
class PolicyRuleAdmin(RuleAdmin):
    """The rules that operators added."""

    form = PolicyRuleForm
    list_display = ["name", "words", "says", "about", "until", "used", "author", "revoke"]
    list_filter = ["outcome"]
    search_fields = ["name", "tokens", "justification"]
    fieldsets = [
        (None, {"fields": ["name", "tokens", "is_whole", "outcome", "justification"]}),
        ("Whom it is about", {"fields": ["agents", "hosts", "least_maturity", "most_maturity", "directories"]}),
        ("Until when", {"fields": ["expires_at"]}),
        ("Proof", {"fields": ["examples", "refuses", "seen"]}),
    ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "Operators' rules",
            "empty_text": "No rule of your own: the tables, the matrix and the directory rules decide.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    @admin.display(description="words")
    def words(self, row: PolicyRule) -> SafeString:
        """Return the words that a command starts with."""
        return format_html(
            '<code class="atom-command">{}</code>{}', visible(row.tokens), " and nothing more" if row.is_whole else ""
        )

    @admin.display(description="outcome")
    def says(self, row: PolicyRule) -> SafeString:
        """Return the outcome as a badge."""
        return format_html('<span class="atom-badge atom-outcome-{0}">{0}</span>', row.outcome)

    @admin.display(description="about")
    def about(self, row: PolicyRule) -> str:
        """Return the scope in a few words."""
        return _about(row.agents, row.hosts, row.least_maturity, row.most_maturity, row.directories)

    @admin.display(description="")
    def revoke(self, row: PolicyRule) -> SafeString | str:
        """Return a button that revokes a grant which is in force: one click, sent with the list's own form."""
        if row.expires_at is None or row.outcome != Outcome.ALLOW or row.expires_at <= timezone.now():
            return ""
        button = (
            '<button class="atom-button atom-small" formaction="{}" formmethod="post" formnovalidate>Revoke</button>'
        )
        return format_html(button, reverse("grant-revoke", args=[row.pk]))

    @admin.display(description="until")
    def until(self, row: PolicyRule) -> str | SafeString:
        """Return when it expires."""
        if row.expires_at is None:
            return "changed"
        shown = f"{timezone.localtime(row.expires_at):%Y-%m-%d %H:%M}"
        if row.expires_at <= timezone.now():
            return format_html('{} <span class="atom-badge">expired</span>', shown)
        return shown


@admin.register(PolicyVersion)
class PolicyVersionAdmin(ShowOnlyAdmin[PolicyVersion]):
    """What each policy was made of."""

    list_display = ["version", "engine", "created_at"]
    ordering = ["-created_at"]
    show_facets = admin.ShowFacets.NEVER

    def may_view(self, request: HttpRequest) -> bool:
        user = request.user
        wanted = ("governance.edit_policy", "shellagent.view_shellsession", "shellagent.approve")
        return any(user.has_perm(name) for name in wanted)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.may_view(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        # Who only reads sessions comes here from a session's page.
        return bool(request.user.has_perm("governance.edit_policy"))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one version whole."""
        row = PolicyVersion.objects.filter(pk=object_id).first()
        if not self.may_view(request) or row is None:
            raise Http404
        content = row.unpacked()
        matrix = {(category, maturity): outcome for category, maturity, outcome in content["matrix"]}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Policy",
            "row": row,
            "is_in_force": stored_policy().version == row.version,
            "maturities": [level.value for level in Maturity],
            "matrix": [
                (category.value, [matrix.get((category.value, level.value), "deny") for level in Maturity])
                for category in Category
            ],
            "directories": content["directories"],
            "rules": [(rule, _about(**rule["scope"])) for rule in content["rules"]],
            "tables": sorted(content["tables"].items()),
            "protected": content["protected"],
        }
        return TemplateResponse(request, "admin/governance/policyversion/page.html", context)
