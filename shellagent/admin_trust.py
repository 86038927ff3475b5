"""Earned trust in the admin: an agent's record on its page, promotions to grant, and the rules of both directions."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from audit.admin_charts import DAYS, Chart, bars_chart
from audit.admin_lists import ShowOnlyAdmin
from governance.admin_agents import MEANING, page_part, person, told
from governance.admin_rules import RuleAdmin
from governance.models import Agent, DemotionRow, PromotionProposal, PromotionRow
from governance.policy.types import Maturity
from governance.trust import promotion_problems
from shellagent.records import AgentRecord, agent_days, agent_record
from shellagent.services import promotion_decline, promotion_grant

#: The bars, from the bottom up.
_LEGEND: Final = {"ran": "ran and ended well", "failed": "failed or refused by the host", "stopped": "not let run"}

if TYPE_CHECKING:
    _PromotionForm = forms.ModelForm[PromotionRow]
else:
    _PromotionForm = forms.ModelForm


def record_part(request: HttpRequest, agent: Agent) -> dict[str, Any]:
    """Return what an agent's page shows of its record."""
    found = agent_record(agent)
    proposal = agent.proposals.filter(status=PromotionProposal.Status.PENDING).first()
    return {
        "record": found,
        "record_chart": record_chart(agent),
        "score": f"{int(found.score * 1000) / 1000:.3f}",
        "score_thousandths": int(found.score * 1000),
        "score_needed": found.next.least_score * 10 if found.next else 950,
        "quality": f"{int(found.earned.quality * 1000) / 1000:.3f}",
        "criteria": _criteria(found),
        "proposal": proposal,
        "after_meaning": MEANING[Maturity(proposal.after)] if proposal else "",
        "demotions": list(DemotionRow.objects.order_by("kind")),
    }


def record_chart(agent: Agent) -> Chart:
    """Return what became of an agent's requests in the last days, as bars."""
    today = timezone.localdate()
    days = agent_days(agent, today - timedelta(days=DAYS - 1))
    sums = {day: _bar(found) for day, found in days.items()}
    return bars_chart(today, sums, _LEGEND, _violations(days), total=sum(found["asked"] for found in days.values()))


def _bar(found: Counter[str]) -> Mapping[str, int]:
    stopped = found["denied"] + found["rejected"] + found["stopped"]
    return {"ran": found["succeeded"], "failed": found["failed"] + found["refused"], "stopped": stopped}


def _violations(days: Mapping[date, Counter[str]]) -> dict[date, str]:
    return {day: f"; {found['violations']} violations" for day, found in days.items() if found["violations"]}


def _criteria(found: AgentRecord) -> list[dict[str, Any]]:
    """Return the three criteria, each with what the agent has, what is needed, and whether that is met."""
    earned, needs, missing = found.earned, found.next, {gap.what for gap in found.gaps}
    rows = [
        ("decided", "Different commands decided", str(earned.decided), str(needs.decided) if needs else ""),
        (
            "intervention",
            "A person stepped in",
            f"{earned.intervention_percent:.1f} %",
            f"at most {needs.most_intervention} %" if needs else "",
        ),
        (
            "score",
            "Score",
            f"{int(found.score * 1000) / 1000:.3f}",
            f"{needs.least_score / 100:.2f}" if needs else "",
        ),
    ]
    return [{"name": name, "has": has, "needs": need, "is_met": what not in missing} for what, name, has, need in rows]


@admin.register(PromotionProposal)
class PromotionProposalAdmin(ShowOnlyAdmin[PromotionProposal]):
    """What the nightly review proposed, and what people made of it."""

    list_display = ["agent_label", "before", "after", "status", "proposed_at", "decided_at", "decided_label"]
    list_filter = ["status"]
    fields = ["agent_label", "before", "after", "figures", "status"]
    fields += ["proposed_at", "decided_at", "decided_label", "reason"]
    show_facets = admin.ShowFacets.NEVER

    def may_view(self, request: HttpRequest) -> bool:
        user = request.user
        wanted = ("view_promotionproposal", "change_maturity")
        return any(user.has_perm(f"governance.{name}") for name in wanted)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.decide_view))
        own = path("<int:proposal_id>/decide/", view, name="governance_promotionproposal_decide")
        return [own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        empty = "The review of each night proposes what agents earned. Nothing so far."
        context = {"title": "Proposed promotions", "empty_text": empty, **(extra_context or {})}
        return super().changelist_view(request, context)

    def decide_view(self, request: HttpRequest, proposal_id: int) -> HttpResponse:
        """Grant or decline, by the service, which knows who may."""
        proposal = get_object_or_404(PromotionProposal, pk=proposal_id)
        decide: Callable[..., object] = promotion_decline
        done = f"Declined. {proposal.agent_label} earns it anew from here on."
        if request.POST.get("decision") == "grant":
            decide, done = promotion_grant, f"Agent {proposal.agent_label} is {proposal.after} now."
        reason = request.POST.get("reason", "")[:2000]
        told(request, lambda: decide(proposal=proposal, person=person(request), reason=reason), done)
        return HttpResponseRedirect(reverse("admin:governance_agent_change", args=[proposal.agent_id]))


class PromotionForm(_PromotionForm):
    """What one maturity needs. A change is refused by which a higher maturity would need less than a lower one."""

    class Meta:
        model = PromotionRow
        fields = ["maturity", "decided", "most_intervention", "least_score"]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        others = [row.criterion for row in PromotionRow.objects.exclude(pk=self.instance.pk)]
        for problem in promotion_problems([*others, self.instance.criterion]):
            self.add_error(None, ValidationError(f"This cannot be saved. {problem}"))


@admin.register(PromotionRow)
class PromotionRowAdmin(RuleAdmin):
    """What each maturity needs."""

    form = PromotionForm
    list_display = ["maturity", "decided", "most_intervention", "least_score"]
    ordering = ["decided"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["maturity"] if obj else []

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "What a maturity needs",
            "empty_text": "No rule: nothing is proposed.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)


@admin.register(DemotionRow)
class DemotionRowAdmin(RuleAdmin):
    """What takes an agent one maturity down."""

    list_display = ["kind", "times"]
    ordering = ["kind"]
    fields = ["kind", "times"]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "What takes a maturity away",
            "empty_text": "No rule: agents are demoted by people only.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)


page_part(record_part)
