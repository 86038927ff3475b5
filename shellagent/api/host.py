"""The host's side of the protocol. The bodies are `shellagent.protocol`'s messages."""

import json
from typing import Any, TypeVar, cast
from uuid import UUID

from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.canonical import MAX_INTEGER
from governance import keys
from governance.authentication import bearer_key
from governance.errors import InvalidError
from shellagent import limits, protocol, schema
from shellagent.api.control import hosts_json
from shellagent.api.serializers import HostSerializer
from shellagent.authentication import EnrolmentCodeAuthentication, HostCaller, HostKeyAuthentication, Newcomer
from shellagent.errors import ProtocolVersionError
from shellagent.models import Host
from shellagent.services import host_enrol, host_poll, output_append, sessions_record, sessions_start
from shellagent.services.keys_of_hosts import host_key_renew
from shellagent.signing_keys import signing_keys

Message = TypeVar("Message")


#: What the columns hold, in characters, and the largest numbers they take where that is less than JSON's.
_LENGTHS = {
    "instance_id": 64,
    "boot_id": 64,
    "claim_key": 64,
    "start_key": 64,
    "digest": 64,
    "sha256": 64,
    "version": 32,
    "last_error": 500,
}
_LARGEST = {"exit_codes": 2**31 - 1}

_OUTPUT_ANSWER = {
    "type": "object",
    "properties": {"next_offset": {"type": "object", "additionalProperties": {"type": "integer"}}},
    "required": ["next_offset"],
}


def _messages(asked: type, answer: type | schema.Schema) -> dict[str, Any]:
    """Return how a call of the protocol describes itself."""
    said = schema.message(answer) if isinstance(answer, type) else answer
    wanted = {"application/json": schema.message(asked)}
    return {"request": wanted, "responses": {200: said, **schema.problems(409, 426)}}


class IsHost(BasePermission):
    """A host that showed its key."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, HostCaller)


class IsNewcomer(BasePermission):
    """A machine that showed an enrolment code."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, Newcomer)


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
    return message_of(request.stream.read(int(length)) if request.stream else b"", kind)


def message_of(body: bytes, kind: type[Message]) -> Message:
    """Return a body as a message. Raises InvalidError or ProtocolError for another shape, ProtocolVersionError."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"The body is not JSON: {error}") from error
    if isinstance(data, dict) and data.get("v") != protocol.VERSION:
        raise ProtocolVersionError
    _check(data)
    return protocol.decode(kind, data)


def _check(value: object, name: str = "") -> None:
    """Raise InvalidError for a value that no host means and that one of the databases would not keep."""
    if isinstance(value, str):
        if "\0" in value or not _is_unicode(value):
            raise InvalidError(f"`{name}` holds a NUL or half a character.")
        if len(value) > _LENGTHS.get(name, len(value)):
            raise InvalidError(f"`{name}` has at most {_LENGTHS[name]} characters.")
    elif isinstance(value, int):
        if not 0 <= value <= _LARGEST.get(name, MAX_INTEGER):
            raise InvalidError(f"`{name}` is out of range.")
    elif isinstance(value, list):
        for item in value:
            _check(item, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, "a name")
            _check(item, key)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class PollView(HostView):
    @extend_schema(operation_id="host_poll", **_messages(protocol.PollRequest, protocol.PollAnswer))
    def post(self, request: Request) -> Response:
        wanted = message(request, protocol.PollRequest)
        answer = host_poll(host=self.host(), request=wanted)
        return Response(protocol.encode(answer))


class StartView(HostView):
    @extend_schema(operation_id="host_start", **_messages(protocol.StartRequest, protocol.StartAnswer))
    def post(self, request: Request) -> Response:
        answer = sessions_start(host=self.host(), request=message(request, protocol.StartRequest))
        return Response(protocol.encode(answer))


class HostOutputView(HostView):
    @extend_schema(operation_id="host_output", **_messages(protocol.OutputRequest, _OUTPUT_ANSWER))
    def post(self, request: Request, session_id: UUID) -> Response:
        wanted = message(request, protocol.OutputRequest)
        return Response({"next_offset": output_append(host=self.host(), session_id=session_id, request=wanted)})


class RecordView(HostView):
    @extend_schema(operation_id="host_record", **_messages(protocol.RecordRequest, protocol.RecordAnswer))
    def post(self, request: Request) -> Response:
        answer = sessions_record(host=self.host(), request=message(request, protocol.RecordRequest))
        return Response(protocol.encode(answer))


class KeyView(HostView):
    """Give a host a new key; the one that it shows works until the new one is used."""

    @extend_schema(operation_id="host_key", **_messages(protocol.KeyRequest, protocol.KeyAnswer))
    def post(self, request: Request) -> Response:
        message(request, protocol.KeyRequest)
        key = host_key_renew(host=self.host(), shown=keys.digest(bearer_key(request) or ""))
        return Response(
            protocol.encode(protocol.KeyAnswer(protocol.VERSION, key)), headers={"Cache-Control": "no-store"}
        )


class HostStatusView(HostView):
    """What the server knows of the host that asks."""

    @extend_schema(operation_id="host_status", responses={200: HostSerializer})
    def get(self, request: Request) -> Response:
        (shown,) = hosts_json([self.host()])
        return Response(shown)


class EnrolView(HostView):
    """Turn an enrolment code, sent as the Bearer key, into a host's key."""

    authentication_classes = [EnrolmentCodeAuthentication]
    permission_classes = [IsNewcomer]

    @extend_schema(operation_id="host_enrol", **_messages(protocol.EnrolRequest, protocol.EnrolAnswer))
    def post(self, request: Request) -> Response:
        caller: Any = request.user
        wanted = message(request, protocol.EnrolRequest)
        # First, because the code is used up by the next step.
        server_keys = signing_keys().public
        host, key = host_enrol(code=caller.code, facts=wanted.facts)
        answer = protocol.EnrolAnswer(protocol.VERSION, str(host.pk), host.name, key, server_keys)
        return Response(protocol.encode(answer))
