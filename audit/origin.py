"""From where an event came: the address and the browser of the request that is being answered, and who is logged in.

A middleware sets it, so that every event that a page or an API call of a person leads to says so by itself. The calls
of hosts and agents that the clerk answers have none: their keys say who they are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase

USER_AGENT_MAX_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Origin:
    """An address, what the caller says it is (cut to 200 characters), and the request that both are of."""

    address: str
    user_agent: str
    request: HttpRequest

    @classmethod
    def of(cls, request: HttpRequest) -> "Origin":
        """Return where a request comes from. The address is the proxy's word only where a proxy is configured."""
        agent = request.headers.get("User-Agent", "")
        return cls(str(request.META.get("REMOTE_ADDR") or ""), agent[:USER_AGENT_MAX_CHARACTERS], request)

    @property
    def user(self) -> Any:
        """Return who is logged in, as Django has it, or None."""
        user = getattr(self.request, "user", None)
        return user if getattr(user, "is_authenticated", False) else None

    def to_json(self) -> dict[str, str]:
        """Return what an event keeps."""
        return {"address": self.address, "user_agent": self.user_agent}


_current: ContextVar[Origin | None] = ContextVar("origin", default=None)


def current_origin() -> Origin | None:
    """Return where the request that is being answered comes from, or None outside of one."""
    return _current.get()


@contextmanager
def coming_from(origin: Origin) -> Iterator[None]:
    """Let events that are recorded inside say that they came from there."""
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)


class OriginMiddleware:
    """Sets the origin for as long as a request is answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with coming_from(Origin.of(request)):
            return self.get_response(request)
