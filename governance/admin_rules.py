"""The rules that a person edits: the matrix and the directory rules. Saved by their services, never by a form alone.

What a change would have done to the last commands is shown before it is saved.
"""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from audit import canonical
from audit.admin_lists import TypedAdmin
from governance import previews
from governance.admin_agents import person
from governance.models import DirectoryRow, MatrixRow, PolicyGeneration
from governance.policies import stored_policy
from governance.policy.decide import Policy, build_policy, check_monotone
from governance.policy.types import Access, Category, DirectoryRule, Maturity, Outcome
from governance.services import rule_delete, rule_save, user_party

if TYPE_CHECKING:
    _AnyForm = forms.ModelForm[Any]
else:
    _AnyForm = forms.ModelForm


class PreviewedForm(_AnyForm):
    """A rule that is saved once it was shown what it would have done to the last commands."""

    #: A digest of the values that were shown with what they would do.
    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    #: What the page shows, once there is something to show.
    replay: previews.Replay | None = None

    def policy_with(self, policy: Policy) -> Policy:
        """Return the policy as it would be with this row as it is in the form."""
        raise NotImplementedError

    def prove(self) -> None:
        """Add an error for what is wrong with the row as a whole."""

    def full_clean(self) -> None:
        """Check the form, then the row, then whether what it would do was shown."""
        super().full_clean()
        history = previews.history()
        if not self.is_bound or self.errors:
            return
        self.prove()
        if self.errors or history is None:
            return
        digest = canonical.sha256({name: str(value) for name, value in self.cleaned_data.items() if name != "seen"})
        if self.cleaned_data.get("seen") == digest:
            return
        before = stored_policy()
        self.replay = history.replay(before, self.policy_with(before), previews.LAST)
        if self.replay.total:
            data: Any = self.data
            self.data = data.copy()
            self.data[self.add_prefix("seen")] = digest  # type: ignore[index]
            self.add_error(None, "Not saved yet. Read what it would have changed, and save it then.")


class MatrixForm(PreviewedForm):
    """One cell. A change is refused that would give more maturity less, or open what is blocked."""

    class Meta:
        model = MatrixRow
        fields = ["category", "maturity", "outcome"]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        row = self.instance
        category, maturity = values.get("category", row.category), values.get("maturity", row.maturity)
        if not (category and maturity and values.get("outcome")):
            return values
        # Two changes that are each right could be wrong together: the second waits here, and reads the first's.
        list(PolicyGeneration.objects.select_for_update())
        before = {(Category(cell.category), Maturity(cell.maturity)): Outcome(cell.outcome) for cell in _cells()}
        after = {**before, (Category(category), Maturity(maturity)): Outcome(values["outcome"])}
        known = check_monotone(before)
        if problems := [problem for problem in check_monotone(after) if problem not in known]:
            raise ValidationError([f"This cannot be saved. {problem}" for problem in problems])
        return values

    def policy_with(self, policy: Policy) -> Policy:
        row: MatrixRow = self.instance
        cell = (Category(row.category), Maturity(row.maturity))
        return build_policy({**policy.matrix, cell: Outcome(row.outcome)}, policy.directories, policy.rules)


class DirectoryForm(PreviewedForm):
    """One root."""

    class Meta:
        model = DirectoryRow
        fields = ["root", "access", "least_maturity"]

    def clean_root(self) -> str:
        return folder_of(self.cleaned_data["root"])

    def policy_with(self, policy: Policy) -> Policy:
        others = DirectoryRow.objects.exclude(pk=self.instance.pk)
        rules = [DirectoryRule(row.root, Access(row.access), Maturity(row.least_maturity)) for row in others]
        row: DirectoryRow = self.instance
        own = DirectoryRule(row.root, Access(row.access), Maturity(row.least_maturity))
        return build_policy(policy.matrix, [*rules, own], policy.rules)


def folder_of(text: str) -> str:
    """Return a folder as rules name it. Raises ValidationError for one that is not absolute or could mislead."""
    root = text.strip()
    if not root.startswith(("/", "~/")):
        raise ValidationError("A root is an absolute path, like /srv/data, or starts with ~/.")
    if ".." in root.split("/"):
        raise ValidationError("A root has no `..` in it: write the folder that is meant.")
    if not root.isprintable():
        raise ValidationError("A root has only characters that can be seen.")
    return root if root in ("/", "~/") else root.rstrip("/")


class RuleAdmin(TypedAdmin[Any]):
    """What all kinds of rules share: one permission, and the services that tell every process."""

    change_form_template = "admin/governance/rule_form.html"
    show_full_result_count = True
    show_facets = admin.ShowFacets.NEVER

    def _may(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("governance.edit_policy"))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        rule_save(row=obj, actor=user_party(person(request)))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        rule_delete(row=obj, actor=user_party(person(request)))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            rule_delete(row=row, actor=user_party(person(request)))


@admin.register(MatrixRow)
class MatrixRowAdmin(RuleAdmin):
    """The matrix, drawn as one; each cell leads to its own page."""

    form = MatrixForm
    change_list_template = "admin/governance/matrixrow/grid.html"
    # The first thing on the changelist would be Django's inline style where there is no row of actions.
    actions_on_top = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether a cell is missing: a matrix has one row a cell."""
        return self._may(request) and MatrixRow.objects.count() < len(Category) * len(Maturity)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["category", "maturity"] if obj else []

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        cells = {(row.category, row.maturity): row for row in _cells()}
        grid = [
            {
                "category": category.value,
                "cells": [
                    {
                        "outcome": row.outcome if row else "deny",
                        "url": reverse("admin:governance_matrixrow_change", args=[row.pk]) if row else "",
                        "maturity": maturity.value,
                    }
                    for maturity in Maturity
                    for row in [cells.get((category.value, maturity.value))]
                ],
            }
            for category in Category
        ]
        problems = check_monotone({(Category(a), Maturity(b)): Outcome(row.outcome) for (a, b), row in cells.items()})
        context = {
            "title": "What each maturity may do",
            "grid": grid,
            "maturities": [level.value for level in Maturity],
            "problems": problems,
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)


@admin.register(DirectoryRow)
class DirectoryRowAdmin(RuleAdmin):
    """Roots where agents may work without being asked about the place."""

    form = DirectoryForm
    list_display = ["root", "access", "least_maturity"]
    list_filter = ["access", "least_maturity"]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "Where agents may work",
            "empty_text": "No directory rule: agents are asked about every folder but their own and the scratch one.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)


def _cells() -> QuerySet[MatrixRow]:
    return MatrixRow.objects.all()
