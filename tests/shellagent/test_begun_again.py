"""What a call of the clerk's did in a transaction that was undone is done again, and nothing is taken for done."""

import json
from typing import Any

import pytest

from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM
from governance.policy.types import Maturity
from shellagent import protocol
from shellagent.api.hot import hot_call
from shellagent.clerk import Answer, Call, Clerk, Listen
from shellagent.models import Host, ServerStart, ShellSession
from shellagent.services import host_set_enabled, polling
from tests.shellagent.scene import Scene, poll_request

pytestmark = pytest.mark.usefixtures("own_database")


class Spoiler(Call):
    """A call that fails, and its transaction with it."""

    def begin(self, listen: Listen) -> Answer | None:
        raise ZeroDivisionError

    def look(self) -> Answer | None:
        raise NotImplementedError

    def failed(self, error: Exception) -> Answer:
        return Answer(500, type(error).__name__.encode())


def made(path: str, key: str, body: object) -> Call:
    headers = {b"authorization": f"Bearer {key}".encode(), b"content-type": b"application/json"}
    call = hot_call("POST", path, b"", headers, json.dumps(body).encode())
    assert call is not None
    return call


def polled(scene: Scene, **changes: Any) -> Call:
    return made("/api/host/poll", scene.host_key, protocol.encode(poll_request(**changes)))


def asked(scene: Scene) -> Call:
    return made("/api/local-agent/execute", scene.keys[Maturity.AUTONOMOUS], {"command": "ls /tmp"})


def served(*calls: Call) -> list[int]:
    answers: dict[Call, Answer] = {}
    desk = Clerk(answers.update)
    for call in calls:
        desk.take(call)
    desk.serve(until=lambda: len(answers) >= len(calls))
    return [answers[call].status for call in calls]


def test_what_a_host_reports_is_kept(own_scene: Scene) -> None:
    assert served(polled(own_scene, version="2.0"), Spoiler()) == [200, 500]
    assert Host.objects.get(pk=own_scene.host.pk).version == "2.0"


def test_that_the_server_began_to_serve_is_kept(own_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    ServerStart.objects.all().delete()
    monkeypatch.setattr(polling, "_has_served", False)
    assert served(polled(own_scene), Spoiler()) == [200, 500]
    assert ServerStart.objects.count() == 1


def test_that_a_key_was_refused_is_kept(own_scene: Scene) -> None:
    host_set_enabled(host=own_scene.host, is_enabled=False, actor=SYSTEM)
    assert served(polled(own_scene), polled(own_scene), Spoiler()) == [401, 401, 500]
    assert AuditEvent.objects.filter(tag=Tag.KEY_REFUSED).count() == 1


def test_a_request_counts_once(own_scene: Scene, settings: Any) -> None:
    settings.ATOM_EXECUTE_PER_MINUTE = 1
    assert served(asked(own_scene), Spoiler()) == [202, 500]
    assert served(asked(own_scene)) == [429]


def test_a_poll_is_answered_once(own_scene: Scene) -> None:
    calls = [asked(own_scene), asked(own_scene), polled(own_scene, free_slots=1, hold_seconds=5)]
    assert served(*calls, Spoiler()) == [202, 202, 200, 500]
    # The other one waits for the next poll; claimed by one that is answered already, it would be lost.
    assert sorted(ShellSession.objects.values_list("status", flat=True)) == ["claimed", "queued"]
