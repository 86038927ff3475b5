"""An agent's doors against a running product: `atom`, the typed client, a generated one, and clients of MCP."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from audit.trail import SYSTEM
from governance.models import Agent, AgentKey
from governance.services import key_issue, key_revoke
from shellagent.client import Atom, DeniedError, UnauthorisedError
from shellagent.client_file import main as make_file
from tests.e2e.product import MANAGE, ROOT, Process, Product, eventually, free_port

pytestmark = pytest.mark.e2e

INSPECTOR = shutil.which("mcp-inspector") or shutil.which("npx")


@pytest.fixture(scope="module")
def http(product: Product) -> Iterator[str]:
    """The address of an MCP server over HTTP, which has no key of its own."""
    port, log = free_port(), product.folder / "mcp.log"
    argv = [*MANAGE, "mcp", "--http", "--port", str(port)]
    with log.open("wb") as stream:
        popen = subprocess.Popen(argv, env={**product.environment(), "ATOM_URL": product.url}, cwd=ROOT, stderr=stream)
    process = Process("mcp", popen, log)
    try:
        eventually(lambda: "listening" in process.text(), seconds=60, why=process.text)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        assert process.stop(signal.SIGINT) in (0, 130)


def apart(work: Callable[[], object]) -> None:
    """Do something on a thread of its own, whose connection to the database ends with it."""
    try:
        work()
    finally:
        connections.close_all()


@asynccontextmanager
async def connected(product: Product, http: str, door: str, key: str) -> AsyncIterator[Client]:
    """A client of the SDK's, over one of the transports."""
    if door == "http":
        async with (
            create_mcp_http_client(headers={"Authorization": f"Bearer {key}"}) as calls,
            Client(streamable_http_client(http, http_client=calls)) as client,
        ):
            yield client
        return
    environment = {**os.environ, **product.environment(), "ATOM_URL": product.url, "ATOM_KEY": key}
    server = StdioServerParameters(command=MANAGE[0], args=[*MANAGE[1:], "mcp"], env=environment)
    async with Client(stdio_client(server)) as client:
        yield client


@pytest.mark.parametrize("door", ["stdio", "http"])
def test_a_model_runs_what_it_may_and_is_told_why_not(product: Product, http: str, door: str) -> None:
    def decide(decision: str, reason: str = "") -> Callable[[str], Awaitable[int]]:
        async def work(session_id: str) -> int:
            return (await asyncio.to_thread(product.person().decide, session_id, decision, reason)).status_code

        return work

    async def story() -> None:
        async with connected(product, http, door, product.agents["student"]["key"]) as client:

            async def call(tool: str, **arguments: Any) -> dict[str, Any]:
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, result.content
                return dict(result.structured_content or {})

            asked = await call("run_command", command="ls /tmp", wait_seconds=0)
            assert (asked["status"], asked["approve_url"] in asked["next_step"]) == ("pending", True)
            waiting = asyncio.ensure_future(call("get_command", id=asked["id"], wait_seconds=30))
            assert await decide("approve")(asked["id"]) == 200
            assert ((await waiting)["status"], (await waiting)["exit_code"]) == ("succeeded", 0)

            asked = await call("run_command", command="ls  /tmp", wait_seconds=0, idempotency_key=f"once-{door}")
            again = await call("run_command", command="ls  /tmp", wait_seconds=0, idempotency_key=f"once-{door}")
            assert again["id"] == asked["id"]
            assert await decide("reject", "Not on this machine.")(asked["id"]) == 200
            rejected = await call("get_command", id=asked["id"])
            assert (rejected["status"], "Not on this machine." in rejected["next_step"]) == ("rejected", True)

            asked = await call("run_command", command="ls /tmp", wait_seconds=0)
            assert (await call("cancel_command", id=asked["id"]))["status"] == "cancelled"
            assert (await call("list_commands", status="cancelled"))["commands"][0]["id"] == asked["id"]
            assert (await call("check_policy", command="sudo reboot"))["outcome"] == "deny"
        async with connected(product, http, door, product.agents["autonomous"]["key"]) as client:
            assert (await call("run_command", command="echo hi"))["stdout"] == "hi\n"
            late = await call("run_command", argv=["sleep", "30"], timeout_seconds=1)
            assert (late["status"], "timeout" in late["next_step"]) == ("timed_out", True)

    asyncio.run(story())


def test_a_revoked_key_and_a_server_that_is_down_are_said(product: Product, http: str) -> None:
    agent = Agent.objects.get(pk=product.agents["intern"]["id"])
    key = key_issue(agent=agent, actor=SYSTEM, label="short")
    issued = AgentKey.objects.get(label="short")

    async def said(door: str, during: Callable[[], object]) -> str:
        async with connected(product, http, door, key) as client:
            assert not (await client.call_tool("list_commands", {})).is_error
            await asyncio.to_thread(apart, during)
            result = await client.call_tool("run_command", {"command": "ls"})
            assert result.is_error
            return str(result.content[0].text)  # type: ignore[union-attr]

    web = product.processes["web"]
    assert "No server answers" in asyncio.run(said("http", web.stop))
    product.start_web()
    assert "another key" in asyncio.run(said("stdio", lambda: key_revoke(key=issued, actor=SYSTEM)))
    with pytest.raises(UnauthorisedError), Atom(product.url, key) as atom:
        atom.status()


