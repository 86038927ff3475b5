"""The server grants a start. Nothing runs before the host has read that grant."""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from audit.standing import standing
from audit.trail import SYSTEM
from governance.errors import InvalidError
from governance.stops import stop_of
from shellagent import limits, protocol, queries, wake
from shellagent.errors import TrailFailedError
from shellagent.models import Host, ShellSession
from shellagent.protocol import GrantStatus, Start, StartAnswer, StartGrant, StartRequest
from shellagent.services.deciding import Circumstances
from shellagent.services.granting import is_warranted, start_grants
from shellagent.services.hosts import host_party
from shellagent.services.moving import Move, sessions_move, sessions_move_locked
from shellagent.states import Status


def sessions_start(*, host: Host, request: StartRequest) -> StartAnswer:
    """Grant, or not, each start that a host asks for. The same start key is granted again; any other is not.

    Raises TrailFailedError where the trail cannot be kept: nothing new runs then.
    """
    if standing.stops(host.pk):
        raise TrailFailedError
    now = timezone.now()
    answers: dict[str, StartGrant] = {}
    asked: list[str] = []
    granted: list[ShellSession] = []
    moves = []
    if not all(start.start_key for start in request.starts):
        raise InvalidError("A start key may not be empty.")
    with transaction.atomic(savepoint=False):
        ids = protocol.session_ids(start.id for start in request.starts)
        known = {str(session_id): session for session_id, session in queries.sessions_of_host(host.pk, ids).items()}
        links = queries.links_of_host(host.pk)
        of_now: dict[int, str] = {}
        for start in request.starts:
            if start.id in asked:
                continue  # Of two wishes for one session in a call the first counts.
            asked.append(start.id)
            session = known.get(start.id)
            if session is None:
                answers[start.id] = _stale(start, "This host has no such session.")
                continue
            if session.agent_id not in of_now:
                of_now[session.agent_id] = Circumstances.of(
                    agent=session.agent.name,
                    maturity=session.agent.maturity,
                    is_suspended=session.agent.is_suspended,
                    host=host,
                    link=links.get(session.agent_id),
                ).digest
            settled = _settled(session, start, of_now[session.agent_id])
            if settled is None:
                granted.append(session)
                moves.append(start_move(session, start.start_key, now))
            else:
                answers[start.id] = settled
        sessions_move_locked(moves, actor=host_party(host))
        answers |= {grant.id: grant for grant in start_grants(granted)}
    stop = stop_of(host=host.name)
    stopped = f"{stop.by} stopped {stop.what}: {stop.reason}" if stop else ""
    return StartAnswer(protocol.VERSION, tuple(answers[start_id] for start_id in dict.fromkeys(asked)), stopped)


def start_move(session: ShellSession, start_key: str, now: datetime) -> Move:
    """Return the arrow by which a claimed session runs."""
    return Move(
        session,
        Status.RUNNING,
        {"start_key": start_key, "digest": session.digest},
        {
            "start_key": start_key,
            "started_at": now,
            "lease_expires_at": now + timedelta(seconds=limits.LEASE_SECONDS),
        },
    )


def _settled(session: ShellSession, start: Start, circumstances: str) -> StartGrant | None:
    """Return the answer that is already settled, or None where the start may be granted now."""
    if session.status == Status.RUNNING and session.start_key == start.start_key and is_warranted(session):
        return start_grants([session])[0]
    if session.status == Status.RUNNING:
        return StartGrant(start.id, GrantStatus.ALREADY_GRANTED, detail="Another start key was granted.")
    if session.status == Status.CANCELLED:
        return StartGrant(start.id, GrantStatus.CANCELLED, detail="It was cancelled before it started.")
    if session.status != Status.CLAIMED or session.digest != start.digest or not is_warranted(session):
        return _stale(start, f"It is {session.status} now, and this server did not let it run with this digest.")
    if session.circumstances != circumstances:
        # Back in the queue, the next claim decides again.
        sessions_move(
            [session.pk],
            Status.QUEUED,
            actor=SYSTEM,
            sources=[Status.CLAIMED],
            data={"why": "circumstances changed between claim and start"},
            claim_key="",
            lease_expires_at=None,
        )
        wake.ring_on_commit(wake.host_channel(session.host_id))
        return _stale(start, "The rules or the agent changed since the claim.")
    return None


def _stale(start: Start, detail: str) -> StartGrant:
    return StartGrant(start.id, GrantStatus.STALE_DECISION, detail=detail)
