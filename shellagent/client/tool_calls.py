"""What an AI tool is about to do, read from what it tells its hook before it does it.

A tool is taken for a shell by what it is given, not by its name alone: whatever brings a command is judged as one, and
what cannot be read is refused. The inputs are those that Claude Code, Codex and Cursor document for their hooks.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from shellagent.client.credentials import credentials_file
from shellagent.client.errors import AtomError

MOST_BYTES: Final = 4 * 1024 * 1024
#: The MCP server that is this product's own, by the name that `connect` gives it.
OWN_SERVER: Final = "mcp__atom__"
#: Tools that run nothing themselves. What is not here and brings no command is left alone too, unless its name tells.
QUIET: Final = frozenset(
    (
        "Agent",
        "AskUserQuestion",
        "BashOutput",
        "Edit",
        "EnterPlanMode",
        "ExitPlanMode",
        "Glob",
        "Grep",
        "KillBash",
        "KillShell",
        "LS",
        "MultiEdit",
        "NotebookEdit",
        "NotebookRead",
        "Read",
        "Task",
        "TaskCreate",
        "TaskGet",
        "TaskList",
        "TaskOutput",
        "TaskStop",
        "TaskUpdate",
        "TodoRead",
        "TodoWrite",
        "ToolSearch",
        "WebFetch",
        "WebSearch",
        "Write",
        "update_plan",
        "view_image",
    )
)
#: Names of an argument that is a command, and of one that is a program in another language.
_COMMANDS: Final = ("command", "cmd", "argv", "commands", "shell_command", "command_line", "args")
_PROGRAMS: Final = ("code", "script", "program", "source_code")
_PATHS: Final = ("file_path", "path", "notebook_path", "filename", "file")
_TELLING: Final = re.compile(r"bash|shell|exec|terminal|command|powershell|pwsh|\bcmd\b|\brun\b|process", re.I)
_PATCHED: Final = re.compile(r"^\*\*\* (?:(?:Add|Update|Delete) File|Move to): (.+)$", re.M)
_OWN_WORDS: Final = "run|wait|status|cancel|list|show|policy check"
_WORD: Final = r"""(?:[A-Za-z0-9_./:=@%+,-]|'[^'\x00-\x1f\x7f]*'|"'")+"""
#: Calls of `atom` that a shell reads as one command of plain and single-quoted words, and so adds nothing to.
_OWN_CALL: Final = re.compile(rf"atom (?:{_OWN_WORDS})(?: {_WORD})*")
#: Files and folders that say which hooks run and who may do what; below the home folder and below any project.
_SETTINGS: Final = (".claude", ".codex", ".cursor", ".mcp.json")


class UnreadableError(AtomError):
    """What the tool said cannot be read, so it cannot be judged."""


class Kind(StrEnum):
    """What a call is for the hook."""

    SHELL = "shell"
    SETTINGS = "settings"
    OTHER = "other"


class ToolCall(NamedTuple):
    """A call of a tool: what it is, and for a shell its text, folder and what the tool says of it."""

    kind: Kind
    event: str
    tool: str
    command: str = ""
    directory: str = ""
    reason: str = ""
    timeout_seconds: int | None = None
    call_id: str = ""
    arguments: Mapping[str, Any] = {}

    @property
    def is_own(self) -> bool:
        """Whether it is a call of `atom`, which the server judges, and nothing besides."""
        return _OWN_CALL.fullmatch(self.command) is not None

    @property
    def argument(self) -> str:
        """The name of the argument that holds the command, empty where it is none or no single text."""
        names = (name for name in _COMMANDS if isinstance(self.arguments.get(name), str))
        return next(names, "")


