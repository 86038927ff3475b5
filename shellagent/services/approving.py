"""A person decides on a session that waits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from audit.seal_bell import seal_on_commit
from audit.tags import Tag
from audit.trail import Event, record
from governance.codes import code_check
from governance.errors import CodeRequiredError, ForbiddenError, InvalidError, ProblemError
from governance.policy.types import Decision, Outcome
from governance.services import user_party
from governance.terms import Terms, terms_of
from shellagent import limits, models, wake
from shellagent.errors import StateError
from shellagent.models import AgentHost, Approval, ShellSession
from shellagent.services.deciding import Circumstances, decision_again, decision_digest, stored_of
from shellagent.services.demoting import rejection_judge
from shellagent.services.granting import warrant_of
from shellagent.services.moving import session_about, session_note, session_party, sessions_move
from shellagent.services.tidying import session_expire
from shellagent.states import Status

APPROVE_PERMISSION = "shellagent.approve"
_CHANGED = "What would run has changed since you saw it. Read it again, then decide."
_DONE = {"approve": "approved", "reject": "rejected"}


@dataclass(frozen=True, slots=True)
class Word:
    """One person's word: whose, why, from where, when, and whether a one-time code came with it."""

    approver: User
    reason: str
    address: str | None
    said_at: datetime
    has_code: bool = False


def session_approve(
    *,
    session: ShellSession,
    approver: User,
    reason: str = "",
    digest: str = "",
    address: str | None = None,
    code: str = "",
) -> ShellSession:
    """Approve a pending session; the decision is taken again first, and the stricter one counts.

    `digest`, where given, must be that of the session: it is what the approver saw. Where two people have to approve,
    the session stays pending after the first. Raises ForbiddenError for who may not approve it, CodeRequiredError where
    a one-time code is needed and `code` is none, StateError where it is no longer pending or is not what was seen.
    """
    ((approved, error),) = sessions_approve(
        sessions=[session], approver=approver, reason=reason, digest=digest, address=address, code=code
    )
    if error is not None:
        raise error
    return approved


def sessions_approve(
    *,
    sessions: Sequence[ShellSession],
    approver: User,
    reason: str = "",
    digest: str = "",
    address: str | None = None,
    code: str = "",
) -> list[tuple[ShellSession, ProblemError | None]]:
    """Approve several sessions, each in a transaction of its own, with one code for all of them.

    Returns each as it stands then, with the error that kept it from being approved, as `session_approve` raises it.
    """
    refused: dict[UUID, ProblemError] = {}
    for session in sessions:
        try:
            _check_approver(session, approver)
            session_expire(session.pk)
            _check_pending(session.pk, digest)
        except ProblemError as error:
            refused[session.pk] = error
    decidable = [session for session in sessions if session.pk not in refused]
    has_code = False
    if decidable and (code or any(session_terms(session).needs_code for session in decidable)):
        try:
            code_check(approver, code)
            has_code = True
        except CodeRequiredError as error:
            refused |= {session.pk: error for session in decidable}
    found: list[tuple[ShellSession, ProblemError | None]] = []
    for session in sessions:
        word = Word(approver, reason, address, timezone.now(), has_code)
        why_not = refused.get(session.pk) or _approve(session, digest, word)
        found.append((_reread(session), why_not))
    return found


def session_reject(
    *, session: ShellSession, approver: User, reason: str, digest: str = "", address: str | None = None
) -> ShellSession:
    """Reject a pending session; the agent gets the reason. Raises as `session_approve` does, and without a reason."""
    if not reason.strip():
        raise InvalidError("Say why you reject it: the agent gets your reason.", field="reason")
    _check_approver(session, approver)
    session_expire(session.pk)
    word = Word(approver, reason, address, timezone.now())
    with transaction.atomic():
        locked = _pending(session, digest)
        # Whoever approved it first may change their mind, and one rejection is enough.
        _standing(locked).update(voided_at=word.said_at)
        _approval(session=locked, decision="reject", word=word)
        _moved_or_raise(
            sessions_move(
                ShellSession.objects.filter(pk=locked.pk),
                Status.REJECTED,
                actor=user_party(approver),
                data={"reason": reason, "digest": locked.digest, "address": address},
                finished_at=word.said_at,
                intervention="rejected",
            ),
            session,
        )
        rejection_judge(locked)
    return _reread(session)


def may_approve(session: ShellSession, user: User) -> str:
    """Return why this person may not decide on this session, or an empty text where they may.

    The rule that nobody approves their own request is asked first, because a superuser has every permission.
    """
    if session.requester_user_id == user.pk:
        return "You asked for this yourself; somebody else has to decide."
    if not settings.ATOM_OWNER_MAY_APPROVE and session.agent.owner_id == user.pk:
        return "You own this agent, and owners may not approve here (ATOM_OWNER_MAY_APPROVE=0)."
    if not (user.is_active and user.has_perm(APPROVE_PERMISSION)):
        return "You lack the permission to approve commands."
    return ""


def session_terms(session: ShellSession) -> Terms:
    """Return on which terms a session is approved, by its newest decision and the rules of now."""
    newest = models.Decision.objects.filter(session_id=session.pk).order_by("-number").first()
    return terms_of(session.category, newest.rules if newest else ())


def approvals_given(session_id: UUID, digest: str) -> int:
    """Return how many people have approved exactly this, and may still."""
    rows = Approval.objects.filter(session_id=session_id, decision="approve", voided_at=None, digest=digest)
    return rows.filter(approver__is_active=True).count()


def _check_approver(session: ShellSession, user: User) -> None:
    if refusal := may_approve(session, user):
        with transaction.atomic():
            party, data = session_party(session.pk), {"why": refusal}
            record(Event(Tag.APPROVAL_REFUSED, user_party(user), party, "", data, about=session_about(session)))
        raise ForbiddenError(refusal)


