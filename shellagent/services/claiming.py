"""A host claims from its queue. What changed since the decision is decided again, and the stricter one counts."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.utils import timezone

from audit import driver
from audit.tags import Tag
from audit.trail import Party
from governance.policy.types import Outcome
from governance.terms import terms_of
from shellagent import limits, models, queries
from shellagent.models import Approval, Host, ShellSession
from shellagent.protocol import Assignment, PollRequest, StartGrant
from shellagent.services.approving import approvals_given
from shellagent.services.deciding import (
    Circumstances,
    Spec,
    StoredRequest,
    decision_again,
    decision_digest,
    spec_digest,
    stored_of,
)
from shellagent.services.granting import is_warranted, start_grants, warrant_of
from shellagent.services.hosts import host_party
from shellagent.services.looking import looks_wish
from shellagent.services.moving import Data, Move, moves_make, session_note, sessions_move, tell
from shellagent.services.starting import start_move
from shellagent.states import Status


@dataclass(frozen=True, slots=True)
class Claim:
    """What a host claimed, and the grants of those starts that it asked for with the claim."""

    assignments: tuple[Assignment, ...] = ()
    grants: tuple[StartGrant, ...] = ()


def sessions_claim(*, host: Host, request: PollRequest, asks_again: bool = True) -> Claim:
    """Claim up to the host's free slots; the same claim key gets the same sessions again.

    With a start key in the request, what is claimed is started too: its decision was looked at a moment before.
    With `asks_again`, at the first and the last look of a call, it is looked for what its key got before, where the
    answer was lost: so it may have in between, from a call that another process still held.
    """
    before = _claimed_before(host, request) if asks_again else Claim()
    return before if before.assignments else _claim(host, request)


def _claimed_before(host: Host, request: PollRequest) -> Claim:
    """Return again what this claim key got, where the answer was lost on its way."""
    before = [
        session
        for session in queries.claimed_with(host.pk, request.claim_key)
        if is_warranted(session) and (session.status == Status.CLAIMED or session.start_key == request.start_key)
    ]
    stored = stored_of(before)
    known = [session for session in before if session.pk in stored]
    return Claim(
        tuple(_assignment(session, *stored[session.pk]) for session in known),
        start_grants([session for session in known if session.status == Status.RUNNING]),
    )


def _claim(host: Host, request: PollRequest) -> Claim:
    now = timezone.now()
    # A transaction is not begun for an empty queue.
    if not (connection.in_atomic_block or queries.has_claimable(host.pk, now)):
        return Claim()
    with transaction.atomic(savepoint=False):
        candidates = queries.next_claimable(host.pk, now, min(request.free_slots, limits.CLAIM_BATCH))
        if not candidates:
            return Claim()
        ready = _still_allowed(candidates, host, now)
        data = {"claim_key": request.claim_key, "instance_id": request.instance_id}
        columns = {
            "claim_key": request.claim_key,
            "instance_id": request.instance_id,
            "boot_id": request.boot_id,
            "claimed_at": now,
            "lease_expires_at": now + timedelta(seconds=limits.LEASE_SECONDS),
        }
        claimed = [session for session, _assignment in ready]
        moves, actor = [Move(session, Status.CLAIMED, data, columns) for session in claimed], host_party(host)
        then = [[start_move(session, request.start_key, now) for session in claimed]] if request.start_key else []
        with driver.together():
            tell(moves_make(moves, *then, actor=actor))
        grants = start_grants(claimed) if request.start_key else ()
    return Claim(tuple(assignment for _session, assignment in ready), grants)


def _still_allowed(candidates: list[ShellSession], host: Host, now: datetime) -> list[tuple[ShellSession, Assignment]]:
    """Return those whose decision stands or is no stricter now. Moves the others to where they belong now."""
    stored = stored_of(candidates)
    links = queries.links_of_host(host.pk)
    of_now: dict[int, tuple[Circumstances, str]] = {}
    ready = []
    for session in candidates:
        session.host = host
        if session.pk not in stored:
            _move_away(session, Status.DENIED, {"why": "erased"}, now, "The command was erased.")
            continue
        request, spec = stored[session.pk]
        if not is_warranted(session):
            # Only the database says that it may run, and whoever can write there can write that.
            _move_away(session, Status.DENIED, {"why": "no warrant"}, now, "It was not this server that queued it.")
            continue
        if session.agent_id not in of_now:
            circumstances = Circumstances.of(
                agent=session.agent.name,
                maturity=session.agent.maturity,
                is_suspended=session.agent.is_suspended,
                host=host,
                link=links.get(session.agent_id),
            )
            of_now[session.agent_id] = circumstances, circumstances.digest
        circumstances, digest = of_now[session.agent_id]
        of_decision: Spec | None = spec
        if digest != session.circumstances:
            if spec_digest(spec, request, session) != session.digest:
                why = "What is kept of the command is not what was decided."
                _move_away(session, Status.DENIED, {"why": "altered"}, now, why)
                continue
            of_decision = _decide_again(session, request, circumstances, now)
        if of_decision is not None:
            ready.append((session, _assignment(session, request, of_decision)))
    return ready


def _decide_again(
    session: ShellSession, request: StoredRequest, circumstances: Circumstances, now: datetime
) -> Spec | None:
    """Take the decision again. Returns what may run, or None where the session had to be moved away."""
    decision, data = decision_again(session, models.Decision.Moment.CLAIM, request, circumstances, now)
    digest = decision_digest(decision, request, session)
    decided: dict[str, object] = {
        "outcome": decision.outcome.value,
        "category": decision.category.value,
        "policy_version": decision.policy_version,
        "circumstances": circumstances.digest,
        "digest": digest,
    }
    if decision.outcome is Outcome.DENY:
        _move_away(session, Status.DENIED, data, now, decision.explanation, **decided)
        return None
    standing = Approval.objects.filter(session=session, decision="approve", voided_at=None)
    terms = terms_of(decision.category, [rule.id for rule in decision.rules])
    if decision.outcome is Outcome.ASK and approvals_given(session.pk, digest) < terms.approvals:
        standing.update(voided_at=now)
        detail = f"The rules, the agent's maturity or the host changed since. {decision.explanation}"
        decided["expires_at"] = now + timedelta(minutes=terms.minutes)
        _move_away(session, Status.PENDING, data, now, detail, **decided)
        return None
    warrant = decided["warrant"] = warrant_of(session, digest)
    session_note(session.pk, Tag.SESSION_DECIDED_AGAIN, actor=host_party(session.host), data=data, **decided)
    session.digest, session.warrant = digest, warrant
    session.event_seq += 1
    return Spec.of(decision)


def _move_away(session: ShellSession, to: Status, data: Data, now: datetime, detail: str, **columns: object) -> None:
    if to is Status.PENDING:
        columns |= {"approval_required": True, "warrant": ""}
    else:
        columns["finished_at"] = now
    if to is Status.PENDING:
        looks_wish([session.host_id])
    actor: Party = host_party(session.host)
    sessions_move(
        [session.pk],
        to,
        actor=actor,
        sources=[Status.QUEUED],
        data=data,
        termination_detail=detail,
        **columns,
    )


def _assignment(session: ShellSession, request: StoredRequest, spec: Spec) -> Assignment:
    return Assignment(
        id=str(session.pk),
        digest=session.digest,
        plan=request.plan.to_json(),
        working_directory=session.working_directory,
        env=dict(request.env),
        timeout_seconds=session.timeout_seconds,
        grants=spec.grants,
        obligations=spec.obligations,
        protected=(),
        secrets=request.secrets,
        scripts=request.scripts,
    )
