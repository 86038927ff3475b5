"""What the doors of agents cost: `atom` over the API's own round trip, and how soon the MCP server answers."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.figures import DoorFigure
from bench.options import REPOSITORY
from bench.peers import timed
from bench.workspace import PeerFailed
from shellagent.client_file import main as make_file

CALLS: Final = 20
STARTS: Final = 5
SECONDS: Final = 60
INITIALIZE: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}


def measure(*, database: str, url: str, key: str, api: list[float], is_quick: bool) -> DoorFigure:
    """Measure with a product that runs; `api` are seconds of calls over a kept connection, as many as `atom` makes."""
    environment = {"PATH": os.environ.get("PATH", ""), "ATOM_URL": url, "ATOM_KEY": key, "HOME": tempfile.gettempdir()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "atom"
        make_file(str(file))
        argv = [sys.executable, str(file), "run", "--", "true"]
        calls = tuple(timed(lambda: _run(argv, environment)) for _ in api)
    starts = tuple(timed(lambda: _initialize(environment)) for _ in range(1 if is_quick else STARTS))
    return DoorFigure(database, tuple(api), calls, starts)


def _run(argv: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    if done.returncode != 0:
        raise PeerFailed(f"atom ended with {done.returncode}: {done.stderr[-500:]}")


def _initialize(environment: dict[str, str]) -> None:
    argv = [sys.executable, str(REPOSITORY / "manage.py"), "mcp"]
    pipe, line = subprocess.PIPE, ""
    with subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as server:
        if server.stdin and server.stdout:
            server.stdin.write(json.dumps(INITIALIZE) + "\n")
            server.stdin.flush()
            line = server.stdout.readline()
        server.kill()
    if "serverInfo" not in line:
        raise PeerFailed(f"the MCP server did not answer initialize: {line[:500]}")
