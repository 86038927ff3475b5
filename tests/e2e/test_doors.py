"""An agent's doors against a running product: `atom`, the typed client, a generated one, and clients of MCP."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from shellagent.client import Atom, DeniedError, UnauthorisedError
from shellagent.client_file import main as make_file
from tests.e2e.doors import INSPECTOR, connected, inspected
from tests.e2e.product import ROOT, Product

pytestmark = pytest.mark.e2e


@pytest.fixture(params=["stdio", "http"])
def address(request: pytest.FixtureRequest, http: str) -> str:
    """The address of the MCP server; empty for one over the standard streams."""
    return http if request.param == "http" else ""


async def called(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that answers with a result."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return dict(result.structured_content or {})


def test_a_model_waits_while_a_person_decides(product: Product, address: str) -> None:
    async def story() -> None:
        async with connected(product, address, product.agents["student"]["key"]) as client:
            asked = await called(client, "run_command", command="ls /tmp", wait_seconds=0)
            assert (asked["status"], asked["approve_url"] in asked["next_step"]) == ("pending", True)
            waiting = asyncio.ensure_future(called(client, "get_command", id=asked["id"], wait_seconds=30))
            assert (await called(client, "check_policy", command="sudo reboot"))["outcome"] == "deny"
            await asyncio.to_thread(product.person().decide, asked["id"], "approve")
            assert ((await waiting)["status"], (await waiting)["exit_code"]) == ("succeeded", 0)

    asyncio.run(story())


def test_nothing_runs_twice_and_nothing_is_lost(product: Product, address: str) -> None:
    """Two calls at once, a client that goes in the middle of a wait, and arguments that are none."""
    key = product.agents["student"]["key"]

    async def gone() -> None:
        async with connected(product, address, key) as client:
            waiting = asyncio.ensure_future(called(client, "run_command", command="ls /", wait_seconds=45))
            while not [line async for line in listed(client, "ls /")]:
                await asyncio.sleep(0.2)
            waiting.cancel()

    async def listed(client: Client, command: str) -> AsyncIterator[dict[str, Any]]:
        for line in (await called(client, "list_commands", status="pending"))["commands"]:
            if line["command"] == command:
                yield line

    async def story() -> None:
        await gone()
        async with connected(product, address, key) as client:
            (left,) = [line async for line in listed(client, "ls /")]
            assert product.person().decide(left["id"], "approve").status_code == 200
            assert (await called(client, "get_command", id=left["id"]))["status"] == "succeeded"

            same = {"command": "ls  /tmp", "wait_seconds": 0, "idempotency_key": f"once{bool(address)}"}
            one, other = await asyncio.gather(*(called(client, "run_command", **same) for _ in range(2)))
            assert one["id"] == other["id"]
            assert len([line async for line in listed(client, "ls  /tmp")]) == 1
            assert (await called(client, "cancel_command", id=one["id"]))["status"] == "cancelled"

            for wrong, said in (
                ({"command": "echo " + "x" * 1_000_000}, "at most 8192"),
                ({"argv": ["echo", 5]}, "argv"),
                ({"command": "ls", "working_directory": "tmp"}, "absolute"),
            ):
                result = await client.call_tool("run_command", wrong)
                assert (result.is_error, said in result.content[0].text) == (True, True)  # type: ignore[union-attr]
            assert (await called(client, "list_commands"))["commands"][0]["id"] == one["id"], "nothing came of these"

    asyncio.run(story())


@pytest.mark.skipif(INSPECTOR is None, reason="needs Node.js")
def test_the_inspector_reads_a_result_and_an_error(product: Product) -> None:
    key = product.agents["autonomous"]["key"]
    result = inspected(product, key, "run_command", command="echo it ran", wait_seconds=20)
    assert (result.get("isError", False), result["structuredContent"]["stdout"]) == (False, "it ran\n")
    wrong = inspected(product, key, "run_command", command="ls", working_directory="tmp")
    assert (wrong["isError"], "absolute" in wrong["content"][0]["text"]) == (True, True)


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
    with pytest.raises(UnauthorisedError), Atom(product.url, "ata_nobody") as atom:
        atom.status()


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
