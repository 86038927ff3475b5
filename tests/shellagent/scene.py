"""A scene to test on: one host, an agent of each maturity, people with fixed roles, and the calls that they make."""

import itertools
import json
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from audit.models import AuditEvent, AuditPayload
from audit.trail import SYSTEM
from governance import keys
from governance.models import Agent, AgentKey
from governance.policy.types import Maturity
from governance.services import agent_party
from shellagent import clerk, protocol
from shellagent.api.hot import hot_call
from shellagent.clerk import Call, Clerk
from shellagent.models import AgentHost, Approval, Decision, ExecutionRecord, Host, IdempotencyKey, ShellSession
from shellagent.protocol import (
    ExecutionReport,
    HostFacts,
    OutputSegment,
    PollAnswer,
    PollRequest,
    Reason,
    RecordRequest,
    RunOutcome,
    Start,
    StartGrant,
    StartRequest,
    StreamTotal,
)
from shellagent.services import (
    Ask,
    Asker,
    enrolment_issue,
    host_enrol,
    host_poll,
    session_request,
    sessions_record,
    sessions_start,
)
from shellagent.services.polling import HostPoll
from tests.conftest import person

FACTS = HostFacts(home="/home/atom", user="atom", scratch="/scratch", hostname="here", platform="linux")
INSTANCE = "instance-1"
#: What each outcome is asked for with: the agent's maturity and a command.
ALLOWED = (Maturity.AUTONOMOUS, "ls /tmp")
ASKED = (Maturity.STUDENT, "ls /tmp")
DENIED = (Maturity.STUDENT, "sudo reboot")

_counter = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: its status, headers and JSON."""

    status: int
    json: Any
    headers: Any

    @property
    def problem(self) -> str:
        """Return the last part of the problem's type. Fails where the answer is no problem."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        assert self.json["status"] == self.status
        assert self.json["title"]
        assert self.json["detail"]
        base, _, name = str(self.json["type"]).rpartition("/")
        assert base.endswith("/problems"), self.json
        return name


@dataclass
class Scene:
    """The rows, and the keys that are shown only once."""

    owner: User
    host: Host
    host_key: str
    agents: dict[Maturity, Agent] = field(default_factory=dict)
    keys: dict[Maturity, str] = field(default_factory=dict)

    @classmethod
    def made(cls, *, name: str = "here", maturities: tuple[Maturity, ...] = tuple(Maturity)) -> "Scene":
        """Make it in the database: a host by its services, and the agents as the rows that theirs would write."""
        owner = person("owner")
        host, key = enrolled(name)
        scene = cls(owner, host, key)
        made = [Agent(name=maturity.lower(), owner=owner, maturity=maturity) for maturity in maturities]
        agents = Agent.objects.bulk_create(made)
        AgentHost.objects.bulk_create([AgentHost(agent=agent, host=host, is_default=True) for agent in agents])
        issued = [keys.make(keys.KeyKind.AGENT) for _ in agents]
        rows = [AgentKey(agent=a, prefix=one.prefix, digest=one.digest) for a, one in zip(agents, issued, strict=True)]
        AgentKey.objects.bulk_create(rows)
        scene.agents = dict(zip(maturities, agents, strict=True))
        scene.keys = {maturity: one.text for maturity, one in zip(maturities, issued, strict=True)}
        # What a host says of itself at its first poll counts in decisions.
        scene.poll(free_slots=0)
        scene.host.refresh_from_db()
        return scene

    # By the services.

    def asker(self, maturity: Maturity) -> Asker:
        """Return an agent as it is in the database now, as one who asks."""
        agent = Agent.objects.get(pk=self.agents[maturity].pk)
        return Asker(agent.pk, agent.name, agent.maturity, agent.is_suspended, agent_party(agent))

    def session(self, kind: tuple[Maturity, str] = ALLOWED, **options: Any) -> ShellSession:
        """Ask for a command and return its session."""
        maturity, command = kind
        session, _is_replay = session_request(ask=Ask(command=command, **options), asker=self.asker(maturity))
        return session

    def poll(
        self, *, running: tuple[UUID, ...] = (), claim_key: str = "", free_slots: int = 8, **changes: Any
    ) -> PollAnswer:
        """Poll as the host, without waiting."""
        request = poll_request(running=running, claim_key=claim_key, free_slots=free_slots, **changes)
        return host_poll(host=Host.objects.get(pk=self.host.pk), request=request)

    def held(self) -> HostPoll:
        """Poll as the host, always with the same claim key, where there is nothing to say yet."""
        request = poll_request(claim_key="held", free_slots=2, hold_seconds=20)
        poll = HostPoll(Host.objects.get(pk=self.host.pk), request)
        assert poll.arrive() is None
        return poll

    def start(self, session_id: UUID | str, start_key: str = "start-1", digest: str = "") -> StartGrant:
        """Ask for the grant to start, with the digest that stands unless another is given."""
        digest = digest or ShellSession.objects.get(pk=session_id).digest
        request = StartRequest(protocol.VERSION, INSTANCE, (Start(str(session_id), start_key, digest),))
        return sessions_start(host=Host.objects.get(pk=self.host.pk), request=request).grants[0]

    def record(self, *reports: ExecutionReport) -> dict[str, str]:
        """Hand in records."""
        request = RecordRequest(protocol.VERSION, INSTANCE, reports)
        return sessions_record(host=Host.objects.get(pk=self.host.pk), request=request).statuses

    def claimed(self, **options: Any) -> ShellSession:
        """Return a session that the host has claimed."""
        session = self.session(ALLOWED, **options)
        self.poll()
        return reread(session)

    def running(self, **options: Any) -> ShellSession:
        """Return a session whose start was granted."""
        session = self.claimed(**options)
        assert self.start(session.pk).status == protocol.GrantStatus.GRANTED
        return reread(session)

    # By HTTP.

    def as_agent(self, maturity: Maturity) -> "Caller":
        """Return a client with an agent's key."""
        return Caller.with_key(self.keys[maturity])

    def as_host(self) -> "Caller":
        """Return a client with the host's key."""
        return Caller.with_key(self.host_key)


