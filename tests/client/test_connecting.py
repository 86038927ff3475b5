"""`atom connect` and `atom doctor`: what they change, what they leave, and what they find open."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from shellagent.client import connecting, doctor
from shellagent.client_file import client_file
from tests.client.conftest import Call
from tests.host.server import StubServer

SETTINGS: dict[str, Any] = {
    "model": "a-model",
    "hooks": {
        "PreToolUse": [{"matcher": "Edit", "hooks": [{"type": "command", "command": "format"}]}],
        "Stop": [{"hooks": [{"type": "command", "command": "notify"}]}],
    },
    "permissions": {"deny": ["Read(.env)"]},
}


@pytest.fixture
def machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home folder, and `atom` on the PATH."""
    programs = home / "bin"
    programs.mkdir()
    (programs / "atom").write_bytes(client_file())
    (programs / "atom").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the doctor read settings only: to try a hook starts it three times."""
    monkeypatch.setattr(doctor, "_tried", lambda *_: iter(()))


def settings_of(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("program", sorted(connecting.TARGETS))
def test_settings_are_merged_and_nothing_is_lost(call: Call, machine: Path, program: str) -> None:
    target = connecting.TARGETS[program]
    file = Path(target.path(str(machine)))
    file.parent.mkdir()
    file.write_text(json.dumps(SETTINGS))
    shown = call("connect", program)
    assert f"{machine}/bin/atom hook {program} --mode check || exit 2" in shown.out
    assert settings_of(file) == SETTINGS, "without --write nothing is changed"

    written = call("connect", program, "--write")
    assert written.code == 0
    after = settings_of(file)
    for event, entries in SETTINGS["hooks"].items():
        assert [entry for entry in after["hooks"][event] if not connecting.is_own_entry(entry, program)] == entries
    assert {name: after[name] for name in ("model", "permissions")} == {
        name: SETTINGS[name] for name in ("model", "permissions")
    }
    assert all(connecting.is_own_entry(after["hooks"][event][0], program) for event in target.events)
    assert settings_of(Path(f"{file}.before-atom")) == SETTINGS

    # Again with another mode: replaced, not added.
    call("connect", program, "--write", "--mode", "run", "--other-folders")
    for event in target.events:
        own = [entry for entry in settings_of(file)["hooks"][event] if connecting.is_own_entry(entry, program)]
        assert [connecting.commands_of(entry)[0].partition("atom ")[2] for entry in own] == [
            f"hook {program} --mode run --other-folders || exit 2"
        ]
    assert "connected already" in call("connect", program, "--write", "--mode", "run", "--other-folders").out


@pytest.mark.parametrize("content", ["{", "[]", '{"hooks": []}', '{"hooks": {"PreToolUse": {}}}', "\x00"])
def test_settings_that_cannot_be_read_are_left_alone(call: Call, machine: Path, content: str) -> None:
    file = machine / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_text(content)
    done = call("connect", "claude-code", "--write")
    assert done.code == 64
    assert done.err.startswith("atom: ")
    assert file.read_text() == content


def test_a_project_has_settings_of_its_own(call: Call, machine: Path, tmp_path: Path) -> None:
    project = tmp_path / "app"
    project.mkdir()
    done = call("connect", "codex", "--project", str(project), "--write")
    assert done.code == 0
    assert (project / ".codex" / "hooks.json").exists()
    assert not (machine / ".codex").exists()


def test_without_atom_on_the_path_nothing_is_connected(call: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(home))
    done = call("connect", "claude-code", "--write")
    assert done.code == 64
    assert "/atom" in done.err
    assert not (home / ".claude").exists()


def open_ends(call: Call) -> dict[str, str]:
    done = call("doctor", "--json")
    failed = {check["name"]: check["found"] for check in done.json["checks"] if check["result"] == "fail"}
    assert done.code == (1 if failed else 0)
    return failed


@pytest.mark.e2e
def test_the_doctor_tries_the_hook_as_its_program_does(
    call: Call, machine: Path, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = machine / ".claude" / "settings.json"
    file.parent.mkdir()
    denied = {"outcome": "deny", "explanation": "No."}

    def look() -> dict[str, str]:
        monkeypatch.setenv("ATOM_URL", server.url)
        monkeypatch.setenv("ATOM_KEY", "ata_x")
        server.straighten("/api/agents", "/api/agents/5/governance")
        server.bend("/api/agents", *[lambda _: (200, {"results": [{"id": 5, "name": "a", "maturity": "STUDENT"}]})] * 2)
        server.bend("/api/agents/5/governance", lambda _: (200, denied))
        return open_ends(call)

    assert look() == {"claude-code PreToolUse": "shell calls are not governed"}
    call("connect", "claude-code", "--write")
    assert look() == {}
    good = settings_of(file)
    for change, found in {
        ("matcher", "Bash"): "only tools that match 'Bash' are governed",
        ("command", "atom hook claude-code"): "a hook that cannot start lets the tool run",
        ("timeout", 5): "its time-out is too short: the tool runs once it is over",
        ("onFailure", None): "`onFailure` does not say to block on failure",
    }.items():
        entry = json.loads(json.dumps(good["hooks"]["PreToolUse"][0]))
        (entry if change[0] == "matcher" else entry["hooks"][0])[change[0]] = change[1]
        file.write_text(json.dumps({"hooks": {"PreToolUse": [entry]}}))
        assert look()["claude-code PreToolUse"] == found
    file.write_text(json.dumps({**good, "disableAllHooks": True}))
    assert "turns all hooks off" in look()["claude-code"]
    file.write_text(json.dumps(good))
    for switch, off in (("disableAllHooks", "all hooks off"), ("allowManagedHooksOnly", "all hooks but its own off")):
        (file.parent / "settings.local.json").write_text(json.dumps({switch: True}))
        assert f"settings.local.json turns {off}" in look()["claude-code"]
    # A command that is not the product's hook, and lets everything through.
    entry["hooks"][0] = {"type": "command", "command": "true hook claude-code || exit 2", "timeout": 60}
    file.write_text(json.dumps({"hooks": {"PreToolUse": [entry]}}))
    assert {"claude-code, a forbidden command", "claude-code, no server"} <= look().keys()


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize(
    ("program", "printed", "mode", "found"),
    [
        ("claude-code", "2.1.317 (Claude Code)", "run", {}),
        ("claude-code", "2.1.294 (Claude Code)", "check", {"2.1.294 lets a tool run"}),
        ("claude-code", "2.0.9 (Claude Code)", "run", {"2.0.9 ignores a changed command", "2.0.9 lets a tool run"}),
        ("codex", "codex-cli 0.131.0", "run", {}),
        ("codex", "codex-cli 0.130.0", "check", {}),
        ("codex", "codex-cli 0.130.0", "run", {"0.130.0 refuses a changed command"}),
        ("codex", "codex-cli 0.99.1-alpha.2", "check", {"0.99.1 calls no hooks"}),
        ("codex", "usage: what?", "run", {}),
    ],
)
def test_the_doctor_asks_which_version_it_is(  # noqa: PLR0917 - parameters and fixtures are passed by name
    call: Call, machine: Path, program: str, printed: str, mode: str, found: set[str]
) -> None:
    executable = machine / "bin" / {"claude-code": "claude"}.get(program, program)
    executable.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo '{printed}'\n")
    executable.chmod(0o755)
    call("connect", program, "--write", "--mode", mode)
    checks = [check for check in call("doctor", "--json").json["checks"] if check["name"] == f"{program} version"]
    failed = [check["found"] for check in checks if check["result"] == "fail"]
    assert len(failed) == len(found)
    assert all(any(text.startswith(words) for text in failed) for words in found)
    assert bool(failed) or checks[0]["result"] == ("warn" if "what" in printed else "ok")


@pytest.mark.usefixtures("untried")
def test_the_doctor_sees_what_could_undo_the_hook(call: Call, machine: Path) -> None:
    def found(program: str) -> str:
        return " ".join(check["found"] for check in call("doctor", "--json").json["checks"] if program in check["name"])

    file = machine / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_text(json.dumps(SETTINGS))
    call("connect", "claude-code", "--write", "--mode", "run")
    assert "may undo" not in found("claude-code"), "a hook for edits is none for shells"
    rival = {"matcher": "Bash|Edit", "hooks": [{"type": "command", "command": "rewrite"}]}
    (file.parent / "settings.local.json").write_text(json.dumps({"hooks": {"PreToolUse": [rival]}}))
    assert "'rewrite' may undo the changed command" in found("claude-code")
    call("connect", "claude-code", "--write", "--mode", "check")
    assert "may undo" not in found("claude-code")


@pytest.mark.usefixtures("untried")
def test_the_doctor_sees_what_has_codex_skip_the_hook(call: Call, machine: Path) -> None:
    def found() -> str:
        checks = call("doctor", "--json").json["checks"]
        return " ".join(check["found"] for check in checks if "codex" in check["name"] and check["result"] == "fail")

    call("connect", "codex", "--write")
    config = machine / ".codex" / "config.toml"
    key = f"{machine}/.codex/hooks.json:{{event}}:0:0"
    trusted = "".join(
        f'[hooks.state."{key.format(event=event)}"]\ntrusted_hash = "sha256:x"\n'
        for event in ("pre_tool_use", "permission_request")
    )
    for text, is_open in (
        (trusted, ""),
        ("", "nobody has trusted it"),
        (trusted.replace("permission_request", "stop"), "nobody has trusted it"),
        (f"{trusted}enabled = false\n", "nobody has trusted it"),
        (f"{trusted}[features]\nhooks = true\n", ""),
        (f"{trusted}[features]\nhooks = false\n", "turns all hooks off"),
        (f"{trusted}[features]\ncodex_hooks = false\n", "turns all hooks off"),
        ("[", "cannot be read"),
    ):
        config.write_text(text)
        assert (is_open in found()) if is_open else ("hooks off" not in found() and "trusted" not in found()), text
