"""Reading, following and cancelling sessions."""

import base64
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Q
from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from audit.pagination import CheckedCursorPagination
from governance.errors import ForbiddenError
from shellagent.api.access import caller_party, shown_to, visible_session, visible_sessions
from shellagent.api.parsers import BoundedFormParser, BoundedJSONParser
from shellagent.api.serializers import (
    CancelSerializer,
    FollowSerializer,
    OutputSerializer,
    ReadSerializer,
    SessionFilterSerializer,
    SessionSerializer,
)
from shellagent.following import output_follow, whole_characters
from shellagent.models import SessionQuerySet
from shellagent.representation import Json, session_json, sessions_json
from shellagent.schema import problems
from shellagent.services import may_cancel, session_cancel, session_expire, sessions_expire
from shellagent.services.recording import STREAMS
from shellagent.states import Status
from shellagent.waiting import session_wait


class SessionPagination(CheckedCursorPagination):
    """Newest first; the id is time-ordered, so it is the cursor."""

    ordering = "-id"
    page_size = 50
    max_page_size = 200
    page_size_query_param = "page_size"


class SessionListView(GenericAPIView[Any]):
    """The sessions that you may see, newest first."""

    serializer_class = SessionSerializer
    pagination_class = SessionPagination

    def get_queryset(self) -> SessionQuerySet:
        return visible_sessions(self.request)

    @extend_schema(
        operation_id="sessions",
        parameters=[SessionFilterSerializer],
        responses={200: SessionSerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        filters = SessionFilterSerializer(data=request.query_params)
        filters.is_valid(raise_exception=True)
        sessions_expire()
        # Many of few agents and hosts, each of which is read once.
        sessions = self.get_queryset().select_related(None).prefetch_related("agent", "host")
        page = self.paginate_queryset(_narrowed(sessions, filters.validated_data))
        shown = sessions_json(list(page or []), with_output=False)
        return self.get_paginated_response([shown_to(request, one) for one in shown])


class SessionView(GenericAPIView[Any]):
    """One session; with `wait_seconds` held until it has ended."""

    serializer_class = SessionSerializer

    @extend_schema(operation_id="session", parameters=[ReadSerializer], responses={200: SessionSerializer})
    def get(self, request: Request, session_id: UUID) -> Response:
        options = ReadSerializer(data=request.query_params)
        options.is_valid(raise_exception=True)
        session_expire(session_id)
        session = visible_session(request, session_id)
        session = session_wait(session, options.validated_data["wait_seconds"], waiter=str(request.user.pk))
        return Response(shown_to(request, session_json(session, encoding=options.validated_data["encoding"])))


class OutputView(GenericAPIView[Any]):
    """The stored output of a session, also while it runs: all of it, or what follows offsets. Reported by the host."""

    serializer_class = SessionSerializer

    @extend_schema(operation_id="session_output", parameters=[FollowSerializer], responses={200: OutputSerializer})
    def get(self, request: Request, session_id: UUID) -> Response:
        options = FollowSerializer(data=request.query_params)
        options.is_valid(raise_exception=True)
        wanted = options.validated_data
        session = visible_session(request, session_id)
        followed = output_follow(session.pk, wanted["after"], wanted["wait_seconds"], waiter=str(request.user.pk))
        is_text = wanted["encoding"] == "text"
        if is_text:
            followed = whole_characters(followed)
        return Response(
            {
                "id": str(session.pk),
                "status": followed.status,
                "finished": followed.is_end,
                "next": dict(followed.next_offsets),
                **{
                    stream: [_part(*part, is_text=is_text) for part in followed.parts.get(stream, ())]
                    for stream in STREAMS
                },
            }
        )


def _part(offset: int, data: bytes, *, is_text: bool) -> Json:
    text = data.decode(errors="replace") if is_text else base64.b64encode(data).decode()
    return {"offset": offset, "bytes": len(data), "text": text}


class CancelView(GenericAPIView[Any]):
    """Cancel a session: at once before it runs; while it runs its host is told to stop it."""

    serializer_class = CancelSerializer
    parser_classes = [BoundedJSONParser, BoundedFormParser]

    @extend_schema(
        operation_id="session_cancel", responses={200: SessionSerializer, 202: SessionSerializer, **problems(409)}
    )
    def post(self, request: Request, session_id: UUID) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        session = visible_session(request, session_id)
        if isinstance(request.user, User) and (refusal := may_cancel(session, request.user)):
            raise ForbiddenError(refusal)
        session = session_cancel(
            session=session, actor=caller_party(request), reason=serializer.validated_data.get("reason", "")
        )
        status = 200 if Status(session.status).is_terminal else 202
        return Response(shown_to(request, session_json(session)), status=status)


def _narrowed(sessions: SessionQuerySet, wanted: dict[str, Any]) -> SessionQuerySet:
    for name in ("status", "category"):
        if name in wanted:
            sessions = sessions.filter(**{name: wanted[name]})
    for name in ("agent", "host"):
        if name in wanted:
            value = wanted[name]
            match = Q(**{f"{name}__name": value})
            if value.isdecimal() and len(value) < 19:
                match |= Q(**{f"{name}_id": int(value)})
            sessions = sessions.filter(match)
    if "created_after" in wanted:
        sessions = sessions.filter(created_at__gte=wanted["created_after"])
    if "created_before" in wanted:
        sessions = sessions.filter(created_at__lt=wanted["created_before"])
    return sessions
