"""A typed client of the public API, for an agent: ask for commands, follow them, and see what governance would say."""

import os
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from shellagent.client.credentials import KEY_VARIABLE, Access, checked_key, checked_url, find_access
from shellagent.client.errors import DeclinedError, UnavailableError
from shellagent.client.http import Answer, Connection, failure
from shellagent.client.patience import asked_once, session_patiently
from shellagent.client.types import Agent, Decision, Offsets, Output, Session, Status
from shellagent.codec import ProtocolError, decode

VERSION: Final = "0.1.0"
API: Final = "/api/local-agent"
#: The longest that the server holds an answer.
MOST_WAIT_SECONDS: Final = 45
#: A clock this far from the server's makes its times hard to read, and certificates untrue.
MOST_SKEW_SECONDS: Final = 300.0

T = TypeVar("T")

#: What this process found last, at most one.
_found: list[Access] = []


class Atom:
    """Calls to one server with one agent's key. An instance belongs to one thread at a time.

    Every call raises CallError: UnavailableError (no server, or none that can work now), ThrottledError,
    UnauthorisedError, DeniedError (governance says no) or another DeclinedError, each with a sentence and `problem`.
    """

    def __init__(self, url: str, key: str) -> None:
        """Raises StateError for an address or a key that can be none."""
        self._key = checked_key(key)
        self._connection = Connection(checked_url(url), lambda: self._key, agent=f"atom/{VERSION}")
        self._agent: Agent | None = None
        #: The server's clock as its last answer had it, and this machine's at that moment, in seconds since 1970.
        self._clocks: tuple[str, float] = ("", 0.0)

    @classmethod
    def from_environment(cls) -> "Atom":
        """Return a client for ATOM_URL and ATOM_KEY, or for the credentials file. Raises StateError.

        The key is taken out of the environment, so that no child is started with it; the next client has it too.
        """
        if os.environ.get(KEY_VARIABLE) or not _found:
            _found[:] = [find_access()]
        return cls(*_found[0])

    @property
    def url(self) -> str:
        """The server's address."""
        return self._connection.url

    @property
    def clock_warning(self) -> str:
        """A sentence where this machine's clock is far from the server's, by its last answer; empty where it is not."""
        date, now = self._clocks
        if not date:
            return ""
        import email.utils  # noqa: PLC0415 - what reads HTTP has imported it by now

        try:
            ahead = now - email.utils.parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError):
            return ""
        if abs(ahead) <= MOST_SKEW_SECONDS:
            return ""
        side = "ahead of" if ahead > 0 else "behind"
        return f"This machine's clock is {abs(ahead):.0f} s {side} the server's. Times are the server's."

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> "Atom":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(
        self,
        command: str | Sequence[str],
        *,
        working_directory: str | None = None,
        timeout_seconds: int | None = None,
        host: str | None = None,
        reason: str | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Sequence[str] | None = None,
        callback_url: str | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
    ) -> Session:
        """Ask for a command: one line of text, or a program and its arguments taken literally.

        Returns the session as it is when it has ended, or after `wait_seconds` (0 to 45). The same `idempotency_key`
        with the same request gives the same session: by default a new one, so that a call whose answer was lost on the
        way is sent again, for 30 s, without running twice. Raises DeniedError and the other CallErrors.
        """
        wanted = {
            **asked(command),
            "working_directory": working_directory,
            "timeout_seconds": timeout_seconds,
            "host": host,
            "reason": reason,
            "env": dict(env) if env is not None else None,
            "secrets": list(secrets) if secrets is not None else None,
            "callback_url": callback_url,
            "wait_seconds": wait_seconds or None,
        }
        body = {name: value for name, value in wanted.items() if value is not None}
        key = idempotency_key or new_key()
        if not (key.isascii() and key.isprintable()):
            raise DeclinedError("An idempotency_key has printable ASCII characters only.", status=400, problem={})
        headers = {"Idempotency-Key": key}

        def ask() -> Answer:
            return self._call("POST", f"{API}/execute", body, hold_seconds=wait_seconds, headers=headers)

        return self._session(asked_once(ask))

    def session(self, session_id: str, *, wait_seconds: int = 0) -> Session:
        """Return a session, when it has ended or after `wait_seconds` (0 to 45)."""
        path = f"{API}/sessions/{_quoted(session_id)}?wait_seconds={wait_seconds}"
        return self._session(self._call("GET", path, hold_seconds=wait_seconds))

    def wait(self, session_id: str, *, seconds: float = 900.0) -> Session:
        """Return a session once it has ended, or as it is after `seconds`. A server that is away is asked for 30 s."""
        deadline = time.monotonic() + seconds
        while True:
            begun = time.monotonic()
            hold = max(0, min(MOST_WAIT_SECONDS, int(deadline - begun)))
            session = session_patiently(session_id, partial(self.session, session_id, wait_seconds=hold))
            if session.is_over or time.monotonic() >= deadline - 1:
                return session
            pause(begun)

    def output(self, session_id: str, after: Offsets = Offsets(), *, wait_seconds: int = 0) -> Output:  # noqa: B008
        """Return what a session printed after these offsets, held up to `wait_seconds` until there is something."""
        query = f"after={after.stdout},{after.stderr}&encoding=base64&wait_seconds={wait_seconds}"
        path = f"{API}/sessions/{_quoted(session_id)}/output?{query}"
        return self._read(Output, self._call("GET", path, hold_seconds=wait_seconds))

    def follow(self, session_id: str, *, wait_seconds: int = 20) -> Iterator[Output]:
        """Yield what a session prints, as it comes, until it has ended; also an empty part at times.

        A server that is away is asked again for 30 s.
        """
        after = Offsets()
        while True:
            begun = time.monotonic()
            read = partial(self.output, session_id, after, wait_seconds=wait_seconds)
            found = session_patiently(session_id, read)
            yield found
            if found.finished:
                return
            if found.next == after:
                pause(begun)
            after = found.next

    def sessions(self, *, status: str | None = None, limit: int = 50) -> list[Session]:
        """Return the agent's newest sessions, newest first, at most 200, without their output."""
        query = {"page_size": limit, **({"status": status} if status else {})}
        answer = self._call("GET", f"{API}/sessions?{urllib.parse.urlencode(query)}")
        return [self._session(Answer(200, item)) for item in self._results(answer)]

    def cancel(self, session_id: str, *, reason: str = "") -> Session:
        """Cancel a session: at once before it runs; while it runs, its host is told to stop it. ConflictError after."""
        return self._session(self._call("POST", f"{API}/sessions/{_quoted(session_id)}/cancel", {"reason": reason}))

    def check(
        self,
        command: str | Sequence[str],
        *,
        working_directory: str | None = None,
        host: str | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Sequence[str] | None = None,
    ) -> Decision:
        """Return what governance would say of a command. Nothing is created, and nothing runs."""
        wanted = {
            **asked(command),
            "working_directory": working_directory,
            "host": host,
            "env": dict(env) if env is not None else None,
            "secrets": list(secrets) if secrets is not None else None,
        }
        body = {name: value for name, value in wanted.items() if value is not None}
        answer = self._call("POST", f"/api/agents/{self.agent().id}/governance", body)
        return self._read(Decision, answer)._replace(raw=_object(answer.body))

    def agent(self) -> Agent:
        """Return the agent that the key belongs to, as it was when this was first asked."""
        if self._agent is None:
            found = self._results(self._call("GET", "/api/agents"))
            if len(found) != 1:
                raise self._is_none("an agent")
            self._agent = self._read(Agent, Answer(200, found[0]))
        return self._agent

    def status(self) -> Status:
        """Return whether commands can run."""
        answer = self._call("GET", f"{API}/status")
        return self._read(Status, answer)._replace(raw=_object(answer.body))

    def _call(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None = None,
        *,
        hold_seconds: float = 0.0,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        answer = self._connection.request(method, path, payload, hold_seconds=hold_seconds, headers=headers)
        self._clocks = (answer.date, time.time())
        if 200 <= answer.status < 300:
            return answer
        raise failure(answer, where=self.url + path.partition("?")[0])

    def _session(self, answer: Answer) -> Session:
        return self._read(Session, answer)._replace(raw=_object(answer.body))

    def _read(self, kind: type[T], answer: Answer) -> T:
        try:
            return decode(kind, answer.body)
        except ProtocolError as error:
            raise self._is_none(str(error)) from error

    def _results(self, answer: Answer) -> list[object]:
        found = _object(answer.body).get("results")
        if not isinstance(found, list):
            raise self._is_none("results")
        return found

    def _is_none(self, what: str) -> UnavailableError:
        return UnavailableError(f"{self.url} does not answer as this product does ({what}). Is the URL right?")


def asked(command: str | Sequence[str]) -> dict[str, Any]:
    """Return a command as the API takes it: `command` for a line of text, `argv` for a list."""
    return {"command": command} if isinstance(command, str) else {"argv": list(command)}


def new_key() -> str:
    """Return an Idempotency-Key that nobody has used."""
    return os.urandom(16).hex()


def pause(begun: float) -> None:
    """Wait a second where an answer came at once: the server holds no more requests of this key at the moment."""
    if time.monotonic() - begun < 1:
        time.sleep(1)


def _object(body: object) -> dict[str, Any]:
    return body if isinstance(body, dict) else {}


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
