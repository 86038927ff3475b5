"""`localagent execute`: ask for a command over the public API as an agent, wait, print its output, exit as it did."""

import argparse
import base64
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from shellagent.host.arguments import Exit, server_url
from shellagent.host.client import Answer, Client, failure
from shellagent.host.console import without_escapes
from shellagent.host.errors import CallError, DeclinedError, StateError, UnauthorisedError, UnavailableError
from shellagent.host.state import Enrolment, atom_home, read_secret, take_key

KEY_VARIABLE: Final = "ATOM_KEY"
CREDENTIALS: Final = "credentials.json"
#: The first wait, in which most commands end; then output is followed while the command runs.
FIRST_WAIT_SECONDS: Final = 2
FOLLOW_SECONDS: Final = 20
MOST_WAIT_SECONDS: Final = 45
SETTLED: Final = {
    "denied": Exit.DENIED,
    "rejected": Exit.DENIED,
    "refused": Exit.DENIED,
    "expired": Exit.DENIED,
    "timed_out": Exit.TIMED_OUT,
    "cancelled": Exit.CANCELLED,
    "aborted": Exit.CANCELLED,
    "lost": Exit.INTERNAL,
}
#: Problems that stand for a decision against the command, whatever their HTTP status.
DENYING: Final = ("denied", "not-allowlisted", "suspended")


def execute(options: argparse.Namespace) -> int:
    """Run the command and return its exit code, or the one that says why it has none. Raises HostError."""
    url, key = _who(options)
    client = Client(url, key)
    try:
        return _Execution(client, options).run()
    finally:
        client.close()


@dataclass
class _Execution:
    client: Client
    options: argparse.Namespace
    #: By stream, the offset after what was printed.
    _printed: dict[str, int] = field(default_factory=lambda: {"stdout": 0, "stderr": 0})
    _is_followed: bool = False
    _told: str = ""

    def run(self) -> int:
        wanted: dict[str, Any] = {"command": self.options.command, "wait_seconds": FIRST_WAIT_SECONDS}
        chosen = {
            "working_directory": self.options.directory,
            "timeout_seconds": self.options.timeout,
            "reason": self.options.reason,
            "host": self.options.on_host,
        }
        wanted |= {name: value for name, value in chosen.items() if value is not None}
        answer = self.client.request(
            "POST", "/api/local-agent/execute", wanted, hold_seconds=FIRST_WAIT_SECONDS, is_repeatable=False
        )
        if answer.status not in (200, 202):
            return self._refused(answer)
        session = self._session(answer)
        give_up_at = time.monotonic() + self.options.wait
        while not session.get("finished_at"):
            self._tell(session)
            is_started = session.get("status") in ("running", "claimed")
            if not is_started and time.monotonic() >= give_up_at:
                return self._end(session, Exit.WAITING)
            if is_started and not self.options.json:
                session = self._follow(session)
            else:
                session = self._wait(session, is_started=is_started, give_up_at=give_up_at)
        if not self._is_followed:
            if "\ufffd".encode() in _content(session, "stdout") + _content(session, "stderr"):
                session = self._get(str(session["id"]), 0)
            self._print_output(session)
        return self._end(session, _settled(session))

    def _wait(self, session: Mapping[str, Any], *, is_started: bool, give_up_at: float) -> dict[str, Any]:
        begun = time.monotonic()
        left = MOST_WAIT_SECONDS if is_started else min(MOST_WAIT_SECONDS, max(1, int(give_up_at - begun)))
        found = self._get(str(session["id"]), left)
        if not found.get("finished_at"):
            _pause(begun)
        return found

    def _follow(self, session: dict[str, Any]) -> dict[str, Any]:
        """Print what is new of the output of a session that runs, as soon as there is any. Returns where it is then."""
        begun = time.monotonic()
        after = f"{self._printed['stdout']},{self._printed['stderr']}"
        query = f"after={after}&wait_seconds={FOLLOW_SECONDS}&encoding=base64"
        path = f"/api/local-agent/sessions/{session['id']}/output?{query}"
        answer = self.client.request("GET", path, hold_seconds=FOLLOW_SECONDS)
        if answer.status != 200:
            raise failure(answer, where=self.client.url + path)
        body = self._session(answer)
        has_news = [self._print_parts(name, body.get(name)) for name in self._printed]
        if body.get("finished"):
            self._is_followed = True
            return self._get(str(session["id"]), 0)
        if not any(has_news):
            _pause(begun)
        return {**session, "status": body.get("status")}

    def _print_parts(self, name: str, parts: object) -> bool:
        """Print parts of a stream in order. Raises UnavailableError for what are none."""
        if not isinstance(parts, list):
            raise UnavailableError("The answer does not hold output. Is the URL right?")
        for part in parts:
            try:
                offset, data = int(part["offset"]), base64.b64decode(part["text"], validate=True)
            except (TypeError, KeyError, ValueError) as error:
                raise UnavailableError("The answer does not hold output. Is the URL right?") from error
            if offset > self._printed[name]:
                self._print(name, b"\n[... %d bytes cut ...]\n" % (offset - self._printed[name]))
            self._print(name, data)
            self._printed[name] = offset + len(data)
        return bool(parts)

    def _get(self, session_id: str, wait_seconds: int) -> dict[str, Any]:
        path = f"/api/local-agent/sessions/{session_id}?encoding=base64&wait_seconds={wait_seconds}"
        answer = self.client.request("GET", path, hold_seconds=wait_seconds)
        if answer.status != 200:
            raise failure(answer, where=self.client.url + path)
        return {**self._session(answer), "is_base64": True}

    @staticmethod
    def _session(answer: Answer) -> dict[str, Any]:
        if not isinstance(answer.body, dict) or not isinstance(answer.body.get("id"), str):
            raise UnavailableError("The answer is not a session. Is the URL right?")
        return answer.body

    def _tell(self, session: Mapping[str, Any]) -> None:
        status = str(session.get("status"))
        if status == self._told:
            return
        self._told = status
        if status == "pending":
            _note(f"waiting for a person to approve it: {session.get('approve_url')}")
        elif status == "queued":
            online = "" if session.get("host_online", True) else ", which is offline"
            _note(f"waiting for the host{online}")

    def _print_output(self, session: Mapping[str, Any]) -> None:
        """Print the output of a session that ended."""
        if not self.options.json:
            for name in self._printed:
                self._print(name, _content(session, name))

    @staticmethod
    def _print(name: str, data: bytes) -> None:
        stream = sys.stdout if name == "stdout" else sys.stderr
        if data:
            _write(stream.buffer, data, is_terminal=stream.isatty())

    def _end(self, session: dict[str, Any], code: int) -> int:
        if self.options.json:
            shown = {**session, **{name: _content(session, name).decode(errors="replace") for name in self._printed}}
            shown.pop("is_base64", None)
            sys.stdout.write(json.dumps({"process_exit_code": int(code), **shown}) + "\n")
        elif code == Exit.WAITING:
            _note(f"session {session['id']} is {session.get('status')}")
        elif session.get("status") not in ("succeeded", "failed"):
            _note(f"{session.get('status')}: {_why(session)}")
        elif session.get("termination_detail"):
            _note(str(session["termination_detail"]))
        return int(code)

    def _refused(self, answer: Answer) -> int:
        error = failure(answer, where=f"{self.client.url}/api/local-agent/execute")
        problem: Mapping[str, Any] = answer.body if isinstance(answer.body, dict) else {}
        code = _refusal_code(error, problem)
        if self.options.json:
            sys.stdout.write(json.dumps({"process_exit_code": int(code), **problem}) + "\n")
        _note(str(error))
        return int(code)