def _check_pending(session_id: UUID, digest: str) -> None:
    """Look before a code is spent; what counts is looked at again under the lock."""
    _check_stands(ShellSession.objects.get(pk=session_id), digest)


def _pending(session: ShellSession, digest: str) -> ShellSession:
    # Compared under the lock: somebody else's decision may just have put another digest in place of the one seen.
    locked = ShellSession.objects.select_for_update(of=("self",)).select_related("agent", "host").get(pk=session.pk)
    _check_stands(locked, digest)
    return locked


def _check_stands(session: ShellSession, digest: str) -> None:
    if session.status != Status.PENDING:
        raise _state_error(session)
    if digest and digest != session.digest:
        raise StateError(_CHANGED)


def _approve(session: ShellSession, digest: str, word: Word) -> ProblemError | None:
    try:
        with transaction.atomic():
            is_as_seen = _approve_locked(_pending(session, digest), word)
    except ProblemError as error:
        return error
    return None if is_as_seen else StateError(_CHANGED)


def _approve_locked(session: ShellSession, word: Word) -> bool:
    """Decide again and act on it. Returns False where what would run is no longer what the approver saw."""
    stored = stored_of([session])
    if session.pk not in stored:
        raise StateError("The command was erased; it can no longer be approved.")
    request, _spec = stored[session.pk]
    link = AgentHost.objects.filter(agent_id=session.agent_id, host_id=session.host_id).first()
    circumstances = Circumstances.of(
        agent=session.agent.name,
        maturity=session.agent.maturity,
        is_suspended=session.agent.is_suspended,
        host=session.host,
        link=link,
    )
    decision, data = decision_again(session, models.Decision.Moment.APPROVAL, request, circumstances, word.said_at)
    digest = decision_digest(decision, request, session)
    decided = {
        "outcome": decision.outcome.value,
        "category": decision.category.value,
        "policy_version": decision.policy_version,
        "circumstances": circumstances.digest,
    }
    data |= {"reason": word.reason, "digest": digest, "address": word.address, "code": word.has_code}
    actor = user_party(word.approver)
    if decision.outcome is Outcome.DENY:
        _move(session, Status.DENIED, word, data, termination_detail=decision.explanation, **decided)
        return True
    if digest != session.digest:
        _standing(session).update(voided_at=word.said_at)
        session_note(session.pk, Tag.SESSION_DECIDED_AGAIN, actor=actor, data=data, digest=digest, **decided)
        return False
    given, required = _given(session, decision, word)
    if given < required:
        data |= {"given": given, "required": required}
        session_note(session.pk, Tag.SESSION_APPROVED_BY_ONE, actor=actor, data=data, **decided)
        return True
    _move(session, Status.QUEUED, word, data, warrant=warrant_of(session, digest), **decided)
    wake.ring_on_commit(wake.host_channel(session.host_id))
    return True


def _given(session: ShellSession, decision: Decision, word: Word) -> tuple[int, int]:
    """Write the approval. Returns how many there are with it, and how many there have to be."""
    terms = terms_of(decision.category, [rule.id for rule in decision.rules])
    if terms.needs_code and not word.has_code:
        raise CodeRequiredError
    # What was approved of another digest counts no more.
    _standing(session).exclude(digest=session.digest).update(voided_at=word.said_at)
    if _standing(session).filter(approver=word.approver).exists():
        raise StateError("You have approved this already. Another person has to be the second.")
    _approval(session=session, decision="approve", word=word)
    # Governance allows it by itself now: nobody else is needed.
    required = terms.approvals if decision.outcome is Outcome.ASK else 1
    return approvals_given(session.pk, session.digest), required


def _move(session: ShellSession, to: Status, word: Word, data: dict[str, object], **columns: object) -> None:
    if to is Status.QUEUED:
        # Why it came back to people, where it did, is answered now.
        columns["termination_detail"] = ""
        columns["expires_at"] = word.said_at + timedelta(seconds=limits.QUEUED_SECONDS)
    else:
        columns["finished_at"] = word.said_at
    only, actor = ShellSession.objects.filter(pk=session.pk), user_party(word.approver)
    _moved_or_raise(sessions_move(only, to, actor=actor, sources=[Status.PENDING], data=data, **columns), session)


def _standing(session: ShellSession) -> QuerySet[Approval]:
    return Approval.objects.filter(session_id=session.pk, voided_at=None)


def _approval(*, session: ShellSession, decision: str, word: Word) -> None:
    seal_on_commit()
    Approval.objects.create(
        session=session,
        decision=decision,
        digest=session.digest,
        approver=word.approver,
        approver_label=word.approver.get_username(),
        address=word.address,
        reason=word.reason.strip(),
        decided_at=word.said_at,
    )


def _moved_or_raise(moved: list[UUID], session: ShellSession) -> None:
    if not moved:
        raise _state_error(_reread(session))


def _state_error(session: ShellSession) -> StateError:
    """Return the error that says what stands, and who was first."""
    first = Approval.objects.filter(session_id=session.pk, voided_at=None).order_by("-decided_at").first()
    extra: dict[str, object] = {"status_now": session.status, "session_id": str(session.pk)}
    if first is None:
        return StateError(f"This is {session.status} already.", **extra)
    ago = max(0, int((timezone.now() - first.decided_at).total_seconds()))
    done = _DONE[first.decision]
    extra |= {"decided_by": first.approver_label, "decided_at": first.decided_at.isoformat(), "decision": done}
    return StateError(f"This is {session.status} already: {first.approver_label} {done} it {ago} s ago.", **extra)


def _reread(session: ShellSession) -> ShellSession:
    return ShellSession.objects.select_related("agent", "host").get(pk=session.pk)
