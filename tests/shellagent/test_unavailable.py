"""A database that is locked or gone: 503 and `unavailable`, nothing half made, and all is well once it is back."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import close_old_connections, connection

from audit.models import AuditEvent
from governance.policy.types import Maturity
from shellagent import protocol
from shellagent.models import ShellSession
from tests.database import OwnDatabase
from tests.shellagent.scene import INSTANCE, Answer, Caller, Scene, poll_request, report, tags


@contextmanager
def settings_of_connection(**changes: Any) -> Iterator[None]:
    """Let the connection be made anew with other settings, and as it was afterwards."""
    kept = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict.update(changes)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(kept)


def assert_unavailable(answer: Answer) -> None:
    assert (answer.status, answer.problem, answer.json["next_action"]) == (503, "unavailable", "wait")
    assert answer.headers["Retry-After"] == "5"


def calls(scene: Scene, session: ShellSession) -> list[tuple[Caller, str, Any]]:
    """Return a call of each kind that writes."""
    agent, host = scene.as_agent(Maturity.AUTONOMOUS), scene.as_host()
    message = protocol.RecordRequest(1, INSTANCE, (report(session),))
    return [
        (agent, "/api/local-agent/execute", {"command": "ls /tmp"}),
        (agent, f"/api/local-agent/sessions/{session.pk}/cancel", {}),
        (host, "/api/host/poll", protocol.encode(poll_request(version="2.0"))),
        (host, "/api/shell/log", protocol.encode(message)),
    ]


def test_locked(own_scene: Scene, own_database: OwnDatabase) -> None:
    if own_database.path is None:
        pytest.skip("SQLite has one writer; PostgreSQL has locks for rows")
    session = own_scene.running()
    sessions, events = ShellSession.objects.count(), AuditEvent.objects.count()
    options = {**connection.settings_dict["OPTIONS"], "timeout": 0.05}
    other = sqlite3.connect(own_database.path, isolation_level=None)
    with settings_of_connection(OPTIONS=options):
        # A key's first use in a minute is written down.
        own_scene.as_agent(Maturity.AUTONOMOUS).get("/api/agents")
        other.execute("BEGIN IMMEDIATE")
        for caller, path, body in calls(own_scene, session):
            assert_unavailable(caller.post(path, body))
        # Reading goes on.
        assert own_scene.as_agent(Maturity.AUTONOMOUS).get(f"/api/local-agent/sessions/{session.pk}").status == 200
        other.rollback()
        other.close()
        assert (ShellSession.objects.count(), AuditEvent.objects.count()) == (sessions, events)
        assert tags(session) == ["queued", "claimed", "running"]
        statuses = [caller.post(path, body).status for caller, path, body in calls(own_scene, session)]
    assert statuses == [202, 202, 200, 200]


def test_gone(own_scene: Scene) -> None:
    session = own_scene.running()
    away = {"NAME": "/nowhere/db.sqlite3"} if connection.vendor == "sqlite" else {"HOST": "127.0.0.1", "PORT": "1"}
    with settings_of_connection(**away):
        for caller, path, body in calls(own_scene, session):
            assert_unavailable(caller.post(path, body))
        for path in ("/api/local-agent/status", "/api/local-agent/sessions", "/api/agents"):
            assert_unavailable(own_scene.as_agent(Maturity.AUTONOMOUS).get(path))
    assert tags(session) == ["queued", "claimed", "running"]
    assert own_scene.as_agent(Maturity.AUTONOMOUS).execute().status == 202


def test_a_connection_that_the_server_closed(own_scene: Scene) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no server")
    caller = own_scene.as_agent(Maturity.AUTONOMOUS)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert_unavailable(caller.execute())
    # What the server does between two requests.
    close_old_connections()
    assert caller.execute().status == 202
    assert ShellSession.objects.count() == 1


def test_where_the_event_cannot_be_written_nothing_happens(own_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trail fails closed, at the request and at every step after it."""
    session = own_scene.running()
    waiting = own_scene.session()

    def broken(*_events: object) -> None:
        raise RuntimeError("no trail today")

    for module in ("asking", "moving", "polling", "approving"):
        monkeypatch.setattr(f"shellagent.services.{module}.record", broken)
    sessions, events = ShellSession.objects.count(), AuditEvent.objects.count()
    for command in ("ls /tmp", "sudo reboot"):
        answer = own_scene.as_agent(Maturity.AUTONOMOUS).execute(command)
        assert (answer.status, answer.problem, answer.json["next_action"]) == (500, "internal", "none")
        assert "trail" not in str(answer.json)
    for caller, path, body in calls(own_scene, session):
        assert caller.post(path, body).status == 500
    assert (ShellSession.objects.count(), AuditEvent.objects.count()) == (sessions, events)
    assert (tags(session), tags(waiting)) == (["queued", "claimed", "running"], ["queued"])
