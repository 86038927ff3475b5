"""What takes trust from an agent, at once and by itself: each in the transaction of what the agent did.

A violation is kept for the score, whatever the rules say. A demotion is one maturity down, where an operator's row
lists what happened. What waits in a queue is decided again then, because the maturity is among the circumstances.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from django.utils import timezone

from audit.trail import SYSTEM
from governance.models import Agent, DemotionRow, Violation
from governance.policy.types import Decision, Maturity, Outcome
from governance.services import agent_set_maturity
from shellagent.models import Approval, ShellSession
from shellagent.protocol import Reason
from shellagent.records import sessions_since
from shellagent.states import Status

#: What the engine's rules mean; the first that a denied command met counts.
_KINDS = {
    "blocked": Violation.Kind.BLOCKED_COMMAND,
    "protected-path": Violation.Kind.PROTECTED_PATH,
    "contains-protected": Violation.Kind.PROTECTED_PATH,
    "protected-host": Violation.Kind.PROTECTED_HOST,
    "environment": Violation.Kind.ENVIRONMENT,
}
#: People's words on so many of an agent's newest sessions are looked at.
_LOOKED_AT = 200


def violations_keep(denied: Iterable[tuple[ShellSession, Decision]]) -> None:
    """Keep what of these denied requests was a violation, and demote their agents where a rule lists it."""
    # Always in the same order, so that two transactions that demote the same agents do not wait for each other.
    for session, decision in sorted(denied, key=lambda item: item[0].agent_id):
        kind = _kind_of(decision)
        if kind is None or session.requester_user_id is not None:
            continue
        now = timezone.now()
        Violation.objects.create(agent_id=session.agent_id, session_id=session.pk, kind=kind, happened_at=now)

        def times(since: datetime, agent_id: int = session.agent_id, kind: str = kind) -> int:
            return Violation.objects.filter(agent_id=agent_id, kind=kind, happened_at__gt=since).count()

        _demote(session, DemotionRow.Kind(kind.value), times)


def rejection_judge(session: ShellSession) -> None:
    """Demote the agent where this rejection was one too many in a row, among what people decided."""

    def times(since: datetime) -> int:
        newest = ShellSession.objects.filter(agent_id=session.agent_id, requester_user=None).order_by("-id")
        ids = list(newest.values_list("pk", flat=True)[:_LOOKED_AT])
        words = Approval.objects.filter(session_id__in=ids, voided_at=None, decided_at__gt=since)
        row = 0
        for word in words.order_by("-decided_at", "-id").values_list("decision", flat=True):
            if word != "reject":
                break
            row += 1
        return row

    _demote(session, DemotionRow.Kind.REJECTIONS, times)


def refusal_judge(session: ShellSession) -> None:
    """Demote the agent where its host refused what is above its ceiling once too often."""

    def times(since: datetime) -> int:
        rows = sessions_since(session.agent_id, since).values_list("status", "termination_reason")
        return list(rows).count((Status.REFUSED.value, Reason.HOST_CEILING.value))

    if session.termination_reason == Reason.HOST_CEILING:
        _demote(session, DemotionRow.Kind.HOST_REFUSALS, times)


def _demote(session: ShellSession, kind: DemotionRow.Kind, times: Callable[[datetime], int]) -> None:
    """Take the agent one maturity down where a row lists this and it happened often enough at this maturity."""
    row = DemotionRow.objects.filter(kind=kind).first()
    if row is None or session.requester_user_id is not None:
        return
    # With the weaker lock: see `agent_set_maturity`.
    agent = Agent.objects.select_for_update(no_key=True).get(pk=session.agent_id)
    maturity = Maturity(agent.maturity)
    if maturity.rank == 0 or times(agent.maturity_since or agent.created_at) < row.times:
        return
    often = f", {row.times} times" if row.times > 1 else ""
    agent_set_maturity(
        agent=agent,
        maturity=list(Maturity)[maturity.rank - 1],
        reason=f"Demoted by rule: the agent {kind.label}{often}.",
        actor=SYSTEM,
        because={"rule": kind.value, "session": str(session.pk)},
    )


def _kind_of(decision: Decision) -> Violation.Kind | None:
    denying = [rule.id for rule in decision.rules if rule.outcome is Outcome.DENY]
    return next((kind for rule, kind in _KINDS.items() if rule in denying), None)
