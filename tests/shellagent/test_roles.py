"""Every endpoint against every role, in one table of what each is answered."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import transaction
from django.urls import URLPattern, resolve
from django.utils import timezone

from atomsite import urls
from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM
from governance.models import Agent, AgentKey
from governance.policy.types import Maturity
from governance.services import agent_create, key_issue, key_revoke
from shellagent import protocol
from shellagent.models import EnrolmentCode, ExecutionRecord, ShellSession
from shellagent.services import (
    Ask,
    Asker,
    agent_host_set,
    enrolment_issue,
    host_set_enabled,
    session_request,
)
from tests.conftest import person
from tests.shellagent.scene import FACTS, INSTANCE, Caller, Scene, enrolled, poll_request, report

Call = tuple[str, str, Any]

ROLES = (
    "anonymous",  # no key, no login
    "agent",  # whose sessions they are
    "other agent",
    "host",  # that the sessions are for
    "other host",
    "user",  # logged in, no permission
    "owner",  # of the agent
    "viewer",  # may see every session
    "approver",  # may approve and see sessions
    "requester",  # a person who asked in the agent's name, and has every permission that a person can have
    "superuser",
)


@dataclass(frozen=True)
class Stage:
    """What the calls are about: a running session of the agent's, and one that a person asked for and that waits."""

    scene: Scene
    agent: Agent
    running: ShellSession
    pending: ShellSession
    callers: dict[str, Caller]
    enrolment_code: str


@pytest.fixture
def stage(db: None) -> Stage:
    scene = Scene.made(maturities=(Maturity.STUDENT, Maturity.AUTONOMOUS))
    agent = scene.agents[Maturity.STUDENT]
    requester = person(
        "requester",
        *("shellagent.approve", "shellagent.execute_for_agent", "shellagent.control_host"),
        *("shellagent.view_shellsession", "shellagent.view_host", "governance.view_agent", "audit.view_audit"),
    )
    other_agent = agent_create(name="other", owner=person("another"), actor=SYSTEM)
    agent_host_set(agent=other_agent, host=scene.host, actor=SYSTEM)
    pending, _ = session_request(ask=Ask(command="ls /tmp"), asker=Asker.person(requester, agent))
    Agent.objects.filter(pk=agent.pk).update(maturity=Maturity.AUTONOMOUS)
    running, _ = session_request(ask=Ask(command="ls /tmp"), asker=scene.asker(Maturity.STUDENT))
    scene.poll()
    scene.start(running.pk)
    Agent.objects.filter(pk=agent.pk).update(maturity=Maturity.STUDENT)
    callers = {
        "anonymous": Caller(),
        "agent": scene.as_agent(Maturity.STUDENT),
        "other agent": Caller.with_key(key_issue(agent=other_agent, actor=SYSTEM)),
        "host": scene.as_host(),
        "other host": Caller.with_key(enrolled("other")[1]),
        "user": Caller.logged_in(person("user")),
        "owner": Caller.logged_in(scene.owner),
        "viewer": Caller.logged_in(person("viewer", "shellagent.view_shellsession")),
        "approver": Caller.logged_in(person("approver", "shellagent.approve", "shellagent.view_shellsession")),
        "requester": Caller.logged_in(requester),
        "superuser": Caller.logged_in(person("superuser", is_superuser=True)),
    }
    running.refresh_from_db()
    return Stage(scene, agent, running, pending, callers, enrolment_issue(name="third", actor=SYSTEM))


def decide(decision: str) -> Callable[[Stage], Call]:
    def call(stage: Stage) -> Call:
        body = {"session_id": str(stage.pending.pk), "decision": decision, "reason": "because"}
        return "POST", "/api/local-agent/approve", body

    return call


def execute(stage: Stage) -> Call:
    return "POST", "/api/local-agent/execute", {"command": "ls /tmp", "agent_id": stage.agent.pk}


def poll(stage: Stage) -> Call:
    return "POST", "/api/host/poll", protocol.encode(poll_request())


def start(stage: Stage) -> Call:
    wish = protocol.Start(str(stage.running.pk), "start-1", stage.running.digest)
    return "POST", "/api/host/start", protocol.encode(protocol.StartRequest(1, INSTANCE, (wish,)))


def output(stage: Stage) -> Call:
    segment = protocol.OutputSegment.of("stdout", 0, b"hi")
    body = protocol.encode(protocol.OutputRequest(1, "start-1", (segment,)))
    return "POST", f"/api/host/sessions/{stage.running.pk}/output", body


