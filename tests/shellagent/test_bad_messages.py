"""Bad messages of a host, and reading by filters, cursors and addresses that are wrong."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User

from governance.policy.types import Maturity
from shellagent import limits, protocol
from shellagent.protocol import OutputSegment
from shellagent.services import output_of
from tests.shellagent.scene import (
    INSTANCE,
    Caller,
    Scene,
    poll_request,
    report,
    rows,
    tags,
)

EXECUTE = "/api/local-agent/execute"


class TestHostCalls:
    @pytest.mark.parametrize("path", ["/api/host/poll", "/api/host/start", "/api/shell/log"])
    @pytest.mark.parametrize(
        "body",
        [b"", b"no", b"[]", b"null", b'"v"', b'{"v": 1', b"[" * 100_000, b'{"v": 1}', b'{"v": 1, "instance_id": 7}'],
        ids=repr,
    )
    def test_no_message(self, scene: Scene, path: str, body: bytes) -> None:
        before = rows()
        answer = scene.as_host().call("POST", path, body)
        assert (answer.status, answer.problem) == (400, "invalid")
        assert rows() == before

    def test_more_output_than_a_host_keeps(self, scene: Scene) -> None:
        session = scene.running()
        parts = [OutputSegment.of("stdout", n * 2**18, b"x" * 2**18, is_tail=True) for n in range(3)]
        address = f"/api/host/sessions/{session.pk}/output"
        for wanted, status in (parts[:2], 200), (parts[:2], 200), (parts[2:], 400):
            body = protocol.encode(protocol.OutputRequest(1, session.start_key, tuple(wanted)))
            assert scene.as_host().post(address, body).status == status
        record = protocol.encode(protocol.RecordRequest(1, INSTANCE, (report(session, output=tuple(parts)),)))
        answer = scene.as_host().post("/api/shell/log", record)
        assert (answer.status, answer.problem, tags(session)[-1]) == (400, "invalid", "output")
        assert [len(data) for _offset, data in output_of(session.pk)["stdout"]] == [2**18, 2**18]

    @pytest.mark.parametrize("version", [0, 2, "1", None])
    def test_an_unknown_version(self, scene: Scene, version: object) -> None:
        body = {**protocol.encode(poll_request()), "v": version}
        answer = scene.as_host().post("/api/host/poll", body)
        assert (answer.status, answer.problem, answer.json["next_action"]) == (426, "upgrade-required", "stop")

    @pytest.mark.parametrize(
        "change",
        [
            {"claim_key": "k" * 65},
            {"instance_id": "k" * 65},
            {"boot_id": "a\0b"},
            {"version": "9" * 33},
            {"free_slots": -1},
            {"spool": 2**60},
            {"running": "all"},
            {"facts": {}},
            {"protections": ["\0"]},
        ],
        ids=repr,
    )
    def test_a_poll_that_no_host_means(self, scene: Scene, change: dict[str, Any]) -> None:
        session = scene.session()
        answer = scene.as_host().post("/api/host/poll", {**protocol.encode(poll_request()), **change})
        assert (answer.status, answer.problem) == (400, "invalid")
        assert tags(session) == ["queued"]

    def test_half_a_character(self, scene: Scene) -> None:
        body = json.dumps({**protocol.encode(poll_request()), "boot_id": "\ud800"}).encode()
        assert scene.as_host().call("POST", "/api/host/poll", body).problem == "invalid"
        body = json.dumps({**protocol.encode(poll_request()), "\ud800": 1}).encode()
        assert scene.as_host().call("POST", "/api/host/poll", body).problem == "invalid"

    @pytest.mark.parametrize("start_key", ["", "k" * 65])
    def test_a_start_key_that_is_none(self, scene: Scene, start_key: str) -> None:
        session = scene.claimed()
        wish = protocol.Start(str(session.pk), start_key, session.digest)
        answer = scene.as_host().post("/api/host/start", protocol.encode(protocol.StartRequest(1, INSTANCE, (wish,))))
        assert (answer.status, answer.problem) == (400, "invalid")
        assert tags(session) == ["queued", "claimed"]

    @pytest.mark.parametrize(
        "change",
        [
            {"duration_us": -1},
            {"duration_us": 2**63},
            {"exit_codes": [2**31]},
            {"exit_codes": ["0"]},
            {"outcome": "splendid"},
            {"detail": "\0"},
            {"output": [{"stream": "stdout", "offset": 0, "data": "no base64!"}]},
            {"output": [{"stream": "stdout", "offset": 0, "data": "\u00e9"}]},
            {"output": [{"stream": "stdout", "offset": -1, "data": "aGk="}]},
            {"stdout": {"total_bytes": 1, "sha256": "a" * 65, "is_truncated": False}},
        ],
        ids=repr,
    )
    def test_a_record_that_no_host_means(self, scene: Scene, change: dict[str, Any]) -> None:
        session = scene.running()
        before = rows()
        record = {**protocol.encode(report(session)), **change}
        body = {"v": 1, "instance_id": INSTANCE, "records": [record]}
        answer = scene.as_host().post("/api/shell/log", body)
        assert (answer.status, answer.problem) == (400, "invalid")
        assert rows() == before
        assert tags(session) == ["queued", "claimed", "running"]

    def test_a_body_that_is_too_large(self, scene: Scene) -> None:
        length = str(limits.HOST_BODY_MAX_BYTES + 1)
        answer = scene.as_host().call("POST", "/api/shell/log", b"{}", CONTENT_LENGTH=length)
        assert (answer.status, answer.problem) == (400, "invalid")


class TestReading:
    @pytest.mark.parametrize(
        "query",
        [
            "status=resting",
            "created_after=yesterday",
            "created_before=0001-01-01T00:00:00%2B14:00",
            "agent=" + "a" * 61,
            "wait_seconds=1&category=" + "a" * 11,
        ],
    )
    def test_filters(self, scene: Scene, query: str) -> None:
        answer = scene.as_agent(Maturity.STUDENT).get(f"/api/local-agent/sessions?{query}")
        assert (answer.status, answer.problem) == (400, "invalid")

    @pytest.mark.parametrize("path", ["/api/local-agent/sessions", "/api/agents", "/api/audit/events"])
    @pytest.mark.parametrize("cursor", ["x", "cD14", "cD0lMDA=", "bz05OTk5OTk5OTk5OTk5OTk5OTk5OTk=", "%FF"])
    def test_cursors(self, superuser: User, path: str, cursor: str) -> None:
        answer = Caller.logged_in(superuser).get(f"{path}?cursor={cursor}")
        assert answer.status in (200, 404)
        if answer.status == 404:
            assert answer.problem == "not-found"

    @pytest.mark.parametrize("query", ["wait_seconds=46", "wait_seconds=x", "encoding=rot13"])
    def test_a_session(self, scene: Scene, query: str) -> None:
        session = scene.session()
        answer = scene.as_agent(Maturity.AUTONOMOUS).get(f"/api/local-agent/sessions/{session.pk}?{query}")
        assert (answer.status, answer.problem) == (400, "invalid")

    def test_what_is_not_there(self, scene: Scene) -> None:
        agent = scene.as_agent(Maturity.STUDENT)
        for path in (f"/api/local-agent/sessions/{uuid4()}", "/api/agents/987654", f"/api/agents/{2**70}"):
            answer = agent.get(path)
            assert (answer.status, answer.problem) == (404, "not-found")
        for path in ("/api/nope", "/api/local-agent/sessions/7"):
            assert agent.get(path).problem == "not-found"

    def test_the_wrong_method(self, scene: Scene) -> None:
        answer = scene.as_agent(Maturity.STUDENT).get(EXECUTE)
        assert (answer.status, answer.problem) == (405, "method-not-allowed")
        assert answer.headers["Allow"] == "POST, OPTIONS"
