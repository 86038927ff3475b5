"""Following output: by offset, both streams, held until there is something, and no further than what was cut."""

import threading
import time
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from governance.policy.types import Maturity
from shellagent import protocol
from shellagent.following import output_follow
from shellagent.models import Host, ShellSession
from shellagent.protocol import OutputSegment
from shellagent.services import output_append
from tests.shellagent.scene import Answer, Scene, report


def send(scene: Scene, session: ShellSession, *segments: OutputSegment) -> None:
    host = Host.objects.get(pk=scene.host.pk)
    request = protocol.OutputRequest(protocol.VERSION, session.start_key, segments)
    output_append(host=host, session_id=session.pk, request=request)


def read(scene: Scene, session: ShellSession, query: str = "") -> Answer:
    return scene.as_agent(Maturity.AUTONOMOUS).get(f"/api/local-agent/sessions/{session.pk}/output{query}")


def shown(answer: Answer) -> tuple[Any, ...]:
    assert answer.status == 200
    texts = [[(part["offset"], part["text"]) for part in answer.json[stream]] for stream in ("stdout", "stderr")]
    return (*texts, answer.json["next"], answer.json["finished"])


def test_output_is_read_by_offset_to_its_end(scene: Scene) -> None:
    session = scene.running()
    assert shown(read(scene, session)) == ([], [], {"stdout": 0, "stderr": 0}, False)
    send(scene, session, OutputSegment.of("stdout", 0, b"one "), OutputSegment.of("stderr", 0, b"oops"))
    send(scene, session, OutputSegment.of("stdout", 4, b"two"))
    both = {"stdout": 7, "stderr": 4}
    assert shown(read(scene, session)) == ([(0, "one two")], [(0, "oops")], both, False)
    assert shown(read(scene, session, "?after=2,4")) == ([(2, "e two")], [], both, False)
    assert shown(read(scene, session, "?after=7,4")) == ([], [], both, False)
    assert shown(read(scene, session, "?stream=stderr&after=1")) == ([], [(1, "ops")], {"stderr": 4}, False)
    tail = OutputSegment.of("stdout", 100, b"end", is_tail=True)
    scene.record(report(session, output=(tail,)))
    answer = read(scene, session, "?after=5,4&encoding=base64")
    assert shown(answer) == ([(5, "d28="), (100, "ZW5k")], [], {"stdout": 103, "stderr": 4}, True)
    assert read(scene, session, "?after=103,4&wait_seconds=30").json["finished"]


def test_a_character_is_given_whole(scene: Scene) -> None:
    session = scene.running()
    data = "aé".encode()
    send(scene, session, OutputSegment.of("stdout", 0, data[:2]))
    assert shown(read(scene, session)) == ([(0, "a")], [], {"stdout": 1, "stderr": 0}, False)
    send(scene, session, OutputSegment.of("stdout", 2, data[2:]))
    assert shown(read(scene, session, "?after=1")) == ([(1, "é")], [], {"stdout": 3, "stderr": 0}, False)


@pytest.mark.parametrize("query", ["?after=x", "?after=-1", "?after=1,2,3", "?stream=stdout&after=1,2", "?stream=all"])
def test_a_wrong_question_is_refused(scene: Scene, query: str) -> None:
    assert read(scene, scene.running(), query).problem == "invalid"


def test_another_agent_sees_nothing(scene: Scene) -> None:
    session = scene.running()
    caller = scene.as_agent(Maturity.STUDENT)
    assert caller.get(f"/api/local-agent/sessions/{session.pk}/output").problem == "not-found"
    unknown = UUID(int=1)
    assert caller.get(f"/api/local-agent/sessions/{unknown}/output?wait_seconds=9").problem == "not-found"


def test_a_held_answer_comes_with_the_output(own_scene: Scene) -> None:
    session = own_scene.running()

    def print_late() -> None:
        send(own_scene, session, OutputSegment.of("stdout", 0, b"late"))
        connection.close()

    timer = threading.Timer(0.2, print_late)
    timer.start()
    began = time.monotonic()
    followed = output_follow(session.pk, {"stdout": 0, "stderr": 0}, 20, waiter="test")
    timer.join()
    assert followed.parts["stdout"] == [(0, b"late")]
    assert time.monotonic() - began < 1.5
