"""The host's side of the protocol. The bodies are `shellagent.protocol`'s messages."""

import json
from typing import Any, TypeVar, cast
from uuid import UUID

from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from governance import keys
from governance.authentication import bearer_key
from governance.errors import InvalidError
from shellagent import limits, protocol
from shellagent.api.peer import peer_check
from shellagent.authentication import HostCaller, HostKeyAuthentication
from shellagent.errors import ProtocolVersionError
from shellagent.models import Host
from shellagent.services import host_enrol, host_poll, output_append, sessions_record, sessions_start

Message = TypeVar("Message")


class IsHost(BasePermission):
    """A host that showed its key."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, HostCaller)


@method_decorator(csrf_exempt, name="dispatch")
class HostView(APIView):
    """A call of the host's. Bodies are read as they are, without the framework's parsers, on the hot path."""

    authentication_classes: list[type[BaseAuthentication]] = [HostKeyAuthentication]
    permission_classes: list[type[BasePermission]] = [IsHost]
    renderer_classes = [JSONRenderer]

    def host(self) -> Host:
        """Return the host that is calling."""
        caller: Any = self.request.user
        return cast(HostCaller, caller).host


def message(request: Request, kind: type[Message]) -> Message:
    """Return the body as a message. Raises InvalidError or ProtocolError for another shape, ProtocolVersionError."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > limits.HOST_BODY_MAX_BYTES:
        raise InvalidError(f"A host's body has at most {limits.HOST_BODY_MAX_BYTES} bytes.")
    try:
        data = json.loads(request.stream.read(int(length)) if request.stream else b"")
    except ValueError as error:
        raise InvalidError(f"The body is not JSON: {error}") from error
    if isinstance(data, dict) and data.get("v") != protocol.VERSION:
        raise ProtocolVersionError
    return protocol.decode(kind, data)


class PollView(HostView):
    @extend_schema(operation_id="host_poll", request=dict, responses={200: dict})
    def post(self, request: Request) -> Response:
        wanted = message(request, protocol.PollRequest)
        answer = host_poll(host=self.host(), request=wanted, is_peer_there=peer_check(request))
        return Response(protocol.encode(answer))


class StartView(HostView):
    @extend_schema(operation_id="host_start", request=dict, responses={200: dict})
    def post(self, request: Request) -> Response:
        answer = sessions_start(host=self.host(), request=message(request, protocol.StartRequest))
        return Response(protocol.encode(answer))


class HostOutputView(HostView):
    @extend_schema(operation_id="host_output", request=dict, responses={200: dict})
    def post(self, request: Request, session_id: UUID) -> Response:
        wanted = message(request, protocol.OutputRequest)
        return Response({"next_offset": output_append(host=self.host(), session_id=session_id, request=wanted)})


class RecordView(HostView):
    @extend_schema(operation_id="host_record", request=dict, responses={200: dict})
    def post(self, request: Request) -> Response:
        answer = sessions_record(host=self.host(), request=message(request, protocol.RecordRequest))
        return Response(protocol.encode(answer))


class EnrolView(HostView):
    """Turn an enrolment code, sent as the Bearer key, into a host's key."""

    authentication_classes = []
    permission_classes = []

    @extend_schema(operation_id="host_enrol", request=dict, responses={200: dict})
    def post(self, request: Request) -> Response:
        code = bearer_key(request) or ""
        if keys.kind_of(code) is not keys.KeyKind.ENROLMENT:
            raise AuthenticationFailed("Send the enrolment code: `Authorization: Bearer ate_…`.")
        wanted = message(request, protocol.EnrolRequest)
        host, key = host_enrol(code=code, facts=wanted.facts)
        return Response(protocol.encode(protocol.EnrolAnswer(protocol.VERSION, str(host.pk), host.name, key)))
