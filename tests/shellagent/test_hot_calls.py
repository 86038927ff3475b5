"""What the clerk answers is what the views would: with what it kept in memory, and of what it leaves to them."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from audit.trail import SYSTEM
from governance.policy.types import Maturity
from governance.services import agent_set_maturity
from shellagent import protocol, queries, wake
from shellagent.api.hot import hot_call
from shellagent.clerk import Answer, Call, Clerk
from shellagent.models import ShellSession
from shellagent.representation import session_json
from shellagent.states import Status
from shellagent.waiting import session_wait
from tests.shellagent.scene import ASKED, INSTANCE, Scene, report

AGENT = Maturity.AUTONOMOUS


def made(path: str, key: str, body: object) -> Call | None:
    headers = {b"authorization": f"Bearer {key}".encode(), b"content-type": b"application/json"}
    return hot_call("POST", path, b"", headers, json.dumps(body).encode())


class Desk:
    """A clerk that serves on this thread."""

    def __init__(self) -> None:
        self.answers: dict[Call, Answer] = {}
        self.clerk = Clerk(self._deliver)

    def _deliver(self, answers: Sequence[tuple[Call, Answer]]) -> None:
        self.answers.update(answers)

    def serve(self, call: Call | None, *, enough: int) -> Call:
        assert call is not None
        self.clerk.take(call)
        self.clerk.serve(until=lambda: len(self.answers) >= enough)
        return call


@pytest.mark.parametrize("is_decided_again", [False, True])
def test_an_end_is_shown_with_the_decision_that_it_ran_by(own_scene: Scene, is_decided_again: bool) -> None:
    desk, execute = Desk(), "/api/local-agent/execute"
    waiting = made(execute, own_scene.keys[AGENT], {"command": "ls /tmp", "wait_seconds": 20})
    assert waiting is not None
    desk.clerk.take(waiting)
    desk.serve(made(execute, own_scene.keys[AGENT], {"command": "pwd"}), enough=1)
    session = ShellSession.objects.earliest("id")
    if is_decided_again:
        agent = own_scene.agents[AGENT]
        agent_set_maturity(agent=agent, maturity=Maturity.SUPERVISED, reason="test", actor=SYSTEM)
    own_scene.poll(free_slots=1)
    own_scene.start(session.pk)
    session.refresh_from_db()
    record = protocol.RecordRequest(protocol.VERSION, INSTANCE, (report(session),))
    desk.serve(made("/api/shell/log", own_scene.host_key, protocol.encode(record)), enough=3)
    shown: dict[str, Any] = json.loads(desk.answers[waiting].body)
    assert shown["status"] == "succeeded"
    assert shown == json.loads(json.dumps(session_json(queries.session_with(session.pk))))


@pytest.mark.parametrize("field", ["reason", "host"])
def test_a_text_that_the_view_would_trim_is_left_to_it(field: str) -> None:
    body = {"command": "ls /tmp", field: "here"}
    assert made("/api/local-agent/execute", "ata_x", body) is not None
    assert made("/api/local-agent/execute", "ata_x", {**body, field: "here "}) is None


def test_what_has_expired_is_shown_as_expired_where_there_is_no_place_to_wait(scene: Scene, settings: Any) -> None:
    session = scene.session(ASKED)
    ShellSession.objects.filter(pk=session.pk).update(expires_at=timezone.now())
    settings.ATOM_WAITS_TOTAL = 0
    answer = scene.as_agent(ASKED[0]).get(f"/api/local-agent/sessions/{session.pk}?wait_seconds=5")
    assert (answer.status, answer.json["status"]) == (200, "expired")


@pytest.mark.parametrize(("maturity", "status"), [(AGENT, "queued"), (Maturity.STUDENT, "pending")])
def test_a_request_that_was_kept_is_shown_where_the_database_has_gone_since(
    own_scene: Scene, monkeypatch: pytest.MonkeyPatch, maturity: Maturity, status: str
) -> None:
    """An error would say that nothing was done: whoever reads that asks again, and it runs twice."""
    desk, execute = Desk(), "/api/local-agent/execute"
    waiting = made(execute, own_scene.keys[maturity], {"command": "ls /tmp", "wait_seconds": 20})
    assert waiting is not None
    desk.clerk.take(waiting)
    desk.serve(made(execute, own_scene.keys[AGENT], {"command": "pwd"}), enough=1)
    session = ShellSession.objects.earliest("id")

    def gone(*_arguments: object, **_options: object) -> None:
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "set_autocommit", gone)
        wake.ring([wake.session_channel(session.pk)])
        desk.clerk.serve(until=lambda: len(desk.answers) >= 2)
    answer = desk.answers[waiting]
    shown = json.loads(answer.body)
    assert (answer.status, shown["id"], shown["status"]) == (202, str(session.pk), status)


def test_a_request_that_was_not_kept_is_an_error(own_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_arguments: object, **_options: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "commit", gone)
    desk = Desk()
    body = {"command": "ls /tmp", "wait_seconds": 20}
    call = desk.serve(made("/api/local-agent/execute", own_scene.keys[AGENT], body), enough=1)
    assert desk.answers[call].status == 503


def test_the_views_wait_on_where_the_database_is_gone_for_a_moment(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = scene.session()
    looks: list[Exception | Status] = [OperationalError("gone"), Status.SUCCEEDED]

    def look(_session_id: object) -> Status:
        found = looks.pop(0)
        if isinstance(found, Exception):
            wake.ring([wake.session_channel(session.pk)])
            raise found
        return found

    monkeypatch.setattr(queries, "session_status", look)
    assert session_wait(session, 20, waiter="one").pk == session.pk
    assert looks == []
