"""The last sessions, decided again by other rules. Nothing is written.

The command, its folder and the maturity are those of the request; what the host reports of itself, and the folder that
the agent was given there, are those of now.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from audit.models import AuditPayload
from audit.trail import payloads_of
from governance.policy.decide import Policy
from governance.policy.types import Maturity, Outcome
from governance.previews import Change, Replay
from shellagent.models import AgentHost, Decision, Host, ShellSession
from shellagent.services.deciding import Circumstances, StoredRequest

_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """One session as it was asked for. `request` is None where it was erased."""

    session: ShellSession
    maturity: Maturity
    #: What was decided then.
    recorded: Outcome
    request: StoredRequest | None
    circumstances: Circumstances

    def decide(self, policy: Policy) -> tuple[Outcome, tuple[str, ...], str]:
        """Return what another policy would say: the outcome, the ids of its rules and the explanation."""
        if self.request is None:
            raise ValueError("an erased request cannot be decided")
        circumstances = replace(self.circumstances, policy=policy, maturity=self.maturity, bar="")
        decision = circumstances.decide(self.request, self.session.working_directory)
        return decision.outcome, tuple(rule.id for rule in decision.rules), decision.explanation


Before: TypeAlias = Callable[[Asked], Outcome]


def sessions_replay(after: Policy, *, last: int, before: Policy | None = None) -> Replay:
    """Return what would change for the last sessions; without `before`, against what was decided then."""

    def was(asked: Asked) -> Outcome:
        return asked.decide(before)[0] if before else asked.recorded

    total = erased = allowed_before = allowed_after = 0
    changes = []
    for asked in _last(last):
        if asked.request is None:
            erased += 1
            continue
        first = was(asked)
        outcome, rules, why = asked.decide(after)
        total += 1
        allowed_before += first is Outcome.ALLOW
        allowed_after += outcome is Outcome.ALLOW
        if outcome is not first:
            session = asked.session
            changes.append(
                Change(
                    str(session.pk),
                    session.agent_label,
                    session.host_label,
                    str(asked.maturity),
                    asked.request.plan.source(),
                    first,
                    outcome,
                    rules,
                    why,
                )
            )
    return Replay(total, erased, allowed_before, allowed_after, tuple(changes))


class SessionHistory:
    """What the admin of rules asks of sessions."""

    def replay(self, before: Policy, after: Policy, last: int) -> Replay:
        """Return the last sessions, decided by both policies."""
        return sessions_replay(after, last=last, before=before)

    def host_names(self) -> list[str]:
        """Return the names of all hosts."""
        return list(Host.objects.order_by("name").values_list("name", flat=True))


def _last(count: int) -> Iterator[Asked]:
    """Yield the last sessions, newest first, in batches, so that their requests are not all in memory at once."""
    links = {(link.agent_id, link.host_id): link for link in AgentHost.objects.all()}
    known: dict[tuple[int, int], Circumstances] = {}
    sessions = ShellSession.objects.select_related("host").order_by("-id")
    while count > 0 and (batch := list(sessions[: min(_BATCH, count)])):
        count -= len(batch)
        # By key and not by number, so that what is asked for meanwhile moves nothing.
        sessions = sessions.filter(pk__lt=batch[-1].pk)
        ids = [session.pk for session in batch]
        requests = {row.session_id: row.data for row in payloads_of(ids, AuditPayload.Kind.REQUEST)}
        decisions = {row.session_id: row for row in Decision.objects.filter(session_id__in=ids, number=0)}
        for session in batch:
            decision, place = decisions.get(session.pk), (session.agent_id, session.host_id)
            if decision is None:
                continue
            if place not in known:
                known[place] = Circumstances.of(
                    agent=session.agent_label,
                    maturity=decision.maturity,
                    is_suspended=False,
                    host=session.host,
                    link=links.get(place),
                )
            data = requests.get(session.pk)
            yield Asked(
                session,
                Maturity(decision.maturity),
                Outcome(decision.outcome),
                StoredRequest.read(data) if data is not None else None,
                known[place],
            )
