"""`connect`: put the hook into a program's own settings, or print what connects one that has no hooks.

Nothing is written unless that was asked for, the difference is always shown, and what stood there is kept beside it.
"""

import difflib
import json
import os
import shlex
import shutil
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from shellagent.client.errors import StateError
from shellagent.client.hook import MOST_SECONDS, Mode

#: Seconds that a program gives the hook: more than it takes for itself, because a program lets the tool run after it.
TIMEOUT_SECONDS: Final = int(MOST_SECONDS) + 40
#: By these words an entry is known as this product's, whatever stands before and after.
MARK: Final = " hook "
RECIPES: Final = {
    "langgraph": "langgraph_tool.py",
    "openai-agents": "openai_agents_tool.py",
    "requests": "requests_loop.py",
    "n8n": "n8n_workflow.json",
    "cron": "crontab.txt",
}


class HookTarget(NamedTuple):
    """A program with hooks: the file of its settings below a home or project folder, and the events that matter."""

    program: str
    file: str
    events: tuple[str, ...]
    entry: Callable[[str], dict[str, Any]]
    after: str
    #: Files beside it, or anywhere, that the program reads too.
    beside: tuple[str, ...] = ()

    def path(self, folder: str) -> str:
        """Return the settings file below a folder."""
        return os.path.join(folder, self.file)

    def paths(self, folder: str) -> list[str]:
        """Return every file below a folder that holds such settings."""
        return [os.path.join(folder, file) for file in (self.file, *self.beside)]


def _claude_entry(command: str) -> dict[str, Any]:
    hook = {"type": "command", "command": command, "timeout": TIMEOUT_SECONDS, "onFailure": "block"}
    return {"matcher": "*", "hooks": [hook]}


def _codex_entry(command: str) -> dict[str, Any]:
    return {"hooks": [{"type": "command", "command": command, "timeout": TIMEOUT_SECONDS}]}


def _cursor_entry(command: str) -> dict[str, Any]:
    return {"command": command, "timeout": TIMEOUT_SECONDS, "failClosed": True}


TARGETS: Final = {
    target.program: target
    for target in (
        HookTarget(
            "claude-code",
            ".claude/settings.json",
            ("PreToolUse",),
            _claude_entry,
            "Start Claude Code anew, and look at /hooks.",
            (".claude/settings.local.json", "/etc/claude-code/managed-settings.json"),
        ),
        HookTarget(
            "codex",
            ".codex/hooks.json",
            ("PreToolUse", "PermissionRequest"),
            _codex_entry,
            "Start Codex anew (0.124 or newer), and trust the hooks when it asks.",
        ),
        HookTarget(
            "cursor",
            ".cursor/hooks.json",
            ("beforeShellExecution", "beforeMCPExecution"),
            _cursor_entry,
            "Start Cursor anew, and look at Settings, Hooks.",
        ),
    )
}


def connect(target: HookTarget, *, folder: str, mode: Mode, has_same_folders: bool, is_written: bool) -> str:
    """Return the difference that connecting a program makes to its settings, after writing it where that is wanted.

    Raises StateError for settings that cannot be read or written, and where there is no `atom` on the PATH.
    """
    path = target.path(folder)
    before = read_settings(path)
    after = with_hook(target, before, hook_command(target.program, mode, has_same_folders=has_same_folders))
    difference = _difference(path, before, after)
    if is_written and difference:
        _write(path, after)
    return difference


def hook_command(program: str, mode: Mode, *, has_same_folders: bool) -> str:
    """Return the shell command that a program runs as its hook. Raises StateError where `atom` is not installed."""
    atom = shutil.which("atom")
    if atom is None:
        raise StateError(
            "There is no `atom` on the PATH, and hooks call it. In a checkout: make atom && sudo install dist/atom "
            "/usr/local/bin/. Elsewhere: fetch it from the server's /atom."
        )
    folders = "" if has_same_folders else " --other-folders"
    # A program that is missing or cannot start ends with another code, which would let the tool run.
    return f"{shlex.quote(os.path.abspath(atom))}{MARK}{program} --mode {mode}{folders} || exit 2"


def with_hook(target: HookTarget, settings: dict[str, Any], command: str) -> dict[str, Any]:
    """Return settings with the hook in them once, and all else as it was. Raises StateError for a form not known."""
    hooks = settings.get("hooks", {})
    if not isinstance(hooks, dict):
        raise StateError("`hooks` in these settings is no object. Put it right, or move the file away.")
    events = dict(hooks)
    for event in target.events:
        there = events.get(event, [])
        if not isinstance(there, list):
            raise StateError(f"`hooks.{event}` in these settings is no list. Put it right, or move the file away.")
        events[event] = [target.entry(command), *(entry for entry in there if not is_own_entry(entry, target.program))]
    first = {"version": 1} if target.program == "cursor" else {}
    return {**first, **settings, "hooks": events}


def is_own_entry(entry: object, program: str) -> bool:
    """Return whether an entry of a program's hooks is this product's."""
    return any(f"{MARK}{program}" in command for command in commands_of(entry))


def commands_of(entry: object) -> list[str]:
    """Return the commands that an entry of a program's hooks runs."""
    if not isinstance(entry, dict):
        return []
    inner = entry.get("hooks")
    found = [entry.get("command"), *(item.get("command") for item in inner or () if isinstance(item, dict))]
    return [command for command in found if isinstance(command, str)]


def recipe(name: str) -> str:
    """Return the text that connects a program without hooks."""
    import pkgutil  # noqa: PLC0415 - the file may be in a zip archive, and few ask for it

    content = pkgutil.get_data("shellagent.client", f"recipes/{RECIPES[name]}")
    return (content or b"").decode()


def read_settings(path: str) -> dict[str, Any]:
    """Return a program's settings, empty where there is no file. Raises StateError for what is no JSON object."""
    try:
        with open(path, encoding="utf-8") as stream:
            settings = json.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(f"{path} cannot be read, so it was left alone: {error}") from error
    if not isinstance(settings, dict):
        raise StateError(f"{path} holds no JSON object, so it was left alone.")
    return settings


def _text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n" if settings else ""


def _difference(path: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    old, new = (_text(settings).splitlines(keepends=True) for settings in (before, after))
    return "".join(difflib.unified_diff(old, new, fromfile=path, tofile=f"{path} (connected)"))


def _write(path: str, settings: dict[str, Any]) -> None:
    """Replace the file in one step, owner-only where it is new; what stood there stays as `.before-atom`."""
    partial = f"{path}.atom-partial"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        mode = 0o600
        if os.path.exists(path):
            mode = os.stat(path).st_mode & 0o777
            shutil.copy2(path, f"{path}.before-atom")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as stream:
            stream.write(_text(settings))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error}") from error