def read_call(content: bytes) -> ToolCall:
    """Return the call that a hook is told of. Raises UnreadableError, with why."""
    if len(content) > MOST_BYTES:
        raise UnreadableError(f"The call is larger than {MOST_BYTES // 1024 // 1024} MiB.")
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableError("The call is no JSON.") from None
    if not isinstance(told, dict):
        raise UnreadableError("The call is no JSON object.")
    event, directory = _text(told, "hook_event_name"), _text(told, "cwd")
    if not event:
        raise UnreadableError("The call names no event.")
    if event == "beforeShellExecution":
        # Cursor's event for shells brings the command itself, and no tool.
        tool, arguments = "Shell", {"command": told.get("command")}
    else:
        tool, arguments = _text(told, "tool_name"), _arguments(told.get("tool_input"))
        if not tool:
            raise UnreadableError("The call names no tool.")
    found = ToolCall(Kind.OTHER, event, tool, directory=directory, arguments=arguments)
    return _judged_by_what_it_brings(found, told)


def _judged_by_what_it_brings(call: ToolCall, told: Mapping[str, Any]) -> ToolCall:
    if call.tool.startswith(OWN_SERVER):
        return call
    if _touches_settings(call):
        return call._replace(kind=Kind.SETTINGS)
    if call.tool in QUIET or (call.tool == "apply_patch" and _patched(call.arguments)):
        return call
    commands = [call.arguments[name] for name in _COMMANDS if call.arguments.get(name) not in (None, "", [])]
    if any(call.arguments.get(name) for name in _PROGRAMS):
        raise UnreadableError(f"{call.tool} runs a program that governance does not read.")
    if not commands:
        if call.event == "beforeShellExecution" or _TELLING.search(call.tool):
            raise UnreadableError(f"{call.tool} brings no command that can be read.")
        return call
    return call._replace(
        kind=Kind.SHELL,
        command=_line(call.tool, commands),
        reason=_text(call.arguments, "description") or _text(call.arguments, "justification"),
        timeout_seconds=_seconds(call.arguments.get("timeout")),
        call_id=_text(told, "tool_use_id") or _text(told, "generation_id"),
    )


def _line(tool: str, commands: list[Any]) -> str:
    """Return the one command as a line. Several, or a list that is not all text, cannot be read."""
    if len(commands) == 1 and isinstance(commands[0], str):
        return commands[0]
    if len(commands) == 1 and isinstance(commands[0], list) and all(isinstance(word, str) for word in commands[0]):
        return shlex.join(commands[0])
    raise UnreadableError(f"{tool} brings a command in a form that cannot be read.")


def _touches_settings(call: ToolCall) -> bool:
    """Return whether a file is written that says which hooks run, or holds the agent's key."""
    if call.tool in ("Read", "Grep", "Glob", "LS", "NotebookRead"):
        return any(_is_key_file(path) for path in _paths(call))
    return any(_is_key_file(path) or _is_settings(path) for path in _paths(call))


def _paths(call: ToolCall) -> Iterator[str]:
    for name in _PATHS:
        if isinstance(path := call.arguments.get(name), str):
            yield from _spellings(path, call.directory)
    for path in _patched(call.arguments):
        yield from _spellings(path, call.directory)


def _spellings(path: str, directory: str) -> tuple[str, str]:
    """Return a path as it is spelled and as its links lead, both absolute."""
    whole = os.path.join(directory or "/", os.path.expanduser(path.strip()))
    return os.path.normpath(whole), os.path.realpath(whole)


def _is_settings(path: str) -> bool:
    return any(part.casefold() in _SETTINGS for part in path.split("/"))


def _is_key_file(path: str) -> bool:
    return path in _spellings(credentials_file(), "")


def _patched(arguments: Mapping[str, Any]) -> list[str]:
    """Return the files that a patch of Codex's changes; none for what is no patch."""
    texts = [value for value in arguments.values() if isinstance(value, str)]
    patches = [text for text in texts if text.lstrip().startswith("*** Begin Patch")]
    return [path for text in patches for path in _PATCHED.findall(text)]


def _arguments(given: object) -> dict[str, Any]:
    """Return a tool's arguments; Cursor gives those of MCP tools as a text of JSON."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise UnreadableError("The tool's arguments are no JSON.") from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise UnreadableError("The tool's arguments are no JSON object.")
    return given


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _seconds(milliseconds: object) -> int | None:
    if type(milliseconds) is not int or milliseconds <= 0:
        return None
    return max(1, min(300, milliseconds // 1000))
