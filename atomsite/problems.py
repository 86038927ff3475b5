"""Every error as RFC 9457 `application/problem+json`, in one place, and the pages that explain the types."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation, ValidationError
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import is_valid_path
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.settings import api_settings

from audit.key_files import KeyFileError
from audit.sealing import SealError
from audit.standing import is_failure, standing
from governance.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    ProblemError,
    UnauthenticatedError,
)
from shellagent.errors import TooLargeError, TooManyError
from shellagent.protocol import ProtocolError

logger = logging.getLogger(__name__)
CONTENT_TYPE = "application/problem+json"


class UnavailableError(ProblemError):
    """The database cannot be reached or is busy. Nothing was done; try again."""

    status = 503
    type = "unavailable"
    title = "Unavailable"
    next_action = "wait"


class InternalError(ProblemError):
    """Something failed in the server. Nothing was allowed by it; the log says what it was."""

    status = 500
    type = "internal"
    title = "Internal error"
    next_action = "none"


class MethodError(ProblemError):
    """This address does not take that method."""

    status = 405
    type = "method-not-allowed"
    title = "Method not allowed"


class MediaTypeError(ProblemError):
    """Send JSON: `Content-Type: application/json`."""

    status = 415
    type = "unsupported-media-type"
    title = "Unsupported media type"


class NotAcceptableError(ProblemError):
    """The answers are JSON or HTML."""

    status = 406
    type = "not-acceptable"
    title = "Not acceptable"


def known_types() -> dict[str, type[ProblemError]]:
    """Return every problem by its type."""
    found: dict[str, type[ProblemError]] = {}
    waiting: list[type[ProblemError]] = [ProblemError]
    while waiting:
        problem = waiting.pop()
        if "type" in vars(problem):
            found.setdefault(problem.type, problem)
        waiting += problem.__subclasses__()
    return dict(sorted(found.items()))


def body_of(problem: ProblemError) -> dict[str, Any]:
    """Return a problem as its JSON body."""
    return {
        "type": f"{settings.ATOM_PUBLIC_URL}/problems/{problem.type}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "next_action": problem.next_action,
        **problem.extra,
    }


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Turn whatever a view raised into a problem. What is not known becomes 500 without its words."""
    problem, headers = _problem(error)
    if problem is None:
        logger.exception("a view failed", exc_info=error)
        problem = InternalError()
    if "retry_after" in problem.extra:
        headers["Retry-After"] = str(problem.extra["retry_after"])
    elif problem.status == 503:
        headers["Retry-After"] = "5"
    if problem.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    response = Response(body_of(problem), status=problem.status, headers=headers)
    renderer = getattr(context.get("request"), "accepted_renderer", None)
    if renderer is None or renderer.format == "json":
        response.content_type = CONTENT_TYPE
    return response


def _problem(error: Exception) -> tuple[ProblemError | None, dict[str, str]]:
    problem: ProblemError | None = None
    if isinstance(error, exceptions.APIException):
        return _from_framework(error)
    if isinstance(error, ProblemError):
        problem = error
    elif isinstance(error, ValidationError):
        problem = InvalidError("; ".join(error.messages))
    elif isinstance(error, ProtocolError):
        problem = InvalidError(str(error))
    elif isinstance(error, SuspiciousOperation):
        is_large = isinstance(error, RequestDataTooBig)
        problem = TooLargeError() if is_large else InvalidError("A form with so many fields is not read.")
    elif isinstance(error, Http404):
        problem = NotFoundError()
    elif isinstance(error, PermissionDenied):
        problem = ForbiddenError()
    elif isinstance(error, OperationalError | InterfaceError | KeyFileError | SealError) or is_failure(error):
        problem = _unavailable(error)
    elif isinstance(error, DataError):
        problem = InvalidError("A value is too long for the database, or out of its range.")
    return problem, dict(problem.headers) if problem else {}


def _unavailable(error: Exception) -> ProblemError:
    standing.failed(error)
    if isinstance(error, KeyFileError):
        logger.error("the trail cannot be signed, so nothing is done: %s", error)
        return UnavailableError("The server cannot sign its audit trail, so nothing was done. Its log says why.")
    logger.error("the database is not available: %s", error)
    return UnavailableError()


_NO_FIELD = api_settings.NON_FIELD_ERRORS_KEY
#: Of these our own sentence says what to send instead.
_SAID_BETTER = (exceptions.NotAuthenticated, exceptions.NotAcceptable, exceptions.UnsupportedMediaType)
_FROM_FRAMEWORK: dict[int, type[ProblemError]] = {
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: MethodError,
    406: NotAcceptableError,
    409: ConflictError,
    415: MediaTypeError,
}


def _from_framework(error: exceptions.APIException) -> tuple[ProblemError, dict[str, str]]:
    headers: dict[str, str] = {}
    if auth_header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if isinstance(error, exceptions.ValidationError):
        found = error.detail if isinstance(error.detail, dict) else {"body": error.detail}
        # What is wrong with no one member is wrong with the body.
        errors = {"body" if name == _NO_FIELD else name: said for name, said in found.items()}
        first = next(iter(errors))
        return InvalidError(f"`{first}`: {_first_text(errors[first])}", errors=errors), headers
    if isinstance(error, exceptions.Throttled):
        wait = max(1, round(getattr(error, "wait", None) or 1))
        return TooManyError(f"Too many requests. Try again in {wait} s.", retry_after=wait), headers
    problem = _FROM_FRAMEWORK.get(error.status_code, InvalidError)
    return problem() if isinstance(error, _SAID_BETTER) else problem(str(error.detail)), headers


def _first_text(detail: Any) -> str:
    while isinstance(detail, list | dict) and detail:
        detail = detail[0] if isinstance(detail, list) else next(iter(detail.values()))
    return str(detail)


def problem_index(request: HttpRequest, slug: str = "") -> HttpResponse:
    """Show what a problem type means, or all of them."""
    types = known_types()
    if slug and slug not in types:
        raise Http404
    shown = [types[slug]] if slug else list(types.values())
    rows = [
        {"type": item.type, "title": item.title, "status": item.status, "next": item.next_action, "text": item.__doc__}
        for item in shown
    ]
    return render(request, "problems.html", {"problems": rows, "slug": slug})


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer an unknown address: a problem under /api/, a page elsewhere."""
    return _plain(request, NotFoundError(f"There is nothing at this address.{_meant(request.path)}"))


def _meant(path: str) -> str:
    """Return a sentence, after a blank, on what an address under /api/ may have been meant to be."""
    tidy = re.sub("/{2,}", "/", path).rstrip("/")
    if not tidy.startswith("/api/"):
        return ""
    if tidy != path and is_valid_path(tidy):
        return f" There is at {tidy}: a slash is too much."
    if tidy.startswith("/api/local-agent/sessions/"):
        return " A session's id is a UUID in small letters."
    return " All addresses are at /api/docs."


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an error outside the API's own handling."""
    return _plain(request, InternalError())


def _plain(request: HttpRequest, problem: ProblemError) -> HttpResponse:
    if request.path.lstrip("/").startswith("api/"):
        return JsonResponse(body_of(problem), status=problem.status, content_type=CONTENT_TYPE)
    row = {"type": problem.type, "title": problem.title, "status": problem.status, "next": "", "text": problem.detail}
    return render(request, "problems.html", {"problems": [row], "slug": problem.type}, status=problem.status)
