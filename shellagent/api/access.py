"""Who may see and do what through the API. Agents and people; hosts have their own calls."""

import time
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db.models import Q
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from audit import driver
from audit.trail import Party
from governance.authentication import AgentCaller
from governance.errors import ForbiddenError, InvalidError, NotFoundError
from governance.models import Agent
from governance.services import user_party
from shellagent.models import SessionQuerySet, ShellSession
from shellagent.representation import Json, without_digests
from shellagent.services import Asker

NO_SESSION = "There is no such session that you may see."


def caller_party(request: Request) -> Party:
    """Return who is calling as the trail names them."""
    caller: Any = request.user
    return caller.party if isinstance(caller, AgentCaller) else user_party(person(request))


def person(request: Request) -> User:
    """Return the person who is calling. Raises ForbiddenError for an agent's key."""
    if not isinstance(request.user, User):
        raise ForbiddenError("This call is for people; an agent's key does not open it.")
    return request.user


def asker(request: Request, agent_id: int | None) -> Asker:
    """Return in whose name a request asks. An agent asks for itself, a person for an agent they may speak for."""
    caller: Any = request.user
    if isinstance(caller, AgentCaller):
        if agent_id not in (None, caller.agent_id):
            raise ForbiddenError("An agent asks for itself; leave `agent_id` out.")
        return Asker.agent(caller)
    user = person(request)
    if agent_id is None:
        raise InvalidError("Say in which agent's name: `agent_id`.", field="agent_id")
    agent = Agent.objects.filter(pk=agent_id).first()
    if agent is None:
        raise NotFoundError(f"There is no agent {agent_id}.", field="agent_id")
    if agent.owner_id != user.pk and not user.has_perm("shellagent.execute_for_agent"):
        raise ForbiddenError("You neither own this agent nor have the permission to ask in its name.")
    return Asker.person(user, agent)


def visible_sessions(request: Request) -> SessionQuerySet:
    """Return the sessions that the caller may see."""
    sessions = ShellSession.objects.select_related("agent", "host")
    caller: Any = request.user
    if isinstance(caller, AgentCaller):
        return sessions.filter(agent_id=caller.agent_id)
    user = person(request)
    if user.has_perm("shellagent.view_shellsession") or user.has_perm("shellagent.approve"):
        return sessions
    return sessions.filter(Q(agent__owner=user) | Q(requester_user=user))


def shown_to(request: Request, shown: Json) -> Json:
    """Return a session as the caller may see it: digests of scripts that wait are for those who decide."""
    caller: Any = request.user
    if caller.has_perm("shellagent.approve") or caller.has_perm("shellagent.view_shellsession"):
        return shown
    return without_digests(shown)


def visible_session(request: Request, session_id: UUID) -> ShellSession:
    """Return one session. Raises NotFoundError where there is none that the caller may see."""
    session = visible_sessions(request).filter(pk=session_id).first()
    if session is None:
        raise NotFoundError(NO_SESSION)
    return session


class AgentThrottle(BaseThrottle):
    """A cap on an agent's requests in each minute, over all its keys."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        caller: Any = request.user
        return not isinstance(caller, AgentCaller) or may_ask_now(caller.agent_id)

    def wait(self) -> float:
        """Return the seconds until the next minute begins."""
        return seconds_to_next_minute()


def may_ask_now(agent_id: int) -> bool:
    """Count a request of an agent's, and return whether it is within this minute's cap."""
    key = f"execute:{agent_id}:{int(time.time()) // 60}"
    driver.if_undone(lambda: _uncount(key))
    if cache.add(key, 1, timeout=120):
        return True
    try:
        return cache.incr(key) <= settings.ATOM_EXECUTE_PER_MINUTE
    except ValueError:  # It was counted elsewhere: Redis came, or went, in between.
        cache.set(key, 1, timeout=120)
        return True


def _uncount(key: str) -> None:
    """Take back one request, which is about to be begun again."""
    with suppress(ValueError):  # as above, or its minute is over
        cache.decr(key)


def seconds_to_next_minute() -> float:
    """Return when a request that is over the cap may be sent again."""
    return 60 - time.time() % 60
