"""The server grants a start. Nothing runs before the host has read that grant."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from audit.trail import SYSTEM
from shellagent import limits, protocol, wake
from shellagent.models import AgentHost, Host, ShellSession
from shellagent.protocol import GrantStatus, Start, StartAnswer, StartGrant, StartRequest
from shellagent.services.deciding import Circumstances
from shellagent.services.hosts import host_party
from shellagent.services.moving import sessions_move
from shellagent.states import Status


def sessions_start(*, host: Host, request: StartRequest) -> StartAnswer:
    """Grant, or not, each start that a host asks for. The same start key is granted again; any other is not."""
    now = timezone.now()
    with transaction.atomic():
        rows = ShellSession.objects.select_for_update(of=("self",)).select_related("agent").filter(host=host)
        known = {str(row.pk): row for row in rows.filter(pk__in=protocol.session_ids(start.id for start in request.starts))}
        links = {link.agent_id: link for link in AgentHost.objects.filter(host=host)}
        digests: dict[int, str] = {}
        grants = []
        for start in request.starts:
            session = known.get(start.id)
            if session is None:
                grants.append(StartGrant(start.id, GrantStatus.STALE_DECISION, detail="No such session of this host."))
                continue
            if session.agent_id not in digests:
                digests[session.agent_id] = Circumstances.of(
                    maturity=session.agent.maturity,
                    is_suspended=session.agent.is_suspended,
                    host=host,
                    link=links.get(session.agent_id),
                ).digest
            grant = _refusal(session, start, digests[session.agent_id])
            if grant is None:
                sessions_move(
                    ShellSession.objects.filter(pk=session.pk),
                    Status.RUNNING,
                    actor=host_party(host),
                    data={"start_key": start.start_key, "digest": start.digest},
                    start_key=start.start_key,
                    started_at=now,
                    lease_expires_at=now + timedelta(seconds=limits.LEASE_SECONDS),
                )
                grant = StartGrant(start.id, GrantStatus.GRANTED, session.timeout_seconds + limits.GRACE_SECONDS)
            grants.append(grant)
    return StartAnswer(protocol.VERSION, tuple(grants))


def _refusal(session: ShellSession, start: Start, circumstances: str) -> StartGrant | None:
    """Return the answer that is already settled, or None where the start may be granted now."""
    if session.status == Status.RUNNING:
        if session.start_key == start.start_key:
            return StartGrant(start.id, GrantStatus.GRANTED, session.timeout_seconds + limits.GRACE_SECONDS)
        return StartGrant(start.id, GrantStatus.ALREADY_GRANTED, detail="Another start key was granted.")
    if session.status == Status.CANCELLED:
        return StartGrant(start.id, GrantStatus.CANCELLED, detail="It was cancelled before it started.")
    if session.status != Status.CLAIMED:
        return StartGrant(start.id, GrantStatus.STALE_DECISION, detail=f"It is {session.status} now.")
    if session.digest != start.digest:
        return StartGrant(start.id, GrantStatus.STALE_DECISION, detail="The digest is not the one that was decided.")
    if session.circumstances != circumstances:
        # Back in the queue, the next claim decides again.
        sessions_move(
            ShellSession.objects.filter(pk=session.pk),
            Status.QUEUED,
            actor=SYSTEM,
            sources=[Status.CLAIMED],
            data={"why": "circumstances changed between claim and start"},
            claim_key="",
            lease_expires_at=None,
        )
        wake.ring_on_commit(wake.host_channel(session.host_id))
        return StartGrant(start.id, GrantStatus.STALE_DECISION, detail="The rules or the agent changed since the claim.")
    return None

