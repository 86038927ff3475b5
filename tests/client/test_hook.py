"""The hook as Claude Code, Codex and Cursor call it: what it answers, and that nothing goes past it.

The calls in `calls/` have the fields that the programs document for their hooks.
"""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shellagent.client import hook, tool_calls
from tests.client.conftest import EXECUTE, SESSION, Call, Done
from tests.host.server import StubServer

CALLS = Path(__file__).parent / "calls"
AGENTS = "/api/agents"
CHECK = "/api/agents/5/governance"
AGENT = {"id": 5, "name": "builder", "maturity": "SUPERVISED"}
BASH: dict[str, Any] = json.loads((CALLS / "claude-code-bash.json").read_text())
SHELL: dict[str, Any] = json.loads((CALLS / "cursor-shell.json").read_text())

Hook = Callable[..., Done]


@pytest.fixture
def ask(call: Call, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> Hook:
    """Call the hook of a program with what it says, by default with access to the stub server."""

    def run(program: str, told: object, *options: str, url: str = server.url) -> Done:
        content = told if isinstance(told, bytes) else json.dumps(told).encode()
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        monkeypatch.setenv("ATOM_URL", url)
        monkeypatch.setenv("ATOM_KEY", "ata_x")
        return call("hook", program, *options)

    return run


def decides(server: StubServer, outcome: str, **more: Any) -> list[dict[str, Any]]:
    """Let governance decide the next question so, and return what it is asked."""
    asked: list[dict[str, Any]] = []
    decision = {"outcome": outcome, "explanation": f"It is {outcome}.", **more}

    def answer(body: dict[str, Any]) -> tuple[int, object]:
        asked.append(body)
        return 200, decision

    server.straighten(AGENTS, CHECK)
    server.bend(AGENTS, lambda _: (200, {"results": [AGENT]}))
    server.bend(CHECK, answer)
    return asked


def said(done: Done) -> str:
    """Return the one word of a hook's answer: allow, deny, rewritten, nothing or blocked."""
    if done.code:
        assert done.code == hook.BLOCKS
        assert done.err
        return "blocked"
    answer = done.json
    inner = answer.get("hookSpecificOutput", answer)
    if "updatedInput" in inner:
        return "rewritten"
    word = inner.get("permissionDecision") or inner.get("permission") or inner.get("decision", {}).get("behavior")
    return word or "nothing"


@pytest.mark.parametrize(
    ("program", "file", "allowed"),
    [
        ("claude-code", "claude-code-bash.json", "allow"),
        # Codex knows no bare allow for PreToolUse: what is allowed is left to its own sandbox.
        ("codex", "codex-bash.json", "nothing"),
        ("codex", "codex-permission.json", "allow"),
        ("cursor", "cursor-shell.json", "allow"),
        ("cursor", "cursor-mcp.json", "allow"),
    ],
)
def test_each_program_is_told_what_governance_says(
    ask: Hook, server: StubServer, program: str, file: str, allowed: str
) -> None:
    told = json.loads((CALLS / file).read_text())
    asked = decides(server, "allow", obligations=["read-only"])
    assert said(ask(program, told)) == allowed
    assert asked[0]["command"] == "grep -c ERROR app.log"
    assert asked[0].get("working_directory") == told.get("cwd")
    decides(server, "deny")
    done = ask(program, told)
    assert said(done) == "deny"
    assert "It is deny." in done.out


def test_who_has_to_be_asked_is_asked_in_the_product(ask: Hook, server: StubServer) -> None:
    """And the tool's own shell stays closed: whoever sits in front of it is not who may approve."""
    bodies: list[dict[str, Any]] = []
    pending = {**SESSION, "status": "pending", "approve_url": "http://approve", "host": {"id": 1, "name": "here"}}
    server.bend(EXECUTE, lambda body: bodies.append(body) or (202, pending))  # type: ignore[func-returns-value]
    decides(server, "ask")
    done = ask("claude-code", BASH)
    assert said(done) == "deny"
    assert "http://approve" in done.out
    assert f"atom wait {SESSION['id']}" in done.out
    assert bodies[0]["command"] == BASH["tool_input"]["command"]
    assert bodies[0]["reason"] == BASH["tool_input"]["description"]


@pytest.mark.parametrize(
    "decision", [{"obligations": ["sandbox"]}, {"tokens": [{"text": "/usr/bin/less", "role": "program"}]}]
)
def test_what_only_a_host_can_hold_is_not_left_to_an_open_shell(
    ask: Hook, server: StubServer, decision: dict[str, Any]
) -> None:
    decides(server, "allow", **decision)
    done = ask("claude-code", BASH)
    assert said(done) == "deny"
    assert "atom run" in done.out


@pytest.mark.parametrize("program", ["claude-code", "codex"])
def test_a_call_that_is_allowed_is_rewritten_whole(ask: Hook, server: StubServer, program: str) -> None:
    text = "ls | wc -l; echo 'a b' \"$HOME\" *.py"
    told = {**BASH, "tool_input": {"command": text, "description": "it's why\nno", "timeout": 5000, "x": 1}}
    decides(server, "allow", obligations=["sandbox"])
    done = ask(program, told, "--mode", "run")
    assert said(done) == "rewritten"
    given = done.json["hookSpecificOutput"]["updatedInput"]
    words = shlex.split(given["command"])
    assert words[:2] == ["atom", "run"]
    assert words[-2:] == ["--", text]
    assert words[words.index("--directory") + 1] == BASH["cwd"]
    assert words[words.index("--timeout") + 1] == "5"
    assert {**given, "command": text} == told["tool_input"]
    assert said(ask(program, {**BASH, "tool_input": given})) in ("allow", "nothing")


@pytest.mark.parametrize("program", ["claude-code", "codex"])
def test_a_program_that_ignores_a_changed_command_runs_only_what_is_allowed(
    ask: Hook, server: StubServer, program: str
) -> None:
    """So nothing but an allowed call is answered with one."""
    decides(server, "deny")
    assert said(ask(program, BASH, "--mode", "run")) == "deny"
    decides(server, "ask")
    server.bend(EXECUTE, lambda _: (202, {**SESSION, "status": "pending", "approve_url": "http://approve"}))
    assert said(done := ask(program, BASH, "--mode", "run")) == "deny"
    assert "http://approve" in done.out


def test_who_cannot_be_given_another_command_is_told_it(ask: Hook, server: StubServer) -> None:
    decides(server, "allow")
    done = ask("cursor", SHELL, "--mode", "run")
    assert said(done) == "deny"
    assert "atom run" in done.json["agent_message"]


@pytest.mark.parametrize(
    "command", ["atom run -- 'ls | wc -l'", "atom wait 019a-1", "atom policy check -- rm -r build", "atom status"]
)
def test_calls_of_atom_need_no_second_question(ask: Hook, server: StubServer, command: str) -> None:
    assert said(ask("claude-code", {**BASH, "tool_input": {"command": command}})) == "allow"
    assert server.calls == []


def test_what_runs_nothing_is_left_alone(ask: Hook) -> None:
    for name, given in [
        ("Read", {"file_path": "/a"}),
        ("Write", {"file_path": "/a", "content": "rm -rf /"}),
        ("X", {}),
    ]:
        assert said(ask("claude-code", {**BASH, "tool_name": name, "tool_input": given})) == "nothing"
    own = {**BASH, "tool_name": "mcp__atom__run_command", "tool_input": {"command": "ls"}}
    assert said(ask("claude-code", own)) == "nothing"


TOOL = {name: value for name, value in BASH.items() if name not in ("tool_name", "tool_input")}
PAST: list[object] = [
    {**TOOL, "tool_name": "bash", "tool_input": {"command": "rm -rf /"}},
    {**TOOL, "tool_name": "Bash\u200b", "tool_input": {"command": "rm -rf /"}},
    {**TOOL, "tool_name": "PowerShell", "tool_input": {"command": "Remove-Item x"}},
    {**TOOL, "tool_name": "Monitor", "tool_input": {"command": "rm -rf /"}},
    {**TOOL, "tool_name": "local_shell", "tool_input": {"command": ["bash", "-lc", "rm -rf /"]}},
    {**TOOL, "tool_name": "exec_command", "tool_input": {"cmd": "rm -rf /"}},
    {**TOOL, "tool_name": "mcp__desktop__start_process", "tool_input": {"command": "rm -rf /"}},
    {**TOOL, "tool_name": "mcp__desktop__start_process", "tool_input": {"args": ["rm", "-rf", "/"]}},
    {**TOOL, "tool_name": "mcp__notatom__run_command", "tool_input": {"command": "rm -rf /"}},
    {**TOOL, "tool_name": "mcp__atom", "tool_input": {"command": "rm -rf /"}},
    {**TOOL, "tool_name": "mcp__ide__executeCode", "tool_input": {"code": "import os; os.remove('x')"}},
    {**TOOL, "tool_name": "Terminal", "tool_input": {"input": "rm -rf /"}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": {"a": "rm -rf /"}}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": "ls", "cmd": "rm -rf /"}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": "bash -c 'rm -rf /'"}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": "atom run -- ls; rm -rf /"}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": "atom run -- ls\nrm -rf /"}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": "atom run -- $(rm -rf /)"}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": 'atom run -- "`rm -rf /`"'}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": "./atom run -- ls"}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": "ATOM_URL=http://evil atom run -- ls"}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": "atom run -- ls > /etc/passwd"}},
    {**TOOL, "tool_name": "Bash", "tool_input": {"command": "atom connect claude-code --write"}},
    {**TOOL, "tool_name": "Bash", "tool_input": {}},
    {**TOOL, "tool_name": "Bash", "tool_input": "rm -rf /"},
    {**TOOL, "tool_name": "Bash", "tool_input": ["rm"]},
    {**TOOL, "tool_name": "Bash"},
    {**TOOL, "tool_input": {"command": "rm -rf /"}},
    {"tool_name": "Bash", "tool_input": {"command": "rm -rf /"}},
    {"hook_event_name": "beforeShellExecution", "cwd": "/"},
    {**TOOL, "tool_name": "Write", "tool_input": {"file_path": "~/.claude/settings.json", "content": "{}"}},
    {**TOOL, "tool_name": "Edit", "tool_input": {"file_path": "sub/../.Claude/settings.local.json"}},
    {**TOOL, "tool_name": "Write", "tool_input": {"file_path": "/p/.codex/hooks.json"}},
    {
        **TOOL,
        "tool_name": "apply_patch",
        "tool_input": {"command": "*** Begin Patch\n*** Delete File: .codex/hooks.json\n*** End Patch"},
    },
    {**TOOL, "tool_name": "apply_patch", "tool_input": {"command": "rm -rf /"}},
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a": "' + b"x" * tool_calls.MOST_BYTES + b'"}',
]