def _refusal_code(error: CallError, problem: Mapping[str, Any]) -> Exit:
    if str(problem.get("type", "")).rstrip("/").rpartition("/")[2] in DENYING:
        return Exit.DENIED
    if isinstance(error, UnauthorisedError):
        return Exit.UNAUTHORISED
    if isinstance(error, UnavailableError):
        return Exit.WAITING if problem.get("status") == 429 else Exit.UNAVAILABLE
    return Exit.USAGE if isinstance(error, DeclinedError) else Exit.UNAVAILABLE


def _settled(session: Mapping[str, Any]) -> int:
    code = session.get("exit_code")
    if session.get("status") in ("succeeded", "failed") and isinstance(code, int):
        return code
    return SETTLED.get(str(session.get("status")), Exit.INTERNAL)


def _why(session: Mapping[str, Any]) -> str:
    approval, decision = session.get("approval"), session.get("decision")
    reasons = (
        session.get("termination_detail"),
        approval.get("reason") if isinstance(approval, dict) else None,
        decision.get("explanation") if isinstance(decision, dict) else None,
        session.get("termination_reason"),
    )
    return next((str(reason) for reason in reasons if reason), "no reason was given")


def _content(session: Mapping[str, Any], name: str) -> bytes:
    """Return a stream's bytes. The first answer carries text, each later one base64."""
    value = session.get(name)
    if not isinstance(value, str):
        return b""
    try:
        return base64.b64decode(value, validate=True) if session.get("is_base64") else value.encode()
    except ValueError as error:
        raise UnavailableError("The answer does not hold output. Is the URL right?") from error


def _pause(begun: float) -> None:
    """Wait a second where an answer came at once: the server holds no more requests of this key at the moment."""
    if time.monotonic() - begun < 1:
        time.sleep(1)


def _write(stream: BinaryIO, data: bytes, *, is_terminal: bool) -> None:
    stream.write(without_escapes(data.decode(errors="replace")).encode() if is_terminal else data)
    stream.flush()


def _note(message: str) -> None:
    sys.stderr.write(f"localagent: {without_escapes(message)}\n")
    sys.stderr.flush()


def _who(options: argparse.Namespace) -> tuple[str, str]:
    """Return the server's URL and the agent's key. Raises StateError with the next step."""
    key, credentials = take_key(KEY_VARIABLE), _credentials()
    if options.agent:
        agents = credentials.get("agents")
        name = str(options.agent).lower().removeprefix("demo-")
        found = agents.get(name) if isinstance(agents, dict) else None
        if not isinstance(found, dict):
            known = ", ".join(agents) if isinstance(agents, dict) else "none"
            raise StateError(
                f"{atom_home() / CREDENTIALS} has no key of an agent {options.agent!r} (it has: {known}). Set ATOM_KEY."
            )
        key = str(found.get("key", ""))
    if not key:
        raise StateError("No agent is named: give --agent NAME, or set ATOM_KEY to the agent's key.")
    return server_url(options, Enrolment(url=str(credentials.get("url") or ""))), key


def _credentials() -> dict[str, Any]:
    file = atom_home() / CREDENTIALS
    if not file.exists():
        return {}
    try:
        data = json.loads(read_secret(file, missing=""))
    except ValueError as error:
        raise StateError(f"{file} is damaged: {error}") from error
    return data if isinstance(data, dict) else {}
