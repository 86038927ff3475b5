"""The agent or an operator cancels: at once before it runs, by order to the host while it runs."""

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from audit.tags import Tag
from audit.trail import Party
from shellagent import wake
from shellagent.errors import StateError
from shellagent.models import ShellSession
from shellagent.protocol import Reason
from shellagent.services.moving import session_note, sessions_move
from shellagent.states import Status

_OPERATING = ("shellagent.control_host", "shellagent.execute_for_agent", "shellagent.approve")


def may_cancel(session: ShellSession, user: User) -> str:
    """Return why this person may not cancel this session, or an empty text where they may.

    Who asked for it, who owns the agent, and operators may; to see a session is not enough.
    """
    if user.pk in (session.requester_user_id, session.agent.owner_id):
        return ""
    if any(user.has_perm(permission) for permission in _OPERATING):
        return ""
    return "You neither asked for this nor own its agent, and lack the permission to operate hosts."


def session_cancel(*, session: ShellSession, actor: Party, reason: str = "") -> ShellSession:
    """Cancel a session that has not started, or order its host to stop it. Asking again for the same is no error.

    Raises StateError where it has ended already.
    """
    now = timezone.now()
    data = {"reason": reason}
    # An agent that thinks better of it has not been stopped.
    is_intervention = actor.type == "user"
    with transaction.atomic():
        cancelled = sessions_move(
            [session.pk],
            Status.CANCELLED,
            actor=actor,
            data=data,
            finished_at=now,
            intervention="cancelled" if is_intervention else "",
        )
        if not cancelled:
            running = ShellSession.objects.filter(pk=session.pk, status=Status.RUNNING)
            if running.filter(cancel_requested_at=None).update(
                cancel_requested_at=now,
                cancel_reason=Reason.CANCEL.value,
                intervention="aborted" if is_intervention else "",
            ):
                session_note(session.pk, Tag.SESSION_CANCEL_REQUESTED, actor=actor, data=data)
                wake.ring_on_commit(wake.host_channel(session.host_id))
    fresh = ShellSession.objects.select_related("agent", "host").get(pk=session.pk)
    if not cancelled and fresh.status not in (Status.RUNNING, Status.CANCELLED):
        raise StateError(f"This is {fresh.status} already.", status_now=fresh.status, session_id=str(fresh.pk))
    return fresh
