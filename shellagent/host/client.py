"""The host's side of the HTTP protocol: typed calls in, typed answers or one of a few errors out."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter

from shellagent import protocol
from shellagent.host.credential import Credential
from shellagent.host.errors import (
    CallError,
    ConflictError,
    DeclinedError,
    UnauthorisedError,
    UnavailableError,
    UpgradeRequiredError,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS: Final = 3.05
#: A server that holds a poll answers within the hold; this much more is for the way there and back.
SLACK_SECONDS: Final = 15.0
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
CHUNK_BYTES: Final = 64 * 1024
MOST_TEMPLATES: Final = 8


def product_version() -> str:
    """Return the version of this product as the host reports it."""
    try:
        return version("atom-local-agent")
    except PackageNotFoundError:
        return "0.1.0"


@dataclass(slots=True)
class Answer:
    """A response that was read to its end: the status and the parsed JSON (None for a body that is not JSON)."""

    status: int
    body: object
    retry_after_seconds: float = 0.0


class _ConnectionLostError(Exception):
    def __init__(self, error: requests.RequestException) -> None:
        super().__init__()
        self.error = error


@dataclass
class Client:
    """Calls to one server with one Bearer key, over one kept-alive connection.

    An instance belongs to one thread at a time: each thread that talks makes its own with `another`. No proxy or
    netrc of the environment is used, no redirect is followed, and an answer over 32 MiB is refused.
    """

    url: str
    #: A key, or one that may be replaced while the client is in use.
    key: str | Credential = field(repr=False)
    _session: requests.Session = field(init=False, repr=False)
    _templates: dict[tuple[str, str], requests.PreparedRequest] = field(default_factory=dict, init=False, repr=False)
    _is_warm: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        self.credential = self.key if isinstance(self.key, Credential) else Credential(self.key)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.clear()
        self._session.headers.update(
            {
                "Accept": "application/json",
                "User-Agent": f"atom-local-agent/{product_version()}",
            }
        )
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def another(self) -> "Client":
        """Return a client of the same server and key with a connection of its own."""
        return Client(self.url, self.credential)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def poll(self, request: protocol.PollRequest) -> protocol.PollAnswer:
        """Heartbeat and claim; waits up to the request's hold. Raises ConflictError where another has the key."""
        body = self._call("/api/host/poll", request, hold_seconds=request.hold_seconds)
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
        answer = self.request("GET", "/api/host/status")
        if answer.status == 200 and isinstance(answer.body, Mapping):
            return answer.body
        raise failure(answer, where=f"{self.url}/api/host/status")

    def request(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None = None,
        *,
        hold_seconds: float = 0.0,
        is_repeatable: bool = True,
    ) -> Answer:
        """Make one call and read its answer, whatever its status. Raises UnavailableError where there is none.

        A connection that was kept open may have been closed by the server in the meantime; a call that may be repeated
        is then made once more on a new one.
        """
        try:
            return self._attempt(method, path, payload, hold_seconds)
        except _ConnectionLostError as lost:
            if not (is_repeatable and self._is_warm):
                raise UnavailableError(_sentence(self.url, lost.error)) from lost.error
        finally:
            self._is_warm = True
        try:
            return self._attempt(method, path, payload, hold_seconds)
        except _ConnectionLostError as lost:
            raise UnavailableError(_sentence(self.url, lost.error)) from lost.error

    def _attempt(self, method: str, path: str, payload: Mapping[str, Any] | None, hold_seconds: float) -> Answer:
        begun = time.monotonic()
        data = None if payload is None else json.dumps(payload, separators=(",", ":")).encode()
        limit = hold_seconds + SLACK_SECONDS
        try:
            response = self._session.send(
                self._prepared(method, path, data),
                timeout=(CONNECT_SECONDS, limit),
                allow_redirects=False,
                stream=True,
            )
            with response:
                content = _read(response, deadline=begun + limit + SLACK_SECONDS)
        except requests.ConnectionError as error:
            logger.info("%s %s: %s", method, path, type(error).__name__)
            raise _ConnectionLostError(error) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            logger.info("%s %s: %s", method, path, type(error).__name__)
            raise UnavailableError(_sentence(self.url, error)) from error
        except (UnicodeError, ValueError) as error:
            raise UnavailableError(f"{self.url} cannot be called: {error}") from error
        logger.info("%s %s: %d in %.0f ms", method, path, response.status_code, (time.monotonic() - begun) * 1000)
        return Answer(response.status_code, _json(content), _retry_after(response))

    def _prepared(self, method: str, path: str, data: bytes | None) -> requests.PreparedRequest:
        """Return a request, copied from an earlier one of its path: preparing one costs as much as sending it."""
        kept = self._templates.get((method, path))
        if kept is None:
            headers = {"Content-Type": "application/json"} if data is not None else None
            kept = self._session.prepare_request(requests.Request(method, self.url + path, headers=headers))
            if len(self._templates) < MOST_TEMPLATES:
                self._templates[method, path] = kept
        request = kept.copy()
        request.headers["Authorization"] = f"Bearer {self.credential.key}"
        if data is not None:
            request.body = data
            request.headers["Content-Length"] = str(len(data))
        return request

    def _call(self, path: str, message: object, *, hold_seconds: float = 0.0) -> object:
        answer = self.request("POST", path, protocol.encode(message), hold_seconds=hold_seconds)
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


def failure(answer: Answer, *, where: str) -> CallError:
    """Return the error that stands for an answer without success."""
    problem = dict(answer.body) if isinstance(answer.body, Mapping) else {}
    sentence = str(problem.get("detail") or problem.get("title") or f"{where} answered {answer.status}.")
    if answer.status in (401, 403):
        return UnauthorisedError(sentence)
    if answer.status == 426:
        return UpgradeRequiredError(f"{sentence} Install the server's version of the product on this machine.")
    if answer.status == 409:
        return ConflictError(sentence, status=409, problem=problem)
    if answer.status == 429 or answer.status >= 500:
        return UnavailableError(sentence, retry_after_seconds=answer.retry_after_seconds)
    if answer.status >= 400 and problem:
        return DeclinedError(sentence, status=answer.status, problem=problem)
    # A redirect, a page of some other server, a success of a kind that the protocol does not know.
    return UnavailableError(f"{where} answered {answer.status}, which is not the protocol. Is the URL right?")


def _read(response: requests.Response, *, deadline: float) -> bytes:
    content = bytearray()
    # What has come, however little: a read that waits for a full chunk would not notice that the time is over.
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise requests.RequestException("the answer is larger than 32 MiB")
        if time.monotonic() > deadline:
            raise requests.Timeout("the answer took too long to arrive")
    return bytes(content)


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), 60.0) if value.isdigit() else 0.0


def _sentence(url: str, error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return (
            f"The certificate of {url} is not trusted. Give the URL whose name it carries; it must be signed by an "
            "authority that certifi knows."
        )
    if isinstance(error, requests.ConnectionError):
        return f"No server answers at {url}. Is it running, and is the URL right?"
    if isinstance(error, requests.Timeout):
        return f"{url} did not answer in time."
    return f"What {url} answers is not the protocol: {error}. Is the URL right?"