def record(stage: Stage) -> Call:
    return "POST", "/api/shell/log", protocol.encode(protocol.RecordRequest(1, INSTANCE, (report(stage.running),)))


def enrol(stage: Stage) -> Call:
    return "POST", "/api/host/enroll", protocol.encode(protocol.EnrolRequest(1, FACTS))


def to(method: str, path: str, **body: Any) -> Callable[[Stage], Call]:
    def call(stage: Stage) -> Call:
        places = {"agent": stage.agent.pk, "running": stage.running.pk, "pending": stage.pending.pk}
        return method, path.format(**places), body or None

    return call


SESSION = "/api/local-agent/sessions/{pending}"
# anonymous, agent, other agent, host, other host, user, owner, viewer, approver, requester, superuser
TABLE: dict[str, tuple[Callable[[Stage], Call], tuple[int, ...]]] = {
    "execute": (execute, (401, 202, 403, 403, 403, 403, 202, 403, 403, 202, 202)),
    "dry run": (
        to("POST", "/api/agents/{agent}/governance", command="ls /tmp"),
        (401, 200, 403, 403, 403, 404, 200, 404, 404, 200, 200),
    ),
    "dry run by GET": (
        to("GET", "/api/agents/{agent}/governance?command=ls"),
        (401, 200, 403, 403, 403, 404, 200, 404, 404, 200, 200),
    ),
    "approve": (decide("approve"), (401, 403, 403, 403, 403, 404, 403, 403, 200, 403, 200)),
    "reject": (decide("reject"), (401, 403, 403, 403, 403, 404, 403, 403, 200, 403, 200)),
    "status": (to("GET", "/api/local-agent/status"), (401, 200, 200, 403, 403, 200, 200, 200, 200, 200, 200)),
    "start host": (
        to("POST", "/api/local-agent/start", host="here"),
        (401, 403, 403, 403, 403, 403, 403, 403, 403, 200, 200),
    ),
    "stop host": (
        to("POST", "/api/local-agent/stop", host="here"),
        (401, 403, 403, 403, 403, 403, 403, 403, 403, 200, 200),
    ),
    "rotate a host's key": (
        to("POST", "/api/local-agent/rotate-key", host="here"),
        (401, 403, 403, 403, 403, 403, 403, 403, 403, 200, 200),
    ),
    "sessions": (to("GET", "/api/local-agent/sessions"), (401, 200, 200, 403, 403, 200, 200, 200, 200, 200, 200)),
    "session": (to("GET", SESSION), (401, 200, 404, 403, 403, 404, 200, 200, 200, 200, 200)),
    "session output": (to("GET", SESSION + "/output"), (401, 200, 404, 403, 403, 404, 200, 200, 200, 200, 200)),
    # To see a session is not enough to cancel it.
    "cancel": (to("POST", SESSION + "/cancel"), (401, 200, 404, 403, 403, 404, 200, 403, 200, 200, 200)),
    "agents": (to("GET", "/api/agents"), (401, 200, 200, 403, 403, 200, 200, 200, 200, 200, 200)),
    "agent": (to("GET", "/api/agents/{agent}"), (401, 200, 404, 403, 403, 404, 200, 404, 404, 200, 200)),
    "host poll": (poll, (401, 403, 403, 200, 200, 401, 401, 401, 401, 401, 401)),
    "host grant": (start, (401, 403, 403, 200, 200, 401, 401, 401, 401, 401, 401)),
    "host output": (output, (401, 403, 403, 200, 404, 401, 401, 401, 401, 401, 401)),
    "host record": (record, (401, 403, 403, 200, 200, 401, 401, 401, 401, 401, 401)),
    "host key": (to("POST", "/api/host/key", v=1), (401, 403, 403, 200, 200, 401, 401, 401, 401, 401, 401)),
    "host enrol": (enrol, (401, 403, 403, 403, 403, 401, 401, 401, 401, 401, 401)),
    "host status": (to("GET", "/api/host/status"), (401, 403, 403, 200, 200, 401, 401, 401, 401, 401, 401)),
    "kill switch": (
        to("POST", "/api/local-agent/killswitch", state="on", reason="a test"),
        (401, 403, 403, 403, 403, 403, 403, 403, 403, 200, 200),
    ),
    "audit events": (to("GET", "/api/audit/events"), (401, 403, 403, 403, 403, 403, 403, 403, 403, 200, 200)),
    "audit verify": (to("GET", "/api/audit/verify"), (401, 403, 403, 403, 403, 403, 403, 403, 403, 200, 200)),
    # Who may read the trail may not take it away.
    "audit export": (
        to("GET", "/api/audit/export?format=csv"),
        (401, 403, 403, 403, 403, 403, 403, 403, 403, 403, 200),
    ),
    # Public, but a key of another kind is told so.
    "schema": (to("GET", "/api/schema"), (200, 200, 200, 403, 403, 200, 200, 200, 200, 200, 200)),
    "docs": (to("GET", "/api/docs"), (200, 200, 200, 403, 403, 200, 200, 200, 200, 200, 200)),
}


