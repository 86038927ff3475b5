"""The tools against a stub server, asked by the SDK's own client in both eras of the protocol."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from mcp import Client
from starlette.testclient import TestClient

from shellagent.client import Atom
from shellagent.mcp_server import over_http, tools
from tests.client.conftest import EXECUTE, ONE, SESSION
from tests.host.server import StubServer

PENDING = {**SESSION, "status": "pending", "approve_url": "http://approve", "finished_at": None}


@pytest.fixture
def server() -> Iterator[StubServer]:
    stub = StubServer()
    yield stub
    stub.close()


both_eras = pytest.mark.parametrize("ask", ["legacy", "auto"], indirect=True)


@pytest.fixture
def ask(request: pytest.FixtureRequest, server: StubServer) -> Callable[[Callable[[Client], Awaitable[Any]]], Any]:
    """Run what takes a client that is connected."""
    mode = getattr(request, "param", "auto")

    def run(work: Callable[[Client], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            made = tools.make_server(lambda _context: Atom(server.url, "ata_x"))
            async with Client(made, mode=mode) as client:
                return await work(client)

        return asyncio.run(connected())

    return run


Run = Callable[[Callable[[Client], Awaitable[Any]]], Any]


@both_eras
def test_the_tools_are_typed_annotated_and_none_approves(ask: Run) -> None:
    found = {tool.name: tool for tool in ask(lambda client: client.list_tools()).tools}
    assert sorted(found) == ["cancel_command", "check_policy", "get_command", "list_commands", "run_command"]
    assert all(tool.output_schema and tool.description for tool in found.values())
    reading = [name for name, tool in found.items() if tool.annotations and tool.annotations.read_only_hint]
    assert sorted(reading) == ["check_policy", "get_command", "list_commands"]
    assert found["run_command"].annotations.destructive_hint
    assert found["run_command"].input_schema["properties"]["wait_seconds"]["maximum"] == 45


@both_eras
def test_a_command_that_waits_tells_its_progress_and_is_answered_as_pending(
    ask: Run, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "TURN_SECONDS", 1)
    server.bend(EXECUTE, lambda _: (202, PENDING))
    server.bend(ONE, *[lambda _: (200, PENDING)] * 9)

    async def work(client: Client) -> tuple[Any, list[str]]:
        told: list[str] = []

        async def progress(progress: float, total: float | None, message: str | None) -> None:
            told.append(str(message))

        asked = {"command": "ls", "wait_seconds": 2}
        return await client.call_tool("run_command", asked, progress_callback=progress), told

    result, told = ask(work)
    found = result.structured_content
    assert (result.is_error, found["status"], found["id"]) == (False, "pending", SESSION["id"])
    assert "http://approve" in found["next_step"]
    assert "get_command" in found["next_step"]
    assert told[0] == "pending: waiting at http://approve"
    assert server.calls.count(EXECUTE) == 1


def test_a_clock_far_off_is_said(ask: Run, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.bend(EXECUTE, lambda _: (200, {**SESSION, "status": "succeeded", "exit_code": 0}))
    monkeypatch.setattr("shellagent.client.atom.time", SimpleNamespace(time=lambda: 0.0))
    found = ask(lambda client: client.call_tool("run_command", {"argv": ["ls"]})).structured_content
    assert (found["status"], "behind the server's" in found["next_step"]) == ("succeeded", True)


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ((200, {**SESSION, "status": "succeeded", "exit_code": 0, "stdout": "x" * 30_000}), "succeeded", "left out"),
        (
            (200, {**SESSION, "status": "rejected", "approval": {"reason": "Not on Friday."}}),
            "rejected",
            "Not on Friday.",
        ),
        ((200, {**SESSION, "status": "timed_out"}), "timed_out", "stopped at its timeout"),
        (
            (403, {"type": "x/problems/denied", "detail": "It is blocked.", "session_id": "7"}),
            "denied",
            "It is blocked.",
        ),
    ],
)
def test_how_a_command_ended(ask: Run, server: StubServer, answer: tuple[int, Any], status: str, said: str) -> None:
    server.bend(EXECUTE, lambda _: answer)
    found = ask(lambda client: client.call_tool("run_command", {"argv": ["ls"]})).structured_content
    assert found["status"] == status
    assert said in json.dumps(found)
    assert len(found["stdout"]) < 21_000


@pytest.mark.parametrize(
    ("tool", "arguments", "answer", "said"),
    [
        ("run_command", {"command": "ls"}, (401, {"detail": "The key was revoked."}), "another key"),
        ("run_command", {"command": "ls"}, (503, {"detail": "No host."}), "list_commands"),
        (
            "run_command",
            {"command": "a;"},
            (400, {"detail": "What?", "hint": "Quote it."}),
            "Quote it. Nothing was done",
        ),
        ("run_command", {"command": "ls"}, (429, {"detail": "Too many."}), "Wait a minute"),
        ("run_command", {}, None, "one of command"),
        ("run_command", {"command": "ls", "argv": ["ls"]}, None, "one of command"),
        ("run_command", {"command": 5, "wait_seconds": 99}, None, "wait_seconds"),
        ("get_command", {}, None, "id"),
        ("approve_command", {"id": "x"}, None, "Unknown tool"),
    ],
)
def test_what_goes_wrong_is_said_with_the_next_step(  # noqa: PLR0917 - parameters and fixtures are passed by name
    ask: Run, server: StubServer, tool: str, arguments: dict[str, Any], answer: tuple[int, Any] | None, said: str
) -> None:
    if answer:
        server.bend(EXECUTE, lambda _: answer)

    async def work(client: Client) -> str:
        try:
            result = await client.call_tool(tool, arguments)
        except Exception as error:  # noqa: BLE001 - the protocol's own errors are answers too
            return str(error)
        assert result.is_error
        return str(result.content[0].text)  # type: ignore[union-attr]

    assert said in ask(work)
    assert len(server.calls) == (1 if answer else 0)


def test_a_server_that_goes_away_in_the_wait_loses_nothing(ask: Run, server: StubServer) -> None:
    server.bend(EXECUTE, lambda _: (202, PENDING))
    server.bend(ONE, lambda _: (503, {"detail": "Busy."}))
    found = ask(lambda client: client.call_tool("run_command", {"command": "ls"})).structured_content
    assert (found["id"], found["status"]) == (SESSION["id"], "pending")


def test_two_calls_at_once_and_one_that_is_given_up(ask: Run, server: StubServer) -> None:
    server.bend(EXECUTE, *[lambda _: (202, PENDING)] * 3)
    server.bend(ONE, *[lambda _: (200, {**SESSION, "status": "succeeded", "exit_code": 0})] * 3)

    async def work(client: Client) -> list[Any]:
        both = [client.call_tool("run_command", {"argv": ["ls", str(number)]}) for number in range(2)]
        found = await asyncio.gather(*both)
        given_up = asyncio.ensure_future(client.call_tool("run_command", {"command": "ls"}))
        await asyncio.sleep(0)
        given_up.cancel()
        return [*found, await client.call_tool("get_command", {"id": SESSION["id"]})]

    assert [result.structured_content["status"] for result in ask(work)] == ["succeeded"] * 3


def test_over_http_each_caller_shows_a_key_under_a_name_that_is_known(server: StubServer) -> None:
    made = tools.make_server(lambda context: Atom(server.url, tools.headers_key(context)))
    app = over_http.application(made, names=["mcp.example.com"], origins=["https://page.example.com"])
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"Accept": "application/json, text/event-stream"}

    def status(host: str = "localhost:8765", key: str = "Bearer ata_x", **headers: str) -> int:
        wanted = {**accept, "Host": host, **({"Authorization": key} if key else {}), **headers}
        return int(client.post("/mcp", json=call, headers=wanted).status_code)

    with TestClient(app) as client:
        assert status() == 200
        assert status(host="mcp.example.com") == 200
        assert status(Origin="https://page.example.com") == 200
        assert status(host="rebound.example.com") == 421
        assert status(Origin="https://evil.example.com") == 403
        assert status(key="") == 401
        assert status(key="Bearer ath_x") == 401
