"""Bad input: each has its status, its problem type, what to do next, its sentence, and leaves nothing half made."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM
from governance.policy.types import Maturity
from governance.services import agent_set_suspended
from shellagent import limits
from shellagent.models import (
    Host,
    ShellSession,
)
from shellagent.services import agent_host_set, host_set_enabled
from tests.shellagent.scene import (
    Caller,
    Scene,
    enrolled,
    rows,
    tags,
)

EXECUTE = "/api/local-agent/execute"


@dataclass(frozen=True)
class Bad:
    """One body of `execute`, and what it is answered."""

    name: str
    body: Any
    problem: str = "invalid"
    status: int = 400
    next_action: str = "revise"
    says: str = ""
    event: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


FORM = {"content_type": "application/x-www-form-urlencoded"}
PARTS = {"content_type": "multipart/form-data; boundary=x"}
FILE = b'--x\r\nContent-Disposition: form-data; name="command"; filename="ls"\r\n\r\nls\r\n--x--\r\n'

BAD = [
    Bad("nothing", {}, says="either `command`"),
    Bad("no object", [], says="`body`: Invalid data. Expected a dictionary"),
    Bad("JSON sent as a form", b'{"command": "ls"}', says="`Content-Type: application/json`", extra=FORM),
    Bad("a list sent as a form", b"[1]", says="`Content-Type: application/json`", extra=FORM),
    Bad("null", None, says="either `command`"),
    Bad("empty command", {"command": ""}, says="blank"),
    Bad("blank command", {"command": "   "}, problem="syntax"),
    Bad("empty argv", {"argv": []}),
    Bad("argv of an empty program", {"argv": [""]}, problem="syntax", says="the program's name is empty"),
    Bad("both", {"command": "ls", "argv": ["ls"]}, says="either `command`"),
    Bad("a number as command", {"command": {"ls": 1}}),
    Bad("a NUL", {"command": "ls \0"}),
    Bad("half a character", b'{"command": "ls \\ud800"}'),
    Bad("over the limit", {"command": "ls " + "a" * limits.COMMAND_MAX_BYTES}, problem="syntax"),
    Bad("over the limit as argv", {"argv": ["ls", "a" * limits.COMMAND_MAX_BYTES]}, problem="syntax"),
    Bad("too many arguments", {"argv": ["ls"] * (limits.ARGV_MAX + 1)}, says="256"),
    Bad("a substitution", {"command": "ls $(pwd)"}, problem="syntax", says="command substitution"),
    Bad("a variable", {"command": "ls $PATH"}, problem="syntax"),
    Bad("two lines", {"command": "ls\nls"}, problem="syntax"),
    Bad("an open quote", {"command": "ls 'x"}, problem="syntax"),
    Bad("a timeout of 0", {"command": "ls", "timeout_seconds": 0}, says="timeout_seconds"),
    Bad("a timeout of 301", {"command": "ls", "timeout_seconds": 301}, says="300"),
    Bad("a timeout of ten", {"command": "ls", "timeout_seconds": "ten"}, says="timeout_seconds"),
    Bad("a timeout of 1.5", {"command": "ls", "timeout_seconds": 1.5}, says="timeout_seconds"),
    Bad("a timeout of infinity", b'{"command": "ls", "timeout_seconds": Infinity}'),
    Bad("a wait of 46", {"command": "ls", "wait_seconds": 46}, says="wait_seconds"),
    Bad("a relative directory", {"command": "ls", "working_directory": "work"}, says="absolute"),
    Bad("a directory with a NUL", {"command": "ls", "working_directory": "/srv\0"}),
    Bad("a directory that is too long", {"command": "ls", "working_directory": "/" + "a" * 5000}),
    Bad("a refused name", {"command": "ls", "env": {"LD_PRELOAD": "x"}}, says="LD_PRELOAD", event="environment"),
    Bad("a name that is none", {"command": "ls", "env": {"A B": "x"}}, says="A B"),
    Bad("a value with a NUL", {"command": "ls", "env": {"A": "\0"}}),
    Bad("too many names", {"command": "ls", "env": {f"A{n}": "" for n in range(limits.ENV_MAX + 1)}}),
    Bad("env as a list", {"command": "ls", "env": ["A"]}),
    Bad("a secret", {"command": "ls AKIAIOSFODNN7EXAMPLE"}, says="secret", event="secret"),
    Bad("a secret in the reason", {"command": "ls", "reason": "AKIAIOSFODNN7EXAMPLE"}, event="secret"),
    Bad("a long reason", {"command": "ls", "reason": "a" * (limits.REASON_MAX_CHARACTERS + 1)}),
    Bad("a secret in env", {"command": "ls", "env": {"TOKEN": "AKIAIOSFODNN7EXAMPLE"}}, event="secret"),
    Bad("a secret in argv", {"argv": ["ls", "AKIAIOSFODNN7EXAMPLE"]}, event="secret"),
    Bad("a secret in what cannot be read", {"command": "ls $(AKIAIOSFODNN7EXAMPLE)"}, event="secret"),
    Bad("a secret in a comment", {"command": "ls # AKIAIOSFODNN7EXAMPLE"}, event="secret"),
    Bad("a secret in pieces", {"command": "ls AKIA'IOSFODNN7EXAMPLE'"}, event="secret"),
    Bad("an unknown host", {"command": "ls", "host": "nowhere"}, problem="not-found", status=404),
    Bad(
        "another agent",
        {"command": "ls", "agent_id": 10**6},
        problem="forbidden",
        status=403,
        next_action="stop",
    ),
    Bad("not JSON", b"ls -l", says="JSON"),
    Bad("JSON that ends early", b'{"command": "ls"', says="JSON"),
    Bad("not UTF-8", b'{"command": "\xff"}', says="JSON"),
    Bad("nested without end", b'{"command": ' + b"[" * 100_000, says="JSON"),
    Bad("no body", b"", says="either `command`"),
    Bad(
        "another media type",
        b"command=ls",
        problem="unsupported-media-type",
        status=415,
        extra={"content_type": "text/plain"},
    ),
    Bad("a form in parts that ends early", b"--x--", says="either", extra=PARTS),
    Bad("a file", FILE, says="command", extra=PARTS),
    Bad("a form of too many fields", b"a=1&" * 1001, extra=FORM),
    Bad("a form that is too large", b"a" * (limits.BODY_MAX_BYTES + 1), problem="too-large", status=413, extra=FORM),
    Bad(
        "far too large",
        b'{"command": "' + b"a" * limits.BODY_MAX_BYTES + b'"}',
        problem="too-large",
        status=413,
    ),
    Bad(
        "so large that the framework does not read it",
        b'{"command": "' + b"a" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0) + b'"}',
        problem="too-large",
        status=413,
    ),
    Bad(
        "an Idempotency-Key that is too long",
        {"command": "ls"},
        says="Idempotency-Key",
        extra={"HTTP_IDEMPOTENCY_KEY": "k" * 256},
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_execute(scene: Scene, bad: Bad) -> None:
    before, events = rows(), AuditEvent.objects.count()
    answer = scene.as_agent(Maturity.AUTONOMOUS).call("POST", EXECUTE, bad.body, **bad.extra)
    assert (answer.status, answer.problem, answer.json["next_action"]) == (bad.status, bad.problem, bad.next_action)
    assert bad.says in answer.json["detail"]
    assert rows() == before
    left = [(event.tag, event.outcome) for event in AuditEvent.objects.order_by("id")[events:]]
    assert left == ([(Tag.REQUEST_REFUSED, bad.event)] if bad.event else [])


#: What the dry run takes no value of.
NOT_DRY = ("timeout of 0", "301", "ten", "1.5", "infinity", "wait of 46", "reason", "Key that is too long")
ASKED_DRY = [item for item in BAD if item.problem in ("syntax", "invalid") and not item.name.endswith(NOT_DRY)]


@pytest.mark.parametrize("bad", ASKED_DRY, ids=lambda bad: bad.name)
def test_the_dry_run_refuses_what_execute_refuses(scene: Scene, bad: Bad) -> None:
    agent = scene.agents[Maturity.AUTONOMOUS]
    before = rows()
    caller = scene.as_agent(Maturity.AUTONOMOUS)
    answer = caller.call("POST", f"/api/agents/{agent.pk}/governance", bad.body, **bad.extra)
    assert (answer.status, answer.problem) == (bad.status, bad.problem)
    assert rows() == before


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/local-agent/status/", "There is at /api/local-agent/status: a slash is too much."),
        ("//api/local-agent/status", "There is at /api/local-agent/status: a slash is too much."),
        ("/api/local-agent/sessions/7", "A session's id is a UUID in small letters."),
        ("/api/local-agent/executes/", "All addresses are at /api/docs."),
    ],
)
def test_an_address_where_there_is_nothing(path: str, says: str) -> None:
    answer = Caller().client.get("/", PATH_INFO=path)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert answer.json()["detail"] == f"There is nothing at this address. {says}"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("sessions?status=done", "'done' is none of these: denied, pending, queued"),
        (f"sessions/{UUID(int=1)}/output?after=x", "One offset, or two"),
        ("sessions?created_after=2026-11-29T12:00:00+00:00", "a + is written as %2B"),
    ],
)
def test_a_query_is_told_what_it_may_hold(scene: Scene, query: str, says: str) -> None:
    answer = scene.as_agent(Maturity.AUTONOMOUS).call("GET", f"/api/local-agent/{query}")
    assert (answer.status, says in answer.json["detail"]) == (400, True), answer.json


def test_what_the_headers_lack_is_said(scene: Scene) -> None:
    answer = Caller().call("POST", EXECUTE, {"command": "ls"})
    assert "`Authorization: Bearer ata_…`" in answer.json["detail"]
    answer = scene.as_agent(Maturity.AUTONOMOUS).call("POST", EXECUTE, b"ls", content_type="text/plain")
    assert answer.json["detail"] == "Send JSON: `Content-Type: application/json`."


def test_a_syntax_error_names_the_place(scene: Scene) -> None:
    answer = scene.as_agent(Maturity.AUTONOMOUS).execute("ls /tmp | (wc)")
    assert (answer.json["column"], answer.json["construct"]) == (11, "subshell")
    assert answer.json["hint"].startswith("Write the commands without parentheses")
    secret = scene.as_agent(Maturity.AUTONOMOUS).execute("ls | grep AKIAIOSFODNN7EXAMPLE")
    assert (secret.json["field"], secret.json["column"]) == ("command", 11)


def test_the_problem_explains_itself(scene: Scene) -> None:
    answer = scene.as_agent(Maturity.AUTONOMOUS).execute("")
    page = Caller().client.get("/problems/" + answer.problem)
    assert page.status_code == 200
    assert "text/html" in page.headers["Content-Type"]
    assert Caller().client.get("/problems/").status_code == 200
    assert Caller().client.get("/problems/no-such-thing").status_code == 404


def test_a_suspended_agent(scene: Scene) -> None:
    agent_set_suspended(agent=scene.agents[Maturity.AUTONOMOUS], is_suspended=True, reason="test", actor=SYSTEM)
    before = rows()
    answer = scene.as_agent(Maturity.AUTONOMOUS).execute()
    assert (answer.status, answer.problem, answer.json["next_action"]) == (403, "suspended", "stop")
    assert rows() == before
    assert AuditEvent.objects.get(tag=Tag.REQUEST_REFUSED).outcome == "suspended"
    # It still reads what it asked for before.
    assert scene.as_agent(Maturity.AUTONOMOUS).get("/api/local-agent/sessions").status == 200


def test_an_unknown_agent(scene: Scene, requester: User) -> None:
    caller = Caller.logged_in(requester)
    answer = caller.execute(agent_id=987654)
    assert (answer.status, answer.problem) == (404, "not-found")
    assert (caller.execute().status, caller.execute(agent_id="x").status, caller.execute(agent_id=2**80).status) == (
        400,
        400,
        404,
    )


class TestHosts:
    def test_disabled(self, scene: Scene) -> None:
        host_set_enabled(host=scene.host, is_enabled=False, actor=SYSTEM)
        before = rows()
        for body in ({}, {"host": "here"}):
            answer = scene.as_agent(Maturity.AUTONOMOUS).execute(**body)
            assert (answer.status, answer.problem, answer.json["next_action"]) == (503, "no-host", "wait")
            assert answer.headers["Retry-After"] == "5"
            assert answer.json["detail"] == "The host here is disabled. An operator has to enable it."
        assert rows() == before

    def test_never_enrolled(self, scene: Scene) -> None:
        Host.objects.update(key_digest=None)
        assert scene.as_agent(Maturity.AUTONOMOUS).execute().problem == "no-host"

    def test_offline_queues_all_the_same(self, scene: Scene) -> None:
        Host.objects.update(last_seen_at=None)
        answer = scene.as_agent(Maturity.AUTONOMOUS).execute()
        assert (answer.status, answer.json["host_online"], answer.json["status"]) == (202, False, "queued")
        assert answer.json["expires_at"]

    def test_several_without_a_default(self, scene: Scene) -> None:
        agent, other = scene.agents[Maturity.AUTONOMOUS], enrolled("other")[0]
        agent_host_set(agent=agent, host=scene.host, actor=SYSTEM)
        agent_host_set(agent=agent, host=other, actor=SYSTEM)
        answer = scene.as_agent(Maturity.AUTONOMOUS).execute()
        assert (answer.status, answer.problem) == (400, "host-required")
        assert "here" in answer.json["detail"]
        assert set(answer.json["hosts"]) == {"here", "other"}
        for wanted in ("other", str(other.pk)):
            answer = scene.as_agent(Maturity.AUTONOMOUS).execute(host=wanted)
            assert (answer.status, answer.json["host"]["name"]) == (202, "other")

    def test_a_default_that_is_disabled_is_not_replaced_by_another_machine(self, scene: Scene) -> None:
        agent_host_set(agent=scene.agents[Maturity.AUTONOMOUS], host=enrolled("other")[0], actor=SYSTEM)
        host_set_enabled(host=scene.host, is_enabled=False, actor=SYSTEM)
        assert scene.as_agent(Maturity.AUTONOMOUS).execute().problem == "no-host"
        assert scene.as_agent(Maturity.AUTONOMOUS).execute(host="other").status == 202


class TestDenied:
    def test_denied_is_kept_and_told(self, scene: Scene) -> None:
        answer = scene.as_agent(Maturity.STUDENT).execute("sudo reboot")
        assert (answer.status, answer.problem, answer.json["next_action"]) == (403, "denied", "stop")
        session = ShellSession.objects.get(pk=answer.json["session_id"])
        assert tags(session) == ["denied"]
        assert answer.json["decision"]["outcome"] == "deny"
        shown = scene.as_agent(Maturity.STUDENT).get(f"/api/local-agent/sessions/{session.pk}").json
        assert (shown["status"], shown["next_action"]) == ("denied", "stop")

    @pytest.mark.parametrize("maturity", [Maturity.STUDENT, Maturity.INTERN])
    def test_not_on_the_allowlist(self, scene: Scene, maturity: Maturity) -> None:
        answer = scene.as_agent(maturity).execute("unheard-of-program")
        assert (answer.status, answer.problem, answer.json["next_action"]) == (400, "not-allowlisted", "revise")
        session = ShellSession.objects.get(pk=answer.json["session_id"])
        assert tags(session) == ["denied"]
        shown = scene.as_agent(maturity).get(f"/api/local-agent/sessions/{session.pk}").json
        assert shown["next_action"] == "revise"

    def test_above_it_asks(self, scene: Scene) -> None:
        answer = scene.as_agent(Maturity.SUPERVISED).execute("unheard-of-program")
        assert (answer.status, answer.json["status"]) == (202, "pending")