@contextmanager
def unkept() -> Iterator[None]:
    """Take back what was done inside, so that each call finds the same."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
    cache.clear()


def test_each_role(stage: Stage) -> None:
    """All in one test: to set the stage costs as much as to call an endpoint as everybody."""
    found = {}
    for name, (call, _row) in TABLE.items():
        for role in ROLES:
            with unkept():
                found[name, role] = stage.callers[role].call(*call(stage)).status
    wanted = {(name, role): code for name, (_, row) in TABLE.items() for role, code in zip(ROLES, row, strict=True)}
    assert found == wanted


def test_every_address_of_the_api_is_in_the_table(stage: Stage) -> None:
    called = set()
    for call, _row in TABLE.values():
        _method, path, _body = call(stage)
        called.add(resolve(path.partition("?")[0]).url_name)
    api = {
        item.name for item in urls.urlpatterns if isinstance(item, URLPattern) and str(item.pattern).startswith("api/")
    }
    assert called == api


def test_a_host_reaches_only_its_own_session(stage: Stage) -> None:
    """The calls that answer 200 to another host answer that they know no such session, and change nothing."""
    other = stage.callers["other host"]
    assert other.call(*start(stage)).json["grants"][0]["status"] == "stale-decision"
    assert other.call(*record(stage)).json["statuses"] == {str(stage.running.pk): "unknown"}
    assert not ExecutionRecord.objects.exists()
    assert other.call(*poll(stage)).json["sessions"] == []


def test_lists_hold_only_what_the_caller_may_see(stage: Stage) -> None:
    everything = {str(stage.running.pk), str(stage.pending.pk)}
    wanted = {
        "agent": everything,
        "other agent": set(),
        "user": set(),
        "owner": everything,
        "approver": everything,
        "requester": everything,
        "superuser": everything,
    }
    for role, ids in wanted.items():
        answer = stage.callers[role].get("/api/local-agent/sessions")
        assert {item["id"] for item in answer.json["results"]} == ids, role
    agents = {
        role: [item["name"] for item in stage.callers[role].get("/api/agents").json["results"]]
        for role in ("agent", "other agent", "user", "owner", "superuser")
    }
    assert agents == {
        "agent": ["student"],
        "other agent": ["other"],
        "user": [],
        "owner": ["autonomous", "student"],
        "superuser": ["autonomous", "other", "student"],
    }


def test_status_counts_and_hosts_are_the_callers(stage: Stage) -> None:
    hosts = {role: self_status(stage, role) for role in ("agent", "user", "owner", "approver", "superuser")}
    assert hosts == {
        "agent": (["here"], {"pending": 1, "queued": 0, "claimed": 0, "running": 1}),
        "user": ([], {"pending": 0, "queued": 0, "claimed": 0, "running": 0}),
        "owner": (["here"], {"pending": 1, "queued": 0, "claimed": 0, "running": 1}),
        "approver": ([], {"pending": 1, "queued": 0, "claimed": 0, "running": 1}),
        "superuser": (["here", "other", "third"], {"pending": 1, "queued": 0, "claimed": 0, "running": 1}),
    }


def self_status(stage: Stage, role: str) -> tuple[list[str], dict[str, int]]:
    answer = stage.callers[role].get("/api/local-agent/status").json
    return [item["name"] for item in answer["hosts"]], answer["sessions"]


@pytest.mark.parametrize("name", ["execute", "approve", "reject", "cancel", "stop host", "dry run"])
def test_a_login_needs_the_csrf_token(stage: Stage, name: str) -> None:
    call, _row = TABLE[name]
    caller = Caller.logged_in(User.objects.get(username="superuser"), enforce_csrf_checks=True)
    before = AuditEvent.objects.count()
    answer = caller.call(*call(stage))
    assert (answer.status, answer.problem) == (403, "forbidden")
    assert "CSRF" in answer.json["detail"]
    assert AuditEvent.objects.count() == before


def test_a_key_needs_no_csrf_token(stage: Stage) -> None:
    agent = Caller(enforce_csrf_checks=True, HTTP_AUTHORIZATION=f"Bearer {stage.scene.keys[Maturity.STUDENT]}")
    assert agent.call(*execute(stage)).status == 202
    host = Caller(enforce_csrf_checks=True, HTTP_AUTHORIZATION=f"Bearer {stage.scene.host_key}")
    assert host.call(*poll(stage)).status == 200


AGENT_CALL = to("GET", "/api/local-agent/sessions")


def test_agent_keys_that_open_nothing(stage: Stage) -> None:
    key = AgentKey.objects.get(agent=stage.agent)
    AgentKey.objects.filter(pk=key.pk).update(expires_at=timezone.now())
    answer = stage.callers["agent"].call(*AGENT_CALL(stage))
    assert (answer.status, answer.problem, answer.json["next_action"]) == (401, "unauthenticated", "stop")
    assert "expired" in answer.json["detail"]
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    AgentKey.objects.filter(pk=key.pk).update(expires_at=None)
    assert stage.callers["agent"].call(*AGENT_CALL(stage)).status == 200
    key_revoke(key=key, actor=SYSTEM)
    answer = stage.callers["agent"].call(*AGENT_CALL(stage))
    assert (answer.status, "revoked" in answer.json["detail"]) == (401, True)
    # Somebody may have found it: that is told, once an hour.
    assert [event.outcome for event in AuditEvent.objects.filter(tag=Tag.KEY_REFUSED)] == ["expired"]
    cache.clear()
    for _ in range(3):
        stage.callers["agent"].call(*AGENT_CALL(stage))
    refused = AuditEvent.objects.filter(tag=Tag.KEY_REFUSED).order_by("id")
    assert [event.outcome for event in refused] == ["expired", "revoked"]
    assert refused[1].actor_id == str(stage.agent.pk)


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer ata_wrong", "Bearer something", "Bearer a b", "Bearer ata_\xff\xfe", "bearer ata_no"],
)
@pytest.mark.parametrize(
    ("path", "is_for_agents"), [("local-agent/sessions", True), ("host/poll", False), ("host/enroll", False)]
)
@pytest.mark.usefixtures("db")
def test_wrong_keys(header: str, path: str, is_for_agents: bool) -> None:
    answer = Caller(HTTP_AUTHORIZATION=header).call("GET" if is_for_agents else "POST", f"/api/{path}", {})
    wanted = (403, "forbidden") if "ata_" in header and not is_for_agents else (401, "unauthenticated")
    assert (answer.status, answer.problem) == wanted


def test_a_login_does_not_help_a_wrong_key(stage: Stage) -> None:
    caller = Caller.logged_in(User.objects.get(username="superuser"))
    caller.client.credentials(HTTP_AUTHORIZATION="Bearer ata_wrong")
    assert caller.call(*AGENT_CALL(stage)).status == 401


def test_a_disabled_host_is_shut_out_until_it_is_enabled(stage: Stage) -> None:
    host_set_enabled(host=stage.scene.host, is_enabled=False, actor=SYSTEM)
    for _ in range(3):
        answer = stage.callers["host"].call(*poll(stage))
        assert (answer.status, answer.problem) == (401, "unauthenticated")
    (refused,) = AuditEvent.objects.filter(tag=Tag.KEY_REFUSED)
    assert (refused.actor_type, refused.actor_id, refused.outcome) == ("host", str(stage.scene.host.pk), "disabled")
    host_set_enabled(host=stage.scene.host, is_enabled=True, actor=SYSTEM)
    assert stage.callers["host"].call(*poll(stage)).status == 200


def test_an_enrolment_code_works_once_and_in_time(stage: Stage) -> None:
    caller = Caller.with_key(stage.enrolment_code)
    made = caller.call(*enrol(stage))
    assert made.status == 200
    assert Caller.with_key(made.json["key"]).call(*poll(stage)).status == 200
    again = caller.call(*enrol(stage))
    assert (again.status, again.problem) == (401, "unauthenticated")
    late = enrolment_issue(name="fourth", actor=SYSTEM)
    EnrolmentCode.objects.filter(used_at=None).update(expires_at=timezone.now())
    assert Caller.with_key(late).call(*enrol(stage)).status == 401
    # A code opens nothing else, and a host that is enrolled again has a new key only.
    assert caller.call(*poll(stage)).status == 403
    assert caller.call(*AGENT_CALL(stage)).status == 403
    assert Caller.with_key(enrolled("third")[1]).call(*poll(stage)).status == 200
    assert Caller.with_key(made.json["key"]).call(*poll(stage)).status == 401
