"""Grants from a card: what a person approved once need not be asked again for a while.

A grant is an operator's rule that allows and expires, as narrow as rules can be: the words, this agent, this host, this
folder, from this maturity up. What it may never cover is decided by the engine, asked with the rule in force, so that
the page, this service and every later decision say the same.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from audit import canonical
from governance.errors import ConflictError, ForbiddenError, InvalidError
from governance.models import PolicyRule
from governance.policies import current_policy
from governance.policy.decide import Policy, build_policy
from governance.policy.plan import Command, Mode
from governance.policy.rules import GRANTABLE, OperatorRule, Pattern, PatternError, Scope
from governance.policy.types import Category, Decision, Outcome
from governance.services import rule_delete, rule_save, user_party
from shellagent.models import AgentHost, ShellSession
from shellagent.services.approving import may_approve, session_terms
from shellagent.services.deciding import Circumstances, StoredRequest, stored_of

GRANT_PERMISSION: Final = "governance.edit_policy"
#: The id of a rule that is not kept yet.
_OFFERED: Final = "new"
#: A shape of the program's name alone says enough only of these.
_PLAIN: Final = frozenset((Category.READ, Category.WRITE))


class GrantKind(StrEnum):
    """How much a grant covers."""

    COMMAND = "command"
    SHAPE = "shape"

    @property
    def hours(self) -> int:
        """Return how long it lasts."""
        return 24 if self is GrantKind.COMMAND else 7 * 24


@dataclass(frozen=True, slots=True)
class GrantOffer:
    """A grant as it would be. `refusal` says why it cannot be given; then there is no rule."""

    kind: GrantKind
    rule: OperatorRule | None = None
    refusal: str = ""

    @property
    def digest(self) -> str:
        """Return a digest of all that the grant covers."""
        return canonical.sha256(self.rule.to_json()) if self.rule else ""


def grant_offer(session: ShellSession, kind: GrantKind) -> GrantOffer:
    """Return what a grant of this kind would cover, or why there can be none. Nothing is kept."""
    stored = stored_of([session]).get(session.pk)
    if stored is None:
        return GrantOffer(kind, refusal="The command was erased.")
    request, _spec = stored
    link = AgentHost.objects.filter(agent_id=session.agent_id, host_id=session.host_id).first()
    circumstances = Circumstances.of(
        agent=session.agent.name,
        maturity=session.agent.maturity,
        is_suspended=session.agent.is_suspended,
        host=session.host,
        link=link,
    )
    before = circumstances.decide(request, session.working_directory)
    if refusal := _refusal(session, before):
        return GrantOffer(kind, refusal=refusal)
    try:
        rule = _rule(session, request, circumstances, kind, before)
    except PatternError as error:
        return GrantOffer(kind, refusal=str(error))
    # The engine has the last word: with the rule in force the command has to be let through, and by the rule.
    after = replace(circumstances, policy=policy_with(rule)).decide(request, session.working_directory)
    if after.outcome is Outcome.ALLOW and after.has_rule(rule.shown.id):
        return GrantOffer(kind, rule)
    others = [one.justification for one in before.rules if not one.id.startswith("matrix:")]
    why = " ".join(others) or "It runs another program: only one that is asked for by itself can be granted."
    return GrantOffer(kind, refusal=f"No grant may cover it. {why}")


def session_grant(*, session: ShellSession, kind: GrantKind, person: User, reason: str, seen: str) -> PolicyRule:
    """Give the grant, which `seen` (the digest of the offer that was shown) names. The session itself is not decided.

    Raises ForbiddenError for who may not approve it or lacks the permission to edit rules, InvalidError for what no
    grant may cover and without a reason, ConflictError where it is another than was seen, or is given already.
    """
    if refusal := may_grant(session, person):
        raise ForbiddenError(refusal)
    if not reason.strip():
        raise InvalidError("Say why: agents and approvers read it.", field="reason")
    offer = grant_offer(session, kind)
    if offer.rule is None:
        raise InvalidError(offer.refusal)
    if offer.digest != seen:
        raise ConflictError("What it would cover has changed since you saw it. Read it again, then decide.")
    rule, now = offer.rule, timezone.now()
    row = PolicyRule(
        name=f"grant {kind} {session.pk}",
        tokens=rule.pattern.source(),
        is_whole=rule.pattern.is_whole,
        outcome=Outcome.ALLOW,
        justification=" ".join(reason.split())[:300],
        agents=list(rule.scope.agents),
        hosts=list(rule.scope.hosts),
        least_maturity=str(rule.scope.least_maturity or ""),
        directories=list(rule.scope.directories),
        expires_at=now + timedelta(hours=kind.hours),
        examples=[rule.pattern.source()],
        granted_from=session.pk,
    )
    actor = user_party(person)
    with transaction.atomic():
        known = PolicyRule.objects.filter(name=row.name).first()
        if known is not None and known.expires_at is not None and known.expires_at <= now:
            rule_delete(row=known, actor=actor)
        try:
            rule_save(row=row, actor=actor)
        except ValidationError as error:
            raise ConflictError(f"It is granted already, or cannot be: {' '.join(error.messages)}") from error
    return row


def may_grant(session: ShellSession, person: User) -> str:
    """Return why this person may not give a grant from this session, or an empty text where they may."""
    if refusal := may_approve(session, person):
        return refusal
    if not person.has_perm(GRANT_PERMISSION):
        return "You lack the permission to edit the rules, which a grant is one of."
    return ""


def policy_with(rule: OperatorRule) -> Policy:
    """Return the policy in force with this rule besides."""
    policy = current_policy()
    return build_policy(policy.matrix, policy.directories, [*policy.rules, rule])


def _rule(
    session: ShellSession,
    request: StoredRequest,
    circumstances: Circumstances,
    kind: GrantKind,
    before: Decision,
) -> OperatorRule:
    """Return the narrowest rule. Raises PatternError for what no rule can say."""
    commands = list(request.plan.commands())
    if len(commands) != 1:
        raise PatternError("A grant is for one command; this line has several.")
    if request.env or request.secrets:
        raise PatternError("A grant cannot say which environment and which secrets a command is given.")
    words = [word.literal for word in commands[0].argv]
    if None in words or any(redirect.mode is not Mode.READ for redirect in commands[0].redirects):
        raise PatternError("A grant is for words as they are; this line has patterns, variables or redirects.")
    folder = session.working_directory or circumstances.facts.scratch
    if not folder.startswith("/") or folder.rstrip("/") in ("", circumstances.facts.home.rstrip("/")):
        raise PatternError("A grant is for a folder, and this command works in none of its own.")
    is_whole = kind is GrantKind.COMMAND
    texts = [word or "" for word in words] if is_whole else _shape(commands[0], before)
    pattern = Pattern(tuple((text,) for text in texts), is_whole)
    if len(pattern.source()) > 500 or Pattern.read(pattern.source(), is_whole=is_whole) != pattern:
        raise PatternError("Its words cannot be written as a rule.")
    scope = Scope(
        agents=(session.agent_label,),
        hosts=(session.host_label,),
        least_maturity=circumstances.maturity,
        directories=(folder,),
    )
    return OperatorRule(_OFFERED, f"grant {kind}", pattern, Outcome.ALLOW, "Granted for a while.", scope)


def _shape(command: Command, decision: Decision) -> list[str]:
    """Return a command's first words, up to the first that is neither a subcommand nor an option."""
    subcommands = {token.text for token in decision.tokens if token.role == "subcommand"}
    texts = [word.literal or "" for word in command.argv]
    end = 1
    while end < len(texts) and (texts[end] in subcommands or texts[end].startswith("-")):
        end += 1
    if end == 1 and decision.category not in _PLAIN:
        raise PatternError("Its program's name alone says too little of what it does; grant the exact command.")
    return texts[:end]


def _refusal(session: ShellSession, before: Decision) -> str:
    """Return why no grant may be given for what was decided like this, whatever its words, or an empty text."""
    if before.outcome is Outcome.ALLOW:
        return "It runs without asking already."
    if before.outcome is Outcome.DENY:
        return f"It is denied, and no grant changes that. {before.explanation}"
    terms = session_terms(session)
    if terms.needs_code or terms.approvals > 1:
        return "Two people, or a one-time code, are needed for this each time; a grant would go around that."
    if before.scripts:
        return "It runs files that the agent may change, so that what is granted would not be what runs."
    if before.category not in GRANTABLE:
        return f"No grant may cover it. {before.category} commands are a person's to decide every time."
    return ""