@pytest.mark.parametrize("mode", ["check", "run"])
@pytest.mark.parametrize("program", ["claude-code", "codex", "cursor"])
def test_no_spelling_goes_past_it(ask: Hook, server: StubServer, program: str, mode: str) -> None:
    """Governance denies everything here. What it is not asked about must be blocked."""
    for told in PAST:
        decides(server, "deny")
        assert said(ask(program, told, "--mode", mode)) in ("deny", "blocked"), told


@pytest.mark.parametrize("mode", ["check", "run"])
@pytest.mark.parametrize("program", ["claude-code", "codex", "cursor"])
def test_without_a_server_nothing_runs(ask: Hook, program: str, mode: str) -> None:
    for told in PAST:
        assert said(ask(program, told, "--mode", mode, url="http://127.0.0.1:9")) in ("deny", "blocked"), told


def test_a_key_that_is_read_is_no_secret_any_more(ask: Hook, home: Path) -> None:
    told = {**TOOL, "tool_name": "Read", "tool_input": {"file_path": str(home / "atom" / "credentials.json")}}
    assert said(ask("claude-code", told)) == "deny"


@pytest.mark.parametrize(
    ("status", "problem", "word"),
    [
        (400, {"type": "x/problems/syntax", "detail": "`$(` is not read.", "hint": "Send two commands."}, "deny"),
        (401, {"detail": "This key is revoked."}, "blocked"),
        (503, {"detail": "The database is away."}, "blocked"),
        (200, [], "blocked"),
    ],
)
def test_what_else_the_server_may_say(ask: Hook, server: StubServer, status: int, problem: object, word: str) -> None:
    server.bend(AGENTS, lambda _: (200, {"results": [AGENT]}))
    server.bend(CHECK, *[lambda _: (status, problem)] * 2)
    done = ask("claude-code", BASH)
    assert said(done) == word
    if isinstance(problem, dict):
        assert problem["detail"].rstrip(".") in done.out + done.err


@pytest.mark.e2e
def test_a_server_that_does_not_answer_blocks_in_time(server: StubServer, tmp_path: Path) -> None:
    """As a process, because it ends itself: the program that calls it would let the tool run."""
    is_over = threading.Event()
    server.bend(AGENTS, lambda _: (200, {}) if is_over.wait(20) else None)
    code = (
        "import sys; from shellagent.client import hook; hook.MOST_SECONDS = 0.5; "
        "sys.exit(hook.main(hook.Manner('claude-code', hook.Mode.CHECK)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(BASH).encode(),
        env={**os.environ, "ATOM_URL": server.url, "ATOM_KEY": "ata_x", "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        check=False,
        timeout=20,
    )
    is_over.set()
    assert done.returncode == hook.BLOCKS
    assert re.search(rb"no answer within .* blocked", done.stderr)
    assert done.stdout == b""
