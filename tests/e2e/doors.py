"""The doors of an agent that speaks through a program nobody here wrote, each with the same three calls."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from anyio.from_thread import start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from shellagent.client_file import main as make_file
from tests.e2e.ai_tool import Tool
from tests.e2e.product import MANAGE, Product

INSPECTOR: Final = shutil.which("mcp-inspector") or shutil.which("npx")
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def id_in(text: str) -> str:
    """Return the session that a text names."""
    found = _ID.search(text)
    assert found is not None, text
    return found[0]


class Door(Protocol):
    """Each call returns what the model reads."""

    def ask(self, command: str, *, timeout_seconds: int | None = None) -> str: ...

    def look(self, session_id: str) -> str:
        """Wait for the end of a session."""

    def cancel(self, session_id: str) -> str: ...


@asynccontextmanager
async def connected(product: Product, http: str, key: str) -> AsyncIterator[Client]:
    """The SDK's own client: over HTTP at an address, over the standard streams without one."""
    if http:
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


class Mcp:
    """The tools, by the SDK's own client, which is connected until `open_until` closes."""

    def __init__(self, product: Product, key: str, open_until: ExitStack, http: str = "") -> None:
        self._loop = open_until.enter_context(start_blocking_portal())
        self._client = open_until.enter_context(self._loop.wrap_async_context_manager(connected(product, http, key)))

    def ask(self, command: str, *, timeout_seconds: int | None = None) -> str:
        more = {"timeout_seconds": timeout_seconds} if timeout_seconds else {}
        return self.call("run_command", command=command, wait_seconds=1, **more)

    def look(self, session_id: str) -> str:
        return self.call("get_command", id=session_id)

    def cancel(self, session_id: str) -> str:
        return self.call("cancel_command", id=session_id)

    def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool, and return its text."""

        result = self._loop.call(self._client.call_tool, tool, arguments)
        assert result.is_error or result.structured_content
        return str(result.content[0].text)


def inspected(product: Product, key: str, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool by the MCP project's inspector in its command-line mode, and return the result as JSON."""
    npx = ["--yes", "@modelcontextprotocol/inspector@2.12.0"] if "npx" in str(INSPECTOR) else []
    environment = ["-e", f"ATOM_URL={product.url}", "-e", f"ATOM_KEY={key}"]
    given = [word for name, value in arguments.items() for word in ("--tool-arg", f"{name}={value}")]
    call = ["--method", "tools/call", "--tool-name", tool, *given]
    done = subprocess.run(
        [str(INSPECTOR), *npx, "--cli", *environment, *MANAGE, "mcp", *call],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class Shell:
    """`atom` in a shell, as the one file."""

    def __init__(self, product: Product, key: str, folder: Path) -> None:
        make_file(str(folder / "atom"))
        self._file = folder / "atom"
        self._environment = {
            "ATOM_URL": product.url,
            "ATOM_KEY": key,
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
        }

    def ask(self, command: str, *, timeout_seconds: int | None = None) -> str:
        return self._atom(
            "run", "--wait", "1", *(["--timeout", str(timeout_seconds)] if timeout_seconds else []), command
        )

    def look(self, session_id: str) -> str:
        return self._atom("wait", session_id)

    def cancel(self, session_id: str) -> str:
        return self._atom("cancel", session_id)

    def _atom(self, *arguments: str) -> str:
        argv = [sys.executable, "-I", "-S", str(self._file), *arguments]
        done = subprocess.run(argv, env=self._environment, capture_output=True, text=True, check=False, timeout=120)
        return f"{done.stdout}{done.stderr}exit code {done.returncode}\n"


class Hooked:
    """Claude Code's shell with our hook before it; the model does as the hook tells it."""

    def __init__(self, tool: Tool, mode: str) -> None:
        self._tool = tool
        tool.connect(mode)

    def ask(self, command: str, *, timeout_seconds: int | None = None) -> str:
        more = {"timeout": timeout_seconds * 1000} if timeout_seconds else {}
        return self._tool.bash(command, **more).text

    def look(self, session_id: str) -> str:
        return self._tool.bash(f"atom wait {session_id}").text

    def cancel(self, session_id: str) -> str:
        return self._tool.bash(f"atom cancel {session_id}").text
