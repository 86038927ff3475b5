"""JSON over HTTP to one server with one key, for the host and for `atom`. Standard library only.

`http.client` and not `requests`: that takes longer to import than a short command may cost, and 11 MiB of the host.
"""

import http.client
import json
import os
import socket
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from shellagent.client.errors import (
    CallError,
    ConflictError,
    DeclinedError,
    DeniedError,
    ThrottledError,
    UnauthorisedError,
    UnavailableError,
    UpgradeRequiredError,
)

CONNECT_SECONDS: Final = 3.05
#: A server that holds an answer gives it within the hold; this much more is for the way there and back.
SLACK_SECONDS: Final = 15.0
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
CHUNK_BYTES: Final = 64 * 1024
#: Variables that name a proxy for others.
PROXIES: Final = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
#: Problems that stand for a decision against the command, whatever their HTTP status.
DENYING: Final = ("denied", "not-allowlisted", "suspended", "kill-switch")


#: Statuses of an answer that says what is wrong with the request.
DECLINING: Final = (400, 404, 405, 406, 413, 415)


class Answer(NamedTuple):
    """A response that was read to its end: the status and the parsed JSON (None for a body that is not JSON).

    `date` is the server's clock as its header has it, empty where it has none.
    """

    status: int
    body: object
    retry_after_seconds: float = 0.0
    date: str = ""


class _ConnectionLostError(Exception):
    def __init__(self, error: Exception, *, is_reused: bool, is_sent: bool) -> None:
        super().__init__()
        self.error = error
        self.is_reused = is_reused
        self.is_sent = is_sent


def _silent(_line: str) -> None:
    """Say nothing."""


class Connection:
    """Calls to one server over one kept-alive connection.

    An instance belongs to one thread at a time. `key` gives the key for each call, empty for none; `tell` gets a line
    about each. No proxy or netrc of the environment is used, no redirect is followed, and an answer over 32 MiB is
    refused.
    """

    def __init__(
        self, url: str, key: Callable[[], str], *, agent: str, tell: Callable[[str], object] = _silent
    ) -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._tell = tell
        self._headers = {"Accept": "application/json", "User-Agent": agent}
        self._prefix = ""
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection; the next call makes another."""
        if self._connection is not None:
            self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None = None,
        *,
        hold_seconds: float = 0.0,
        is_repeatable: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one call and read its answer, whatever its status. Raises UnavailableError where there is none.

        A connection that was kept open may have been closed by the server in the meantime; a call that may be repeated
        is then made once more on a new one.
        """
        try:
            return self._attempt(method, path, payload, hold_seconds, headers or {})
        except _ConnectionLostError as lost:
            if not (is_repeatable and lost.is_reused):
                raise UnavailableError(_sentence(self.url, lost.error), may_have_arrived=lost.is_sent) from lost.error
        try:
            return self._attempt(method, path, payload, hold_seconds, headers or {})
        except _ConnectionLostError as lost:
            # The first may have arrived in any case.
            raise UnavailableError(_sentence(self.url, lost.error), may_have_arrived=True) from lost.error

    def _attempt(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None,
        hold_seconds: float,
        headers: Mapping[str, str],
    ) -> Answer:
        begun = time.monotonic()
        limit = hold_seconds + SLACK_SECONDS
        is_reused = self._connection is not None and self._connection.sock is not None
        is_sent = False
        try:
            connection = self._connected(limit)
            is_sent = True
            _send(connection, method, self._prefix + path, self._body(payload), {**self._all_headers(), **headers})
            response = connection.getresponse()
            content = _read(response, deadline=begun + limit + SLACK_SECONDS)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            if isinstance(error, ValueError):
                # A header that cannot be sent leaves those before it in the connection, for the next call.
                self._connection = None
            self._tell(f"{method} {path}: {type(error).__name__}")
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                raise _ConnectionLostError(error, is_reused=is_reused, is_sent=is_sent) from error
            # What is not even HTTP is no server that took anything.
            is_sent = is_sent and isinstance(error, OSError)
            raise UnavailableError(_sentence(self.url, error), may_have_arrived=is_sent) from error
        except BaseException:
            # The answer of a call that was broken off would be taken for that of the next one.
            self.close()
            raise
        self._tell(f"{method} {path}: {response.status} in {(time.monotonic() - begun) * 1000:.0f} ms")
        retry = response.getheader("Retry-After", "")
        seconds = min(float(retry), 60.0) if retry.isascii() and retry.isdigit() else 0.0
        return Answer(response.status, _json(content), seconds, response.getheader("Date", ""))

    @staticmethod
    def _body(payload: Mapping[str, Any] | None) -> bytes | None:
        return None if payload is None else json.dumps(payload, separators=(",", ":")).encode()

    def _all_headers(self) -> dict[str, str]:
        key = self._key()
        if not key:
            return self._headers
        if not (key.isascii() and key.isprintable()):
            # Without the key: this text is shown.
            raise UnavailableError("The key holds characters that no key has. Give it as it was shown.")
        return {**self._headers, "Authorization": f"Bearer {key}"}

    def _connected(self, limit: float) -> http.client.HTTPConnection:
        """Return the connection, open, whose waits last no longer than `limit` seconds."""
        connection = self._connection
        if connection is None:
            parts = urllib.parse.urlsplit(self.url)
            host = parts.hostname
            if parts.scheme not in ("http", "https") or not host:
                raise ValueError("it is no address of a server")
            self._prefix = parts.path
            if parts.scheme == "https":
                connection = http.client.HTTPSConnection(host, parts.port, context=_trust(), timeout=CONNECT_SECONDS)
            else:
                connection = http.client.HTTPConnection(host, parts.port, timeout=CONNECT_SECONDS)
            self._connection = connection
        if connection.sock is None:
            connection.timeout = CONNECT_SECONDS
            _connect(connection)
        connection.sock.settimeout(limit)
        return connection


