"""An AI tool as the hooks' documentation describes it: it asks its hook, and runs what is allowed in its own shell."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

from shellagent.client_file import client_file
from tests.e2e.product import Product

#: What Claude Code documents that it tells a hook.
CALL: Final = Path(__file__).parents[1] / "client" / "calls" / "claude-code-bash.json"


class Seen(NamedTuple):
    """What the model sees of its call, and what the tool's shell ran."""

    text: str
    ran: str = ""


class Tool:
    """Claude Code with `atom` on its PATH, in a home of its own."""

    def __init__(self, product: Product, home: Path, key: str) -> None:
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
            "ATOM_KEY": key,
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

    def bash(self, command: str, **more: Any) -> Seen:
        """Let the model call the tool's shell."""
        settings = json.loads((Path(self.environment["HOME"]) / ".claude/settings.json").read_text())
        hook = settings["hooks"]["PreToolUse"][0]["hooks"][0]["command"]
        call: dict[str, Any] = json.loads(CALL.read_text())
        call["cwd"], call["tool_use_id"] = str(self.folder), os.urandom(4).hex()
        call["tool_input"] = {"command": command, "description": "a test", **more}
        answered = self.sh(hook, json.dumps(call))
        if answered.returncode == 2:
            return Seen(answered.stderr)
        said = json.loads(answered.stdout)["hookSpecificOutput"]
        if said["permissionDecision"] == "deny":
            return Seen(said["permissionDecisionReason"])
        line = said.get("updatedInput", call["tool_input"])["command"]
        done = self.sh(line)
        return Seen(done.stdout + done.stderr, ran=line)
