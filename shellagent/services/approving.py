"""A person decides on a session that waits."""

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from audit.seal_bell import seal_on_commit
from audit.tags import Tag
from audit.trail import Event, record
from governance.errors import ForbiddenError, InvalidError
from governance.policy.types import Outcome
from governance.services import user_party
from shellagent import limits, models, wake
from shellagent.errors import StateError
from shellagent.models import AgentHost, Approval, ShellSession
from shellagent.services.deciding import Circumstances, decision_again, decision_digest, stored_of
from shellagent.services.granting import warrant_of
from shellagent.services.moving import session_about, session_note, session_party, sessions_move
from shellagent.services.tidying import session_expire
from shellagent.states import Status

APPROVE_PERMISSION = "shellagent.approve"
_CHANGED = "What would run has changed since you saw it. Read it again, then decide."


def session_approve(
    *, session: ShellSession, approver: User, reason: str = "", digest: str = "", address: str | None = None
) -> ShellSession:
    """Approve a pending session; the decision is taken again first, and the stricter one counts.

    `digest`, where given, must be that of the session: it is what the approver saw. Raises ForbiddenError for who may
    not approve it, StateError where it is no longer pending or is not what was seen.
    """
    _check_approver(session, approver)
    session_expire(session.pk)
    now = timezone.now()
    with transaction.atomic():
        is_as_seen = _approve_locked(_pending(session, digest), approver, reason, address, now)
    if not is_as_seen:
        raise StateError(_CHANGED)
    return _reread(session)


def session_reject(
    *, session: ShellSession, approver: User, reason: str, digest: str = "", address: str | None = None
) -> ShellSession:
    """Reject a pending session; the agent gets the reason. Raises as `session_approve` does, and without a reason."""
    if not reason.strip():
        raise InvalidError("Say why you reject it: the agent gets your reason.", field="reason")
    _check_approver(session, approver)
    session_expire(session.pk)
    now = timezone.now()
    with transaction.atomic():
        locked = _pending(session, digest)
        _approval(session=locked, decision="reject", approver=approver, reason=reason, address=address, now=now)
        _moved_or_raise(
            sessions_move(
                ShellSession.objects.filter(pk=locked.pk),
                Status.REJECTED,
                actor=user_party(approver),
                data={"reason": reason, "digest": locked.digest, "address": address},
                finished_at=now,
                intervention="rejected",
            ),
            session,
        )
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


def _check_approver(session: ShellSession, user: User) -> None:
    if refusal := may_approve(session, user):
        with transaction.atomic():
            party, data = session_party(session.pk), {"why": refusal}
            record(Event(Tag.APPROVAL_REFUSED, user_party(user), party, "", data, about=session_about(session)))
        raise ForbiddenError(refusal)


def _pending(session: ShellSession, digest: str) -> ShellSession:
    # Compared under the lock: somebody else's decision may just have put another digest in place of the one seen.
    locked = ShellSession.objects.select_for_update(of=("self",)).select_related("agent", "host").get(pk=session.pk)
    if locked.status != Status.PENDING:
        raise _state_error(locked)
    if digest and digest != locked.digest:
        raise StateError(_CHANGED)
    return locked


def _approve_locked(session: ShellSession, approver: User, reason: str, address: str | None, now: datetime) -> bool:
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
    decision, data = decision_again(session, models.Decision.Moment.APPROVAL, request, circumstances, now)
    only = ShellSession.objects.filter(pk=session.pk)
    decided = {
        "outcome": decision.outcome.value,
        "category": decision.category.value,
        "policy_version": decision.policy_version,
        "circumstances": circumstances.digest,
    }
    digest = decision_digest(decision, request, session)
    data |= {"reason": reason, "digest": digest, "address": address}
    actor = user_party(approver)
    if decision.outcome is Outcome.DENY:
        _moved_or_raise(
            sessions_move(
                only,
                Status.DENIED,
                actor=actor,
                sources=[Status.PENDING],
                data=data,
                termination_detail=decision.explanation,
                finished_at=now,
                **decided,
            ),
            session,
        )
        return True
    if digest != session.digest:
        session_note(session.pk, Tag.SESSION_DECIDED_AGAIN, actor=actor, data=data, digest=digest, **decided)
        return False
    _approval(session=session, decision="approve", approver=approver, reason=reason, address=address, now=now)
    moved = sessions_move(
        only,
        Status.QUEUED,
        actor=actor,
        sources=[Status.PENDING],
        data=data,
        # Why it came back to people, where it did, is answered now.
        termination_detail="",
        expires_at=now + timedelta(seconds=limits.QUEUED_SECONDS),
        warrant=warrant_of(session, digest),
        **decided,
    )
    _moved_or_raise(moved, session)
    wake.ring_on_commit(wake.host_channel(session.host_id))
    return True


def _approval(
    *, session: ShellSession, decision: str, approver: User, reason: str, address: str | None, now: datetime
) -> None:
    seal_on_commit()
    Approval.objects.create(
        session=session,
        decision=decision,
        digest=session.digest,
        approver=approver,
        approver_label=approver.get_username(),
        address=address,
        reason=reason.strip(),
        decided_at=now,
    )


def _moved_or_raise(moved: list[UUID], session: ShellSession) -> None:
    if not moved:
        raise _state_error(_reread(session))


def _state_error(session: ShellSession) -> StateError:
    return StateError(f"This is {session.status} already.", status_now=session.status, session_id=str(session.pk))


def _reread(session: ShellSession) -> ShellSession:
    return ShellSession.objects.select_related("agent", "host").get(pk=session.pk)
