"""The tour of the first start: five real requests by the demonstration agents, and what came of each."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import requests

from atomsite.terminal import paint, visible

EXECUTE: Final = "/api/local-agent/execute"
#: A host that has just started takes a moment; what waits for a person is not waited for.
WAIT_SECONDS: Final = 20
REQUEST_SECONDS: Final = 40
SHOWN_LINES: Final = 6
GREEN, YELLOW, RED, DIM, BOLD = "32", "33", "31", "2", "1"


class TourError(Exception):
    """The tour cannot go on: no keys, or the server does not answer as it should."""


@dataclass(frozen=True, slots=True)
class Stop:
    """One request of the tour. `agent` is a key of credentials.json's agents."""

    agent: str
    command: str
    title: str
    reason: str
    wait_seconds: int = WAIT_SECONDS


STOPS: Final = (
    Stop("autonomous", "ls /tmp", "An AUTONOMOUS agent reads, and it runs", "Show me what is in /tmp"),
    Stop("supervised", "cat readme.txt", "A SUPERVISED agent reads in its own folder, and it runs", "Read the notes"),
    Stop("student", "ls /tmp", "A STUDENT asks the same as the first, and waits for a person", "Show me /tmp", 0),
    Stop("student", "sudo reboot", "Nobody becomes root, whatever the maturity", "Restart the machine"),
    Stop("intern", "unheard-of-program", "An INTERN asks for a program that no rule knows", "Try something new"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one request: the HTTP status and its JSON object."""

    status: int
    body: Mapping[str, object]

    def text(self, name: str) -> str:
        """Return a member as text, empty where it is missing."""
        value = self.body.get(name)
        return "" if value is None else str(value)


class Tour:
    """Requests to one server. `url` is where it answers; `agents` is that part of credentials.json."""

    def __init__(self, url: str, agents: Mapping[str, Mapping[str, object]], *, is_coloured: bool) -> None:
        self._url = url
        self._agents = agents
        self._is_coloured = is_coloured
        self._session = requests.Session()
        # A proxy of the environment is not meant for this machine's own server.
        self._session.trust_env = False

    def ask(self, stop: Stop) -> Answer:
        """Make the request of a stop. Raises TourError where no JSON object comes back."""
        try:
            response = self._session.post(
                self._url + EXECUTE,
                json={"command": stop.command, "reason": stop.reason, "wait_seconds": stop.wait_seconds},
                headers={"Authorization": f"Bearer {self._agents[stop.agent]['key']}"},
                timeout=REQUEST_SECONDS,
                allow_redirects=False,
            )
            body = response.json()
        except (requests.RequestException, ValueError) as error:
            raise TourError(f"{self._url}{EXECUTE} gave no answer that could be read: {error}") from error
        except KeyError:
            raise TourError(f"credentials.json has no key for the {stop.agent} agent.") from None
        if not isinstance(body, dict):
            raise TourError(f"{self._url}{EXECUTE} answered {response.status_code} without a JSON object.")
        return Answer(response.status_code, body)

    def lines(self) -> Iterator[str]:
        """Make every request, and yield what to print of each as it comes."""
        for number, stop in enumerate(STOPS, 1):
            yield ""
            yield self._paint(f"{number}. {stop.title}", BOLD)
            yield f"   demo-{stop.agent} asks for: {self._paint(stop.command, BOLD)}"
            started = time.monotonic()
            answer = self.ask(stop)
            milliseconds = (time.monotonic() - started) * 1000
            yield from (f"   {line}" for line in self._tell(answer, milliseconds))

    def _tell(self, answer: Answer, milliseconds: float) -> Iterator[str]:
        status = answer.text("status")
        head = f"HTTP {answer.status}"
        if answer.status == 200:
            good = answer.body.get("exit_code") == 0
            verdict = f"{status}, exit code {answer.text('exit_code')}"
            yield f"{head}: {self._paint(verdict, GREEN if good else RED)} in {milliseconds:.0f} ms"
            yield from self._output(answer.text("stdout") or answer.text("stderr"))
        elif status == "pending":
            yield f"{head}: {self._paint('pending, a person must approve it', YELLOW)}"
            yield from self._why(answer)
            yield f"approve or reject it here: {visible(answer.text('approve_url'))}"
        elif answer.status < 400:
            yield f"{head}: {self._paint(status, YELLOW)}; the local agent has not taken it yet"
        else:
            yield f"{head}: {self._paint(answer.text('title') or 'refused', RED)}"
            yield from self._why(answer)

    def _why(self, answer: Answer) -> Iterator[str]:
        decision = answer.body.get("decision")
        explanation = decision.get("explanation") if isinstance(decision, dict) else None
        text = str(explanation or answer.text("detail"))
        if text:
            yield f"why: {visible(text)}"

    def _output(self, text: str) -> Iterator[str]:
        lines = text.splitlines()
        for line in lines[:SHOWN_LINES]:
            yield self._paint("| ", DIM) + visible(line)
        if len(lines) > SHOWN_LINES:
            yield self._paint(f"| … and {len(lines) - SHOWN_LINES} more lines", DIM)

    def _paint(self, text: str, code: str) -> str:
        return paint(text, code, on=self._is_coloured)


def curl_line(url: str, key: str) -> str:
    """Return a command for a shell that runs `ls /tmp` with this key."""
    body = json.dumps({"command": "ls /tmp", "wait_seconds": WAIT_SECONDS})
    return f"curl -sS {url}{EXECUTE} -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{body}'"
