"""The kill switch: nothing new, nothing that waits, nothing that runs, in its scope and no further."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from audit.models import AuditEvent
from audit.trail import SYSTEM
from governance.errors import InvalidError
from governance.models import KillSwitch
from governance.policy.types import Maturity
from shellagent.models import ShellSession
from shellagent.protocol import GrantStatus
from shellagent.services import host_poll, killswitch_off, killswitch_on, session_cancel, stops_enforce
from shellagent.states import Status
from tests.conftest import person
from tests.shellagent.scene import ALLOWED, ASKED, Caller, Scene, poll_request, reread, tags

Scoped = Callable[[Scene], dict[str, Any]]
SCOPES: dict[str, Scoped] = {
    "everything": lambda _scene: {},
    "host": lambda scene: {"host": scene.host},
    "agent": lambda scene: {"agent": scene.agents[ALLOWED[0]]},
}
scopes = pytest.mark.parametrize("scope", SCOPES)


@scopes
@pytest.mark.parametrize("is_by_views", [False, True])
def test_it_stops_what_is_new_waits_and_runs(scene: Scene, scope: str, is_by_views: bool) -> None:
    running, claimed = scene.running(), scene.claimed()
    queued = scene.session()
    pending = scene.session((ALLOWED[0], "cat /etc/hostname"))
    others = scene.session(ASKED)
    session_cancel(session=running, actor=SYSTEM)  # with ten seconds of grace, which the switch overtakes
    row = killswitch_on(reason="It loops.", actor=SYSTEM, **SCOPES[scope](scene))

    (order,) = scene.poll(running=(running.pk, claimed.pk)).cancel
    assert (order.id, order.reason, order.grace_seconds) == (str(running.pk), "kill_switch", 2)
    for session in (claimed, queued, pending):
        ended = reread(session)
        assert (ended.status, ended.termination_reason) == (Status.CANCELLED, "kill_switch")
        assert "It loops." in ended.termination_detail
    assert scene.start(claimed.pk).status == GrantStatus.CANCELLED
    is_touched = scope != "agent"
    assert (reread(others).status == Status.CANCELLED) is is_touched

    agent = scene.as_agent(ALLOWED[0])
    agent.is_by_views = is_by_views
    before = ShellSession.objects.count()
    answer = agent.call("POST", "/api/local-agent/execute", {"command": "ls /tmp"})
    assert (answer.status, answer.problem, answer.json["next_action"]) == (403, "kill-switch", "stop")
    assert "It loops." in answer.json["detail"]
    assert ShellSession.objects.count() == before
    shown = agent.call("GET", f"/api/local-agent/sessions/{queued.pk}").json
    assert shown["next_action"] == "stop"
    (stop,) = agent.call("GET", "/api/local-agent/status").json["kill_switch"]
    assert (stop["scope"], stop["reason"]) == (scope, "It loops.")
    other = scene.as_agent(ASKED[0])
    asked = other.call("POST", "/api/local-agent/execute", {"command": "ls /tmp"})
    assert asked.status == (403 if is_touched else 202)
    assert bool(other.call("GET", "/api/local-agent/status").json["kill_switch"]) is is_touched

    killswitch_off(reason="It is mended.", actor=SYSTEM, **SCOPES[scope](scene))
    assert agent.call("POST", "/api/local-agent/execute", {"command": "ls /tmp"}).status == 202
    assert agent.call("GET", "/api/local-agent/status").json["kill_switch"] == []
    assert reread(queued).status == Status.CANCELLED
    row.refresh_from_db()
    assert (row.scope, row.reason, row.lifted_reason) == (scope, "It loops.", "It is mended.")
    switched = AuditEvent.objects.filter(tag__startswith="kill_switch:").order_by("id")
    assert [json.loads(event.body)["data"]["reason"] for event in switched] == ["It loops.", "It is mended."]


@scopes
def test_what_slipped_by_is_caught(scene: Scene, scope: str) -> None:
    """A process that had read the rules a moment before the switch commits its session after it."""
    running, queued = scene.running(), scene.session()
    scope_of = SCOPES[scope](scene)
    killswitch_on(reason="Stop.", actor=SYSTEM, **scope_of)
    ShellSession.objects.filter(pk=running.pk).update(cancel_requested_at=None, cancel_reason="")
    ShellSession.objects.filter(pk=queued.pk).update(status=Status.QUEUED)
    answer = host_poll(host=scene.host, request=poll_request(running=(running.pk,), free_slots=8))
    assert [order.reason for order in answer.cancel] == ["kill_switch"]
    assert answer.sessions == ()
    assert reread(queued).status == Status.DENIED
    ShellSession.objects.filter(pk=queued.pk).update(status=Status.PENDING)
    assert stops_enforce() == 1
    assert tags(queued)[-1] == "cancelled"


def test_a_start_in_between_is_not_granted(scene: Scene) -> None:
    claimed = scene.claimed()
    killswitch_on(reason="Stop.", actor=SYSTEM)
    ShellSession.objects.filter(pk=claimed.pk).update(status=Status.CLAIMED)
    assert scene.start(claimed.pk).status == GrantStatus.STALE_DECISION


def test_a_wrong_call_changes_nothing(scene: Scene) -> None:
    with pytest.raises(InvalidError):
        killswitch_on(reason=" ", actor=SYSTEM)
    with pytest.raises(InvalidError):
        killswitch_on(reason="x", actor=SYSTEM, host=scene.host, agent=scene.agents[Maturity.INTERN])
    operator = Caller.logged_in(person("operator", "shellagent.control_host"))
    body = {"state": "on", "reason": "Stop.", "agent": "student"}
    path = "/api/local-agent/killswitch"
    assert Caller.logged_in(person("other")).call("POST", path, body).status == 403
    assert scene.as_agent(Maturity.STUDENT).call("POST", path, body).status == 403
    assert operator.call("POST", path, {**body, "agent": "nobody"}).problem == "not-found"
    assert operator.call("POST", path, {**body, "reason": ""}).problem == "invalid"
    assert not KillSwitch.objects.exists()
    assert operator.call("POST", path, body).json[0]["by"] == "operator"
    assert operator.call("POST", path, body).problem == "conflict"
    assert operator.call("POST", path, {**body, "state": "off"}).json == []
    assert operator.call("POST", path, {**body, "state": "off"}).problem == "not-found"


def test_the_command(scene: Scene) -> None:
    def run(*arguments: str) -> Any:
        out = StringIO()
        call_command("killswitch", *arguments, "--json", stdout=out, stderr=StringIO())
        return json.loads(out.getvalue())

    with pytest.raises(CommandError):
        run("on")
    with pytest.raises(CommandError):
        run("on", "--agent", "nobody", "--reason", "x")
    queued = scene.session()
    for _twice in range(2):
        (row,) = run("on", "--agent", scene.agents[ALLOWED[0]].name, "--reason", "It loops.")["on"]
        assert (row["scope"], row["reason"]) == ("agent", "It loops.")
    assert reread(queued).status == Status.CANCELLED
    shown = run("off", "--agent", scene.agents[ALLOWED[0]].name, "--reason", "Mended.")
    assert (shown["on"], shown["lifted"][0]["lifted_reason"]) == ([], "Mended.")
    assert run("status") == shown
