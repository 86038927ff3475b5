"""On which terms people approve, by category: edited here, saved by the service that tells every process."""

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse

from governance.admin_rules import RuleAdmin
from governance.models import ApprovalTerms
from governance.policy.types import Category


@admin.register(ApprovalTerms)
class ApprovalTermsAdmin(RuleAdmin):
    """One row a category."""

    list_display = ["category", "minutes", "approvals_required", "needs_code"]
    actions_on_top = True
    fields = ["category", "minutes", "approvals_required", "needs_code"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether a category has no row: until then it has the shipped terms."""
        return self._may(request) and ApprovalTerms.objects.count() < len(Category)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["category"] if obj else []

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "On which terms people approve", **(extra_context or {})})
