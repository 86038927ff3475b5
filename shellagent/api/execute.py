"""`POST execute`, the dry run and `POST approve`."""

import hashlib
import json
from functools import cache
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from audit.trail import receipt_of
from governance.authentication import AgentCaller
from governance.errors import ForbiddenError, InvalidError, NotFoundError
from governance.models import Agent
from shellagent import limits
from shellagent.api.access import AgentThrottle, asker, person, shown_to, visible_session
from shellagent.api.parsers import BoundedFormParser, BoundedJSONParser, BoundedMultiPartParser
from shellagent.api.serializers import (
    ApproveSerializer,
    DecisionSerializer,
    DryRunSerializer,
    ExecuteSerializer,
    SessionSerializer,
)
from shellagent.errors import DeniedError, NotAllowlistedError
from shellagent.models import ShellSession
from shellagent.representation import Json, session_json, with_receipt
from shellagent.schema import problems
from shellagent.services import Ask, Idempotency, dry_run, session_approve, session_reject, session_request
from shellagent.states import Status
from shellagent.waiting import session_wait


class ExecuteView(GenericAPIView[Any]):
    """Ask for a command. Governance allows it, asks a person, or denies it; the host runs what is allowed.

    200 when it ended within `wait_seconds`, whatever its exit code; 202 while it waits or runs.
    """

    serializer_class = ExecuteSerializer
    parser_classes = [BoundedJSONParser, BoundedFormParser, BoundedMultiPartParser]
    throttle_classes = [AgentThrottle]

    @extend_schema(
        operation_id="execute",
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                OpenApiTypes.STR,
                OpenApiParameter.HEADER,
                description="Sent again within 24 hours with the same body, it gives the same session.",
            )
        ],
        responses={200: SessionSerializer, 202: SessionSerializer, **problems(409, 429)},
    )
    def post(self, request: Request) -> Response:
        values = execution().run_validation(request.data)
        who = asker(request, values.get("agent_id"))
        idempotency = idempotency_of(request.headers.get("Idempotency-Key", ""), values)
        session, is_replay = session_request(ask=ask_of(values), asker=who, idempotency=idempotency)
        if session.status == Status.DENIED:
            raise denied(session, is_replay=is_replay)
        session = session_wait(session, values["wait_seconds"], waiter=who.scope)
        shown = shown_to(request, session_json(session))
        response = Response(shown, status=200 if Status(session.status).is_terminal else 202)
        if is_replay:
            response["Idempotent-Replayed"] = "true"
        return response


class DryRunView(GenericAPIView[Any]):
    """What governance would say of a command, and why. Nothing is created."""

    serializer_class = DryRunSerializer
    parser_classes = [BoundedJSONParser, BoundedFormParser, BoundedMultiPartParser]

    @extend_schema(operation_id="governance_dry_run", responses={200: DecisionSerializer})
    def post(self, request: Request, agent_id: int) -> Response:
        return self._answer(request, agent_id, request.data)

    @extend_schema(
        operation_id="governance_dry_run_get",
        parameters=[DryRunSerializer],
        responses={200: DecisionSerializer},
    )
    def get(self, request: Request, agent_id: int) -> Response:
        return self._answer(request, agent_id, request.query_params)

    def _answer(self, request: Request, agent_id: int, data: object) -> Response:
        serializer = self.get_serializer(data=data)
        serializer.is_valid(raise_exception=True)
        agent = _visible_agent(request, agent_id)
        return Response(dry_run(agent=agent, ask=ask_of(serializer.validated_data)).to_json())


class ApproveView(GenericAPIView[Any]):
    """Approve or reject a session that waits. People with the permission; never one's own request."""

    serializer_class = ApproveSerializer
    parser_classes = [BoundedJSONParser, BoundedFormParser, BoundedMultiPartParser]

    @extend_schema(operation_id="approve", responses={200: SessionSerializer, **problems(409)})
    def post(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        values = serializer.validated_data
        approver = person(request)
        session = visible_session(request, values["session_id"])
        address = request.META.get("REMOTE_ADDR") or None
        word = {name: values.get(name, "") for name in ("reason", "digest")}
        if values["decision"] == "approve":
            code = values.get("code", "")
            session = session_approve(session=session, approver=approver, address=address, code=code, **word)
        else:
            session = session_reject(session=session, approver=approver, address=address, **word)
        # The newest event is the one of this decision.
        return Response(with_receipt(session_json(session), receipt_of(session.pk, is_newest=True)))


@cache
def execution() -> ExecuteSerializer:
    """Return the one serializer that reads requests: making one copies every field, for a fifth of a millisecond."""
    return ExecuteSerializer()


def ask_of(values: Json) -> Ask:
    """Return validated values as what is asked for."""
    argv = values.get("argv")
    return Ask(
        command=values.get("command"),
        argv=tuple(argv) if argv else None,
        working_directory=values.get("working_directory", ""),
        timeout_seconds=values.get("timeout_seconds", limits.TIMEOUT_DEFAULT_SECONDS),
        host=values.get("host", ""),
        reason=values.get("reason", ""),
        env=values.get("env", {}),
        secrets=tuple(values.get("secrets", ())),
        callback_url=values.get("callback_url", ""),
    )


def denied(session: ShellSession, *, is_replay: bool) -> DeniedError | NotAllowlistedError:
    """Return the problem that tells of a session that governance denied, with the session and its decision."""
    shown = session_json(session)
    decision = shown["decision"] or {}
    is_unlisted = any(rule["id"] == "not-allowlisted" for rule in decision.get("rules", []))
    kind = NotAllowlistedError if is_unlisted else DeniedError
    explanation = str(decision.get("explanation", ""))
    problem = kind(explanation, session_id=shown["id"], decision=decision, receipt=shown["receipt"])
    if is_replay:
        problem.headers["Idempotent-Replayed"] = "true"
    return problem


def idempotency_of(key: str, values: Json) -> Idempotency | None:
    """Return the header's value with the digest of the body. Raises InvalidError for one that is too long."""
    if not key:
        return None
    if len(key) > 255 or not key.isprintable():
        raise InvalidError("An Idempotency-Key has at most 255 printable characters.", field="Idempotency-Key")
    body = json.dumps({name: values[name] for name in sorted(values)}, sort_keys=True)
    return Idempotency(key, hashlib.sha256(body.encode(errors="surrogatepass")).hexdigest())


def _visible_agent(request: Request, agent_id: int) -> Agent:
    caller: Any = request.user
    agent = Agent.objects.filter(pk=agent_id).first()
    if isinstance(caller, AgentCaller):
        if caller.agent_id != agent_id:
            raise ForbiddenError("An agent may ask about itself only.")
    elif agent is not None:
        user = person(request)
        if agent.owner_id != user.pk and not user.has_perm("governance.view_agent"):
            agent = None
    if agent is None:
        raise NotFoundError(f"There is no agent {agent_id} that you may see.")
    return agent
