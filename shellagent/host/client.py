"""The host's side of the HTTP protocol: typed calls in, typed answers or one of a few errors out."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from shellagent import protocol
from shellagent.client.http import Connection, failure
from shellagent.host.credential import Credential
from shellagent.host.errors import AnotherInstanceError, ConflictError, UnavailableError

logger = logging.getLogger(__name__)

T = TypeVar("T")


def product_version() -> str:
    """Return the version of this product as the host reports it."""
    try:
        return version("atom-local-agent")
    except PackageNotFoundError:
        return "0.1.0"


@dataclass
class Client:
    """Calls to one server with one Bearer key, over one kept-alive connection.

    An instance belongs to one thread at a time: each thread that talks makes its own with `another`.
    """

    url: str
    #: A key, or one that may be replaced while the client is in use.
    key: str | Credential = field(repr=False)
    _connection: Connection = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.credential = self.key if isinstance(self.key, Credential) else Credential(self.key)
        agent = f"atom-local-agent/{product_version()}"
        self._connection = Connection(self.url, lambda: self.credential.key, agent=agent, tell=logger.info)
        self.url = self._connection.url

    def another(self) -> "Client":
        """Return a client of the same server and key with a connection of its own."""
        return Client(self.url, self.credential)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def poll(self, request: protocol.PollRequest) -> protocol.PollAnswer:
        """Heartbeat and claim; waits up to the request's hold. Raises AnotherInstanceError where it is due."""
        try:
            body = self._call("/api/host/poll", request, hold_seconds=request.hold_seconds)
        except ConflictError as error:
            raise AnotherInstanceError(str(error), status=error.status, problem=error.problem) from error
        return self._decode(protocol.PollAnswer, body)

    def start(self, request: protocol.StartRequest) -> protocol.StartAnswer:
        """Ask for start grants. Nothing may run before this has returned its grant."""
        return self._decode(protocol.StartAnswer, self._call("/api/host/start", request))

    def output(self, session_id: str, request: protocol.OutputRequest) -> dict[str, int]:
        """Send output; returns the next offset the server expects, by stream. Raises ConflictError for a gap."""
        body = self._call(f"/api/host/sessions/{session_id}/output", request)
        return next_offsets(body)

    def record(self, request: protocol.RecordRequest) -> protocol.RecordAnswer:
        """Send execution records; the answer acknowledges each by its session id."""
        return self._decode(protocol.RecordAnswer, self._call("/api/shell/log", request))

    def enrol(self, request: protocol.EnrolRequest) -> protocol.EnrolAnswer:
        """Trade the one-use code, which is this client's key, for a host's key."""
        return self._decode(protocol.EnrolAnswer, self._call("/api/host/enroll", request))

    def new_key(self) -> str:
        """Ask for a new key in place of this client's."""
        message = protocol.KeyRequest(protocol.VERSION)
        return self._decode(protocol.KeyAnswer, self._call("/api/host/key", message)).key

    def status(self) -> Mapping[str, Any]:
        """Return what the server knows of this host. Changes nothing."""
        answer = self._connection.request("GET", "/api/host/status")
        if answer.status == 200 and isinstance(answer.body, Mapping):
            return answer.body
        raise failure(answer, where=f"{self.url}/api/host/status")

    def _call(self, path: str, message: object, *, hold_seconds: float = 0.0) -> object:
        answer = self._connection.request("POST", path, protocol.encode(message), hold_seconds=hold_seconds)
        if 200 <= answer.status < 300:
            return answer.body
        raise failure(answer, where=self.url + path)

    @staticmethod
    def _decode(kind: type[T], body: object) -> T:
        try:
            return protocol.decode(kind, body)
        except protocol.ProtocolError as error:
            raise UnavailableError(f"The answer does not have the shape of the protocol: {error}") from error


def next_offsets(body: object) -> dict[str, int]:
    """Read `{"next_offset": {stream: int}}`. Raises UnavailableError for any other shape."""
    offsets = body.get("next_offset") if isinstance(body, Mapping) else None
    if not isinstance(offsets, Mapping) or not all(type(value) is int for value in offsets.values()):
        raise UnavailableError("The answer does not have the shape of the protocol: next_offset")
    return {str(stream): int(value) for stream, value in offsets.items()}
