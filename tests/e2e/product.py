"""The product as real processes: web server, worker and any number of hosts, on a database and a home of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests

from audit.models import AuditEvent
from audit.trail import SYSTEM
from governance.models import Agent
from shellagent.models import Host, ShellSession
from shellagent.services.hosts import agent_host_set, enrolment_issue
from tests.database import OwnDatabase

ROOT = Path(__file__).resolve().parents[2]
MANAGE = (sys.executable, str(ROOT / "manage.py"))
ENDED = frozenset({"denied", "rejected", "expired", "cancelled", "refused", "succeeded", "failed", "timed_out"})
ENDED_RUNNING = frozenset({"aborted", "lost"})

T = TypeVar("T")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(what: Callable[[], T], seconds: float = 20, why: str | Callable[[], str] = "") -> T:
    """Return the first true value of `what()`, asked every 50 ms. Fails, and says why, when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {why() if callable(why) else why or what}"
        time.sleep(0.05)


@dataclass
class Process:
    """One process of the product, and the file that holds what it printed."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    #: Where this process's own lines begin: one that had the name before wrote those above.
    begins: int = 0

    def text(self) -> str:
        """Return what this process printed."""
        return self.log.read_bytes()[self.begins :].decode(errors="replace")

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20) -> int:
        """Send a signal, wait, and return the exit status."""
        with suppress(ProcessLookupError):
            self.popen.send_signal(number)
        return self.popen.wait(timeout=seconds)

    def end(self) -> None:
        """Kill the process and all that it started."""
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.popen.pid).children(recursive=True)
            self.popen.kill()
            for child in family:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        self.popen.wait(timeout=10)


@dataclass
class Product:
    """Use `start` for a running one. `agents` are credentials.json's: id and key by maturity in small letters."""

    database: OwnDatabase
    folder: Path
    port: int = field(default_factory=free_port)
    processes: dict[str, Process] = field(default_factory=dict)
    agents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    admin: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def environment(self) -> dict[str, str]:
        own = {"PORT": str(self.port), "XDG_CACHE_HOME": str(self.folder / "cache"), "PYTHONUNBUFFERED": "1"}
        return {**self.database.environment(self.home), **own}

    def manage(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end."""
        return subprocess.run(
            [*MANAGE, *arguments],
            env={**self.environment(), **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def start(self) -> None:
        """Set up, and start the web server, the worker and the host of this machine."""
        done = self.manage("init")
        assert done.returncode == 0, done.stdout + done.stderr
        credentials = json.loads((self.home / "credentials.json").read_text())
        self.agents, self.admin = credentials["agents"], credentials["admin"]
        self.start_web()
        self.spawn("worker", *MANAGE, "qcluster")
        self.start_host("host", self.home / "host")

    def spawn(self, name: str, *argv: str) -> Process:
        """Start a process under a name; the one that had it before has ended."""
        log = self.folder / f"{name}.log"
        begins = log.stat().st_size if log.exists() else 0
        with log.open("ab") as stream:
            popen = subprocess.Popen(
                argv, env=self.environment(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
        self.processes[name] = Process(name, popen, log, begins)
        return self.processes[name]

    def start_web(self) -> Process:
        """Start the web server, and return once it answers."""
        process = self.spawn(
            "web", sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "atomsite.asgi:application"
        )
        eventually(self.is_up, 60, why=f"the web server does not answer, see {process.log}")
        return process

    def is_up(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/admin/login/", timeout=5).status_code == 200
        return False

    def start_host(self, name: str, state: Path) -> Process:
        """Start a local agent on this state folder, and return once it is about to poll."""
        process = self.spawn(
            name, *MANAGE, "runlocalagent", "--backend-url", self.url, "--state-dir", str(state), "--concurrency", "2"
        )
        eventually(
            lambda: "scratch folder: " in process.text(), 60, why=f"the local agent is not ready, see {process.log}"
        )
        return process

    def enrol(self, name: str) -> Path:
        """Enrol another host by `localagent enroll` that every agent may use, and return its state folder."""
        state = self.folder / name
        code = enrolment_issue(name=name, actor=SYSTEM)
        done = self.manage(
            "localagent", "enroll", "--backend-url", self.url, "--state-dir", str(state), ATOM_ENROL_CODE=code
        )
        assert done.returncode == 0, done.stdout + done.stderr
        host = Host.objects.get(name=name)
        for agent in Agent.objects.all():
            agent_host_set(agent=agent, host=host, actor=SYSTEM)
        return state

    def execute(
        self, maturity: str, command: str | list[str], *, wait: int = 20, **values: object
    ) -> requests.Response:
        """Ask for a command as the demonstration agent of this maturity."""
        what = {"command": command} if isinstance(command, str) else {"argv": command}
        return requests.post(
            f"{self.url}/api/local-agent/execute",
            json={**what, "wait_seconds": wait, **values},
            headers=self.headers(maturity),
            timeout=60,
        )

    def run(self, maturity: str, command: str | list[str], *, wait: int = 20, **values: object) -> dict[str, Any]:
        """Ask for a command, approve it where a person is asked, and return the session once it has ended."""
        response = self.execute(maturity, command, wait=0, **values)
        assert response.status_code in (200, 202), response.text
        session: dict[str, Any] = response.json()
        if session["status"] == "pending":
            answer = self.person().decide(session["id"], "approve")
            assert answer.status_code == 200, answer.text
        return self.until(session["id"], *ENDED, *ENDED_RUNNING, seconds=wait) if wait else session

    def headers(self, maturity: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.agents[maturity]['key']}"}

    def session(self, session_id: str, maturity: str = "autonomous") -> dict[str, Any]:
        """Return a session as its agent sees it."""
        response = requests.get(
            f"{self.url}/api/local-agent/sessions/{session_id}", headers=self.headers(maturity), timeout=20
        )
        assert response.status_code == 200, response.text
        shown: dict[str, Any] = response.json()
        return shown

    def until(self, session_id: str, *states: str, seconds: float = 30) -> dict[str, Any]:
        """Return the session as its API shows it once it is in one of these states."""
        eventually(
            lambda: ShellSession.objects.filter(pk=session_id, status__in=states).exists(),
            seconds,
            lambda: f"{session_id} is {ShellSession.objects.get(pk=session_id).status}, none of {states}",
        )
        agent_id = ShellSession.objects.get(pk=session_id).agent_id
        maturity = next(name for name, agent in self.agents.items() if agent["id"] == agent_id)
        return self.session(session_id, maturity)

    def tags(self, session_id: str) -> list[str]:
        """Return the tags of a session's events in their order, after checking that no number is missing."""
        rows = list(AuditEvent.objects.filter(session_id=session_id).order_by("session_seq", "pk"))
        numbers = [row.session_seq for row in rows if row.session_seq is not None]
        assert numbers == list(range(1, len(numbers) + 1)), numbers
        return [row.tag for row in rows]

    def person(self) -> "Person":
        """Return the administrator, logged in."""
        return Person(self.url, self.admin["username"], self.admin["password"])

    def end(self) -> None:
        """End every process, whatever state it is in."""
        for process in reversed(self.processes.values()):
            process.end()


class Person:
    """Someone who logged in through the admin's form and uses the API with the session's cookie."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self._url = url
        self._session = requests.Session()
        login = f"{url}/admin/login/"
        self._session.get(login, timeout=20)
        form = {"username": username, "password": password, "csrfmiddlewaretoken": self._token()}
        done = self._session.post(login, data=form, headers={"Referer": login}, allow_redirects=False, timeout=20)
        assert done.status_code == 302, f"the login failed: {done.status_code}"

    def decide(self, session_id: str, decision: str, reason: str = "") -> requests.Response:
        """Approve or reject through the API."""
        body = {"session_id": session_id, "decision": decision, **({"reason": reason} if reason else {})}
        return self.post("/api/local-agent/approve", body)

    def post(self, path: str, body: object) -> requests.Response:
        headers = {"X-CSRFToken": self._token(), "Referer": self._url}
        return self._session.post(self._url + path, json=body, headers=headers, timeout=20)

    def get(self, path: str) -> requests.Response:
        return self._session.get(self._url + path, timeout=20)

    def _token(self) -> str:
        return str(self._session.cookies.get("csrftoken", ""))


def is_running(pid: int) -> bool:
    """Return whether a process is there and not a zombie."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def environment_without(*names: str) -> dict[str, str]:
    """Return this process's environment without some names."""
    return {name: value for name, value in os.environ.items() if name not in names}