def failure(answer: Answer, *, where: str) -> CallError:
    """Return the error that stands for an answer without success."""
    problem = dict(answer.body) if isinstance(answer.body, Mapping) else {}
    sentence = str(problem.get("detail") or problem.get("title") or f"{where} answered {answer.status}.")
    if problem.get("hint"):
        sentence = f"{sentence.rstrip('.')}. {problem['hint']}"
    status = answer.status
    is_denied = problem_type(problem) in DENYING
    if is_denied or status == 409 or (status in DECLINING and problem):
        declined = DeniedError if is_denied else ConflictError if status == 409 else DeclinedError
        return declined(sentence, status=status, problem=problem)
    if status in (401, 403):
        return UnauthorisedError(sentence, problem=problem)
    if status == 426:
        text = f"{sentence} Install the server's version of the product on this machine."
        return UpgradeRequiredError(text, problem=problem)
    if status == 429 or status >= 500:
        kind = ThrottledError if status == 429 else UnavailableError
        return kind(
            sentence,
            retry_after_seconds=answer.retry_after_seconds,
            problem=problem,
            # A proxy's, which had no answer from the server.
            may_have_arrived=status in (502, 504),
        )
    # A redirect, a page of some other server, a success of a kind that the protocol does not know.
    return UnavailableError(f"{where} answered {status}, which is not the protocol. Is the URL right?")


def problem_type(problem: Mapping[str, Any]) -> str:
    """Return the name at the end of a problem's type, such as `denied`."""
    return str(problem.get("type", "")).rstrip("/").rpartition("/")[2]


def _connect(connection: http.client.HTTPConnection) -> None:
    """Connect as the connection does itself; without TLS under a name in bytes, because Python imports the tables of
    international names to look up a text, which takes a tenth of what a short command may.
    """
    if isinstance(connection, http.client.HTTPSConnection) or not connection.host.isascii():
        connection.connect()
        return
    address: Any = (connection.host.encode(), connection.port)
    connection.sock = socket.create_connection(address, connection.timeout)
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _trust() -> Any:
    """Return a TLS context that trusts whom this machine trusts, and whom certifi knows where that is installed."""
    import ssl  # noqa: PLC0415 - reading certificates takes longer than a call

    context = ssl.create_default_context()
    try:
        import certifi  # noqa: PLC0415 - it comes with requests
    except ImportError:
        return context
    context.load_verify_locations(certifi.where())
    return context


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> None:
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, path, body, headers)
    except (BrokenPipeError, ConnectionResetError):
        # A server that takes no more of a body may have said why. Where it has not, reading says that it is gone.
        if body is None or connection.sock is None:
            raise


def _read(response: http.client.HTTPResponse, *, deadline: float) -> bytes:
    content = bytearray()
    # What has come, however little: a read that waits for a full chunk would not notice that the time is over.
    while chunk := response.read1(CHUNK_BYTES):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise http.client.HTTPException("the answer is larger than 32 MiB")
        if time.monotonic() > deadline:
            raise http.client.HTTPException("the answer took too long to arrive")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    # It is at its end, and so the connection is free for the next call.
    response.close()
    return bytes(content)


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _sentence(url: str, error: Exception) -> str:
    name = type(error).__name__
    if name == "SSLCertVerificationError":
        reason = str(getattr(error, "verify_message", ""))
        clock = " Is this machine's clock right?" if "expired" in reason or "not yet valid" in reason else ""
        return (
            f"The certificate of {url} is not trusted: {reason}. Give the URL whose name it carries; it must be signed "
            f"by an authority that this machine knows.{clock}"
        )
    if name.startswith("SSL"):
        return f"{url} does not answer with TLS. Is it http:// instead?"
    if isinstance(error, TimeoutError):
        return f"{url} did not answer in time. Is it running, and is the URL right?"
    if isinstance(error, OSError):
        proxy = next((name for name in PROXIES if os.environ.get(name)), "")
        unused = f" It is called directly: {proxy} is not used." if proxy else ""
        return f"No server answers at {url}. Is it running, and is the URL right?{unused}"
    if isinstance(error, ValueError):
        return f"{url} cannot be called: {error}"
    return f"What {url} answers is not the protocol: {error}. Is the URL right?"
