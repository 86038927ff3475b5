"""An AI tool with our hook, and a whole product behind it. The tool is played here: it does what hooks are answered."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from audit.trail import SYSTEM
from governance.models import AgentKey
from governance.services import key_revoke
from shellagent.client_file import client_file
from tests.e2e.product import Product, eventually

pytestmark = pytest.mark.e2e


class Seen(NamedTuple):
    """What the model sees of its call, and what the tool's shell ran."""

    text: str
    ran: str = ""


class Tool:
    """A tool as the hooks' documentation describes it: it asks, and runs what it is allowed in a shell of its own."""

    def __init__(self, product: Product, home: Path, maturity: str) -> None:
        programs = home / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        (programs / "atom").write_bytes(client_file())
        (programs / "atom").chmod(0o755)
        (home / ".claude").mkdir(exist_ok=True)
        self.folder = home / "work"
        self.folder.mkdir(exist_ok=True)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(home),
            "ATOM_URL": product.url,
            "ATOM_KEY": product.agents[maturity]["key"],
        }

    def sh(self, command: str, told: str = "") -> subprocess.CompletedProcess[str]:
        """Run a line in a shell."""
        return subprocess.run(
            ["/bin/sh", "-c", command],
            input=told,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def connect(self, mode: str) -> None:
        done = self.sh(f"atom connect claude-code --write --mode {mode}")
        assert done.returncode == 0, done.stderr

    def bash(self, command: str) -> Seen:
        """Let the model call the tool's shell."""
        settings = json.loads((Path(self.environment["HOME"]) / ".claude/settings.json").read_text())
        hook = settings["hooks"]["PreToolUse"][0]["hooks"][0]["command"]
        call: dict[str, Any] = {
            "hook_event_name": "PreToolUse",
            "cwd": str(self.folder),
            "tool_name": "Bash",
            "tool_input": {"command": command, "description": "a test"},
            "tool_use_id": os.urandom(4).hex(),
        }
        answered = self.sh(hook, json.dumps(call))
        if answered.returncode == 2:
            return Seen(answered.stderr)
        said = json.loads(answered.stdout)["hookSpecificOutput"]
        if said["permissionDecision"] == "deny":
            return Seen(said["permissionDecisionReason"])
        line = said.get("updatedInput", call["tool_input"])["command"]
        done = self.sh(line)
        return Seen(done.stdout + done.stderr, ran=line)


@pytest.fixture
def tool(product: Product) -> Tool:
    home = product.folder / "user"
    return Tool(product, home, "supervised")


def test_asking_governance_before_a_shell(product: Product, tool: Tool) -> None:
    tool.connect("check")
    (tool.folder / "here.txt").write_text("it is here\n")
    assert tool.bash("cat here.txt") == Seen("it is here\n", ran="cat here.txt")
    denied = tool.bash("sudo reboot")
    assert (denied.ran, "sudo" in denied.text) == ("", True)
    syntax = tool.bash("echo $(id)")
    assert (syntax.ran, "substitution" in syntax.text) == ("", True)

    for decision, reason in (("approve", ""), ("reject", "Not on this machine.")):
        asked = tool.bash(f"touch {decision}.txt")
        assert asked.ran == ""
        (session_id,) = {word.strip("`") for word in asked.text.split() if word.count("-") == 4}
        assert product.person().decide(session_id, decision, reason).status_code == 200
        seen = tool.sh(f"atom wait {session_id}")
        assert seen.returncode == (0 if decision == "approve" else 77)
        assert reason in seen.stderr
        assert (tool.folder / f"{decision}.txt").exists() is (decision == "approve")


def test_having_every_call_run_by_a_host(product: Product, tool: Tool) -> None:
    tool.connect("run")
    assert tool.sh("atom doctor").returncode == 0
    (tool.folder / "here.txt").write_text("it is here\n")
    seen = tool.bash("cat here.txt | tr a-z A-Z")
    assert seen.text == "IT IS HERE\n"
    assert seen.ran.startswith("atom run ")
    listed = json.loads(tool.sh("atom list --json --limit 1").stdout)["sessions"][0]
    assert (listed["command"], listed["reason"]) == ("cat here.txt | tr a-z A-Z", "a test")
    assert "sudo" in tool.bash("sudo reboot").text


def test_a_revoked_key_and_a_missing_server_block(product: Product, tool: Tool) -> None:
    tool.connect("check")
    key = AgentKey.objects.get(agent_id=product.agents["student"]["id"])
    tool.environment["ATOM_KEY"] = product.agents["student"]["key"]
    key_revoke(key=key, actor=SYSTEM)
    revoked = tool.bash("ls")
    assert (revoked.ran, "revoked" in revoked.text) == ("", True)
    product.processes["web"].end()
    away = tool.bash("ls")
    assert (away.ran, "No server answers" in away.text) == ("", True)
    product.start_web()
    eventually(product.is_up)
