"""Errors that a caller is told about. Each has an HTTP status, a stable problem type and what to do next."""

from collections.abc import Mapping
from typing import ClassVar


class ProblemError(Exception):
    """The request could not be carried out."""

    status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid"
    title: ClassVar[str] = "Invalid request"
    #: `wait`, `revise`, `stop` or `none`: what a program should do with this answer.
    next_action: ClassVar[str] = "revise"

    def __init__(self, detail: str = "", **extra: object) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.extra: Mapping[str, object] = extra
        #: Headers of the answer.
        self.headers: dict[str, str] = {}
        super().__init__(self.detail)


class InvalidError(ProblemError):
    """A value in the request is missing or wrong."""


class NotFoundError(ProblemError):
    """There is nothing by that name that you may see."""

    status = 404
    type = "not-found"
    title = "Not found"


class UnauthenticatedError(ProblemError):
    """A valid key or login is needed: `Authorization: Bearer ata_…`."""

    status = 401
    type = "unauthenticated"
    title = "Not authenticated"
    next_action = "stop"


class ForbiddenError(ProblemError):
    """You may not do this."""

    status = 403
    type = "forbidden"
    title = "Not permitted"
    next_action = "stop"


class CodeRequiredError(ForbiddenError):
    """A one-time code is needed for this: send it in `code`. Set up an authenticator at /code first."""

    type = "code-required"
    title = "One-time code required"
    next_action = "revise"


class SuspendedError(ForbiddenError):
    """The agent is suspended. A person has to resume it."""

    type = "suspended"
    title = "Agent suspended"


class ConflictError(ProblemError):
    """The state that stands does not allow this."""

    status = 409
    type = "conflict"
    title = "Conflict"
    next_action = "none"