@pytest.mark.skipif(INSPECTOR is None, reason="needs Node.js")
def test_the_inspector_of_the_mcp_project_works_with_it(product: Product) -> None:
    inspector = [INSPECTOR, *(["--yes", "@modelcontextprotocol/inspector@2.12.0"] if "npx" in str(INSPECTOR) else [])]
    key = product.agents["autonomous"]["key"]
    call = ["--method", "tools/call", "--tool-name", "run_command", "--tool-arg", "command=echo hi"]
    environment = ["-e", f"ATOM_URL={product.url}", "-e", f"ATOM_KEY={key}"]
    done = subprocess.run(
        [str(word) for word in (*inspector, "--cli", *environment, *MANAGE, "mcp", *call)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    if "ENOTFOUND" in done.stderr or "ECONNREFUSED" in done.stderr:
        pytest.skip("the inspector is not installed and cannot be fetched")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["structuredContent"]["stdout"] == "hi\n"


def test_atom_is_told_of_an_approval_and_of_a_rejection(product: Product, tmp_path: Path) -> None:
    file = tmp_path / "atom"
    make_file(str(file))
    environment = {"ATOM_URL": product.url, "HOME": str(tmp_path), "PATH": os.environ["PATH"]}

    def atom(maturity: str, *arguments: str) -> subprocess.Popen[str]:
        key = product.agents[maturity]["key"]
        argv = [sys.executable, "-I", "-S", str(file), *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, env={**environment, "ATOM_KEY": key}, stdout=pipe, stderr=pipe, text=True)

    process = atom("autonomous", "run", "echo out; ls /tmp/nowhere")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "out\n"), err
    assert "/nowhere" in err
    for decision, reason, code in (("approve", "", 0), ("reject", "Not now.", 77)):
        process = atom("student", "run", "--reason", "look", "ls /tmp")
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "waiting for a person" in line
        with Atom(product.url, product.agents["student"]["key"]) as client:
            (session,) = client.sessions(status="pending", limit=1)
        assert product.person().decide(session.id, decision, reason).status_code == 200
        _, err = process.communicate(timeout=60)
        assert (process.returncode, reason in err) == (code, True)


def test_the_typed_client(product: Product) -> None:
    with Atom(product.url, product.agents["autonomous"]["key"]) as atom:
        session = atom.execute("echo one; echo two 1>&2", idempotency_key="typed")
        assert atom.execute("echo one; echo two 1>&2", idempotency_key="typed").id == session.id
        printed = b"".join(part.data for found in atom.follow(session.id) for part in found.stdout)
        ended = atom.wait(session.id)
        assert (printed, ended.stderr, ended.has_run, ended.exit_code) == (b"one\n", "two\n", True, 0)
        assert (ended.agent and ended.agent.maturity, atom.agent().maturity) == ("AUTONOMOUS", "AUTONOMOUS")
        assert atom.sessions(limit=1)[0].id == session.id
        assert [host.online for host in atom.status().hosts] == [True]
        assert atom.check(["rm", "-r", "/etc"]).outcome == "deny"
        with pytest.raises(DeniedError, match="blocked") as caught:
            atom.execute("sudo reboot")
        assert caught.value.problem["decision"]["outcome"] == "deny"


def test_a_client_that_was_generated_of_the_description(product: Product, tmp_path: Path) -> None:
    generator = Path(sys.executable).parent / "openapi-python-client"
    source = ROOT / "docs" / "reference" / "openapi.json"
    made = [str(generator), "generate", "--path", str(source), "--output-path", "atom_api", "--meta", "none"]
    path = f"{generator.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        made, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, "Warning" in done.stdout + done.stderr) == (0, False), done.stdout + done.stderr
    page = (ROOT / "docs" / "how-to" / "use-the-python-client.md").read_text()
    code = page[page.rindex("```python\n") + len("```python\n") :].partition("```")[0]
    for maturity, command, printed in (("autonomous", "ls /tmp", "succeeded 0"), ("student", "sudo reboot", "Denied ")):
        key = product.agents[maturity]["key"]
        done = subprocess.run(
            [sys.executable, "-c", code.replace("ls /tmp", command)],
            cwd=tmp_path,
            env={**os.environ, "ATOM_URL": product.url, "ATOM_KEY": key},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode, done.stdout.startswith(printed)) == (0, True), done.stdout + done.stderr