class Caller:
    """Somebody who calls by HTTP."""

    def __init__(self, *, enforce_csrf_checks: bool = False, **headers: str) -> None:
        self.client = APIClient(enforce_csrf_checks=enforce_csrf_checks, raise_request_exception=False)
        self.client.credentials(**headers)
        self.headers = headers
        #: Leave the clerk out, as another server than ours would.
        self.is_by_views = False

    @classmethod
    def with_key(cls, key: str) -> "Caller":
        """Return one who sends a Bearer key."""
        return cls(HTTP_AUTHORIZATION=f"Bearer {key}")

    @classmethod
    def logged_in(cls, user: User, *, enforce_csrf_checks: bool = False) -> "Caller":
        """Return a person with a login."""
        caller = cls(enforce_csrf_checks=enforce_csrf_checks)
        caller.client.force_login(user)
        return caller

    def call(self, method: str, path: str, body: Any = None, **extra: Any) -> Answer:
        """Send a request by the road that the web server chooses. A body of bytes goes as it is, others as JSON."""
        if not self.is_by_views and (answer := self._by_clerk(method, path, body, extra)):
            return answer
        if isinstance(body, bytes):
            extra.setdefault("content_type", "application/json")
            response = self.client.generic(method, path, cast(Any, body), **extra)
        else:
            response = getattr(self.client, method.lower())(path, body, **extra)
        has_json = "json" in response.headers.get("Content-Type", "")
        return Answer(response.status_code, json.loads(response.content) if has_json else None, response.headers)

    def _by_clerk(self, method: str, path: str, body: Any, extra: dict[str, Any]) -> Answer | None:
        if "CONTENT_LENGTH" in extra:
            return None
        given = {"CONTENT_TYPE": "application/json", **self.headers, **extra}
        names = {name: name.removeprefix("HTTP_").replace("_", "-").lower() for name in given}
        headers = {names[name].encode(): str(value).encode("latin-1") for name, value in given.items()}
        address, _, query = path.partition("?")
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        call = hot_call(method, address, query.encode(), headers, content)
        if call is None:
            return None
        answers: list[tuple[Call, clerk.Answer]] = []
        desk = Clerk(answers.extend)
        desk.take(call)
        desk.serve(until=lambda: bool(answers))
        answer = answers[0][1]
        found = {name.decode().title(): value.decode() for name, value in answer.headers}
        return Answer(answer.status, json.loads(answer.body), found)

    def get(self, path: str, **extra: Any) -> Answer:
        """Send a GET."""
        return self.call("GET", path, **extra)

    def post(self, path: str, body: Any = None, **extra: Any) -> Answer:
        """Send a POST."""
        return self.call("POST", path, {} if body is None else body, **extra)

    def execute(self, command: str = "ls /tmp", **body: Any) -> Answer:
        """Ask for a command."""
        return self.post("/api/local-agent/execute", {"command": command, **body})


def enrolled(name: str, *, is_local: bool = False) -> tuple[Host, str]:
    """Enrol a host. Returns it and its key."""
    return host_enrol(code=enrolment_issue(name=name, actor=SYSTEM, is_local=is_local), facts=FACTS)


def poll_request(
    *, running: tuple[UUID, ...] = (), claim_key: str = "", free_slots: int = 8, **changes: Any
) -> PollRequest:
    """Return a poll that does not wait. Without a claim key it gets one of its own."""
    return PollRequest(
        **{
            "v": protocol.VERSION,
            "instance_id": INSTANCE,
            "boot_id": "boot-1",
            "claim_key": claim_key or f"claim-{next(_counter)}",
            "free_slots": free_slots,
            "running": tuple(str(item) for item in running),
            "spool": 0,
            "protections": ("landlock-fs",),
            "facts": FACTS,
            "version": "1.0",
            "hold_seconds": 0,
            **changes,
        }
    )


def report(session: ShellSession, outcome: RunOutcome = RunOutcome.SUCCEEDED, **changes: Any) -> ExecutionReport:
    """Return a host's record of a session, with `hi` on its standard output."""
    return ExecutionReport(
        **{
            "id": str(session.pk),
            "start_key": session.start_key,
            "digest": session.digest,
            "outcome": outcome,
            "reason": Reason.EXIT,
            "detail": "",
            "exit_codes": (0,),
            "stdout": StreamTotal(2, "a" * 64, False),
            "stderr": StreamTotal(0, "b" * 64, False),
            "duration_us": 1200,
            "output": (OutputSegment.of("stdout", 0, b"hi"),),
            **changes,
        }
    )


def reread(session: ShellSession) -> ShellSession:
    """Return the session as the database has it."""
    return ShellSession.objects.get(pk=session.pk)


def tags(session: ShellSession) -> list[str]:
    """Return what the trail says of a session, in order, having checked that its numbers have no gap."""
    events = list(AuditEvent.objects.filter(session_id=session.pk).order_by("session_seq"))
    assert [event.session_seq for event in events] == list(range(1, len(events) + 1))
    assert reread(session).event_seq == len(events)
    return [event.tag.removeprefix("session:") for event in events]


def rows() -> dict[str, int]:
    """Return how many rows there are of all that a request can make, the trail left out."""
    models = (ShellSession, Decision, Approval, ExecutionRecord, IdempotencyKey, AuditPayload)
    return {model.__name__: model.objects.count() for model in models}
