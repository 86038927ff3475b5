"""Every change of an agent, a key or a rule, each with its audit event in the same transaction."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeAlias

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from audit.tags import Tag
from audit.trail import Event, Party, record
from governance import keys
from governance.errors import ConflictError, InvalidError
from governance.models import (
    Agent,
    AgentKey,
    ApprovalTerms,
    DemotionRow,
    DirectoryRow,
    MatrixRow,
    PolicyRule,
    PromotionProposal,
    PromotionRow,
)
from governance.policies import policy_changed
from governance.policy.rules import OPERATOR
from governance.policy.types import Decision, Maturity, Outcome

NO_CAUSE: Final[Mapping[str, object]] = MappingProxyType({})
RuleRow: TypeAlias = MatrixRow | DirectoryRow | PolicyRule | ApprovalTerms | PromotionRow | DemotionRow


def agent_party(agent: Agent) -> Party:
    """Return the agent as the trail names it."""
    return Party("agent", str(agent.pk), agent.name)


def user_party(user: User) -> Party:
    """Return a person as the trail names them."""
    return Party("user", str(user.pk), user.get_username())


@transaction.atomic
def agent_create(*, name: str, owner: User, actor: Party, maturity: Maturity = Maturity.STUDENT) -> Agent:
    """Register an agent. Raises ValidationError for a name that is malformed or taken."""
    agent = Agent(name=name, owner=owner, maturity=maturity)
    agent.full_clean()
    agent.save()
    record(Event(Tag.AGENT_CREATED, actor, agent_party(agent), data={"maturity": maturity, "owner": str(owner.pk)}))
    return agent


@transaction.atomic
def agent_set_maturity(
    *, agent: Agent, maturity: Maturity, reason: str, actor: Party, because: Mapping[str, object] = NO_CAUSE
) -> Agent:
    """Change what the agent may do; `because` is told with the event. A promotion that waits is withdrawn.

    Raises InvalidError without a reason, ConflictError where it has that level.
    """
    reason = _reason(reason)
    # A demotion comes with a session, whose insert has taken the weaker lock that two may hold at once.
    locked = Agent.objects.select_for_update(no_key=True).get(pk=agent.pk)
    if locked.maturity == maturity:
        raise ConflictError(f"{locked.name} is {maturity} already.")
    before, locked.maturity, locked.maturity_since = locked.maturity, maturity, timezone.now()
    locked.save(update_fields=["maturity", "maturity_since"])
    record(
        Event(
            Tag.AGENT_MATURITY_CHANGED,
            actor,
            agent_party(locked),
            outcome=maturity,
            data={"before": before, "after": maturity, "reason": reason, **because},
        )
    )
    waiting = PromotionProposal.objects.filter(agent=locked, status=PromotionProposal.Status.PENDING)
    waiting.update(
        status=PromotionProposal.Status.WITHDRAWN, decided_at=timezone.now(), reason=f"It is {maturity} now: {reason}"
    )
    return locked


@transaction.atomic
def agent_set_suspended(*, agent: Agent, is_suspended: bool, reason: str, actor: Party) -> Agent:
    """Suspend or resume an agent. Raises InvalidError without a reason, ConflictError where it is so already."""
    reason = _reason(reason)
    changed = Agent.objects.filter(pk=agent.pk, is_suspended=not is_suspended).update(is_suspended=is_suspended)
    if not changed:
        raise ConflictError(f"{agent.name} is {'suspended' if is_suspended else 'active'} already.")
    tag = Tag.AGENT_SUSPENDED if is_suspended else Tag.AGENT_RESUMED
    record(Event(tag, actor, agent_party(agent), data={"reason": reason}))
    agent.refresh_from_db()
    return agent


@transaction.atomic
def key_issue(*, agent: Agent, actor: Party, label: str = "", expires_at: datetime | None = None) -> str:
    """Return a new key of the agent: the only time that it can be read."""
    made = keys.make(keys.KeyKind.AGENT)
    AgentKey.objects.create(agent=agent, label=label, prefix=made.prefix, digest=made.digest, expires_at=expires_at)
    record(Event(Tag.KEY_ISSUED, actor, agent_party(agent), data={"prefix": made.prefix, "label": label}))
    return made.text


@transaction.atomic
def key_revoke(*, key: AgentKey, actor: Party) -> None:
    """Revoke a key at once. Raises ConflictError where it is revoked already."""
    if not AgentKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
        raise ConflictError("This key is revoked already.")
    record(Event(Tag.KEY_REVOKED, actor, agent_party(key.agent), data={"prefix": key.prefix, "label": key.label}))


@transaction.atomic
def rule_save(*, row: RuleRow, actor: Party) -> None:
    """Save a rule, tell every process, and write what was before and after."""
    before = type(row).objects.filter(pk=row.pk).first() if row.pk else None
    if isinstance(row, PolicyRule):
        row.author = actor.label
    row.full_clean()
    row.save()
    policy_changed()
    data = {"before": _columns(before), "after": _columns(row)}
    record(Event(Tag.RULE_CHANGED, actor, _rule_party(row), data=data))


@transaction.atomic
def rule_delete(*, row: RuleRow, actor: Party) -> None:
    """Remove a rule, tell every process, and write what was before. A missing matrix cell denies."""
    party, before = _rule_party(row), _columns(row)
    row.delete()
    policy_changed()
    record(Event(Tag.RULE_DELETED, actor, party, data={"before": before, "after": None}))


def grants_count(decisions: Iterable[Decision]) -> None:
    """Count, in the caller's transaction, which grants let these decided requests through."""
    ids = [rule.id for decision in decisions for rule in decision.rules if rule.outcome is Outcome.ALLOW]
    used = Counter(name.removeprefix(OPERATOR) for name in ids if name.startswith(OPERATOR))
    # Always in the same order, so that two transactions that count the same grants do not wait for each other.
    for number, times in sorted(used.items()):
        if number.isdecimal():
            PolicyRule.objects.filter(pk=int(number)).update(used=F("used") + times)


def _reason(text: str) -> str:
    if not text.strip():
        raise InvalidError("Say why: the reason is kept in the audit trail.")
    return text.strip()


def _rule_party(row: RuleRow) -> Party:
    return Party("rule", f"{row._meta.model_name}:{row.pk}", str(row))


def _columns(row: RuleRow | None) -> Mapping[str, str] | None:
    if row is None:
        return None
    return {field.name: str(getattr(row, field.name)) for field in row._meta.concrete_fields if field.name != "id"}
