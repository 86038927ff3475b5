"""Promotions: proposed at night by a record, granted by a person, never by the product itself."""

from collections.abc import Mapping

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from audit.tags import Tag
from audit.trail import SYSTEM, Event, record
from governance.errors import ConflictError, ForbiddenError, InvalidError
from governance.models import Agent, PromotionProposal
from governance.policy.types import Maturity
from governance.services import agent_party, agent_set_maturity, user_party
from shellagent.records import AgentRecord, agent_record

_Status = PromotionProposal.Status


def promotions_review() -> dict[str, int]:
    """Look at every agent's record: propose what it earned, withdraw what no longer holds. Returns how many of each."""
    done = {"proposed": 0, "withdrawn": 0}
    for agent_id in Agent.objects.exclude(maturity=Maturity.AUTONOMOUS).order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            if what := _review(agent_id):
                done[what] += 1
    return done


def promotion_grant(*, proposal: PromotionProposal, person: User, reason: str) -> PromotionProposal:
    """Give the agent what was proposed. Raises ForbiddenError, InvalidError without a reason, and ConflictError.

    The last where it is decided already, or where the record is not what it was: then it is withdrawn.
    """
    with transaction.atomic():
        agent = Agent.objects.select_for_update(no_key=True).get(pk=proposal.agent_id)
        taken = _decide(proposal, person, _Status.GRANTED, reason)
        found = agent_record(agent)
        if agent.maturity == taken.before and found.is_ready and not agent.is_suspended:
            agent_set_maturity(
                agent=agent,
                maturity=Maturity(taken.after),
                reason=reason,
                actor=user_party(person),
                because={"proposal": taken.pk},
            )
            return taken
        transaction.set_rollback(True)
    why = "; ".join(gap.words for gap in found.gaps) or "its maturity changed, or it is suspended"
    with transaction.atomic():
        _withdraw(agent, f"When it was to be granted: {why}.")
    raise ConflictError(f"Its record is no longer what it was: {why}. The proposal is withdrawn.")


def promotion_decline(*, proposal: PromotionProposal, person: User, reason: str) -> PromotionProposal:
    """Turn a proposal down; from here on the agent has to earn it anew. Raises as `promotion_grant` does."""
    with transaction.atomic():
        taken = _decide(proposal, person, _Status.DECLINED, reason)
        data = {"before": taken.before, "after": taken.after, "reason": taken.reason, "proposal": taken.pk}
        record(Event(Tag.PROMOTION_DECLINED, user_party(person), agent_party(taken.agent), data=data))
    return taken


def record_figures(found: AgentRecord) -> Mapping[str, int]:
    """Return what a proposal and its event keep of a record: whole numbers, the score in thousandths."""
    earned = found.earned
    return {
        "decided": earned.decided,
        "counted": earned.counted,
        "interventions": earned.interventions,
        "violations": earned.violations,
        "score_thousandths": int(earned.score * 1000),
    }


def _review(agent_id: int) -> str:
    agent = Agent.objects.select_for_update(no_key=True).get(pk=agent_id)
    found = agent_record(agent)
    is_ready = found.is_ready and not agent.is_suspended
    is_pending = agent.proposals.filter(status=_Status.PENDING).exists()
    if is_pending and not is_ready:
        _withdraw(agent, "; ".join(gap.words for gap in found.gaps) or "It is suspended.")
        return "withdrawn"
    if is_pending or not is_ready or found.next is None:
        return ""
    after, figures = found.next.maturity, record_figures(found)
    proposal = PromotionProposal.objects.create(
        agent=agent,
        agent_label=agent.name,
        before=agent.maturity,
        after=after,
        figures=dict(figures),
        proposed_at=timezone.now(),
    )
    data = {"before": agent.maturity, "after": str(after), "proposal": proposal.pk, **figures}
    record(Event(Tag.PROMOTION_PROPOSED, SYSTEM, agent_party(agent), data=data))
    return "proposed"


def _withdraw(agent: Agent, why: str) -> None:
    pending = agent.proposals.filter(status=_Status.PENDING)
    for proposal in pending:
        if pending.filter(pk=proposal.pk).update(status=_Status.WITHDRAWN, decided_at=timezone.now(), reason=why):
            data = {"before": proposal.before, "after": proposal.after, "why": why, "proposal": proposal.pk}
            record(Event(Tag.PROMOTION_WITHDRAWN, SYSTEM, agent_party(agent), data=data))


def _decide(
    proposal: PromotionProposal, person: User, status: PromotionProposal.Status, reason: str
) -> PromotionProposal:
    if not person.has_perm("governance.change_maturity"):
        raise ForbiddenError("You lack the permission to change an agent's maturity.")
    if not reason.strip():
        raise InvalidError("Say why: the reason is kept in the audit trail.", field="reason")
    columns = {"decided_at": timezone.now(), "decided_by": person, "decided_label": person.get_username()}
    pending = PromotionProposal.objects.filter(pk=proposal.pk, status=_Status.PENDING)
    taken = pending.update(status=status, reason=reason.strip(), **columns)
    fresh = PromotionProposal.objects.select_related("agent").get(pk=proposal.pk)
    if not taken:
        by = f" by {fresh.decided_label}" if fresh.decided_label else ""
        raise ConflictError(f"This is {fresh.status} already{by}.", status_now=fresh.status)
    return fresh
