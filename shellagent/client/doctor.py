"""`atom doctor`: whether this machine's AI tools can still run a command past governance, looked at one by one.

The hook is tried as its program would run it: with a command that must be denied, with a call that is no JSON, and with
a server that is not there. What lets any of these through is open.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from shellagent.client import codex_settings
from shellagent.client.atom import Atom
from shellagent.client.connecting import TARGETS, HookTarget, commands_of, is_own_entry, read_settings
from shellagent.client.credentials import find_access, is_exposed
from shellagent.client.errors import AtomError
from shellagent.client.hook import BLOCKS, MOST_SECONDS, Mode
from shellagent.client.tool_versions import PROGRAMS, installed, lacks

OK, WARN, FAIL = "ok", "warn", "fail"
#: Denied at every maturity.
FORBIDDEN: Final = "sudo reboot"
#: Nobody listens on this port (the discard service of RFC 863).
NOWHERE: Final = {"ATOM_URL": "http://127.0.0.1:9", "ATOM_KEY": "ata_nobody"}
#: Settings of Claude Code, and what they turn off.
SWITCHES: Final = {"disableAllHooks": "all hooks", "allowManagedHooksOnly": "all hooks but its own"}
TRY_SECONDS: Final = MOST_SECONDS + 10


class Check(NamedTuple):
    """One check's result: `ok`, `warn` or `fail`. `next_step` is empty where all is well."""

    name: str
    result: str
    found: str
    next_step: str = ""

    @property
    def line(self) -> str:
        """The check in a line, or two where something is to be done."""
        step = f"\n      {self.next_step}" if self.next_step else ""
        return f"{self.result:<5} {self.name}: {self.found}{step}"


def checks(project: str | None) -> Iterator[Check]:
    """Yield the checks in order: the access, then each program that is there. Never raises for what it finds."""
    # As the programs have it: reading the access takes the key out of this process's environment.
    environment = dict(os.environ)
    yield from _access()
    folders = [os.path.expanduser("~"), *([os.path.abspath(project)] if project else [])]
    there = [target for target in TARGETS.values() if _is_there(target, folders)]
    if not there:
        yield Check("programs", WARN, "no settings of Claude Code, Codex or Cursor", "Connect one: atom connect --help")
    for target in there:
        yield from _program(target, folders, environment)


def _access() -> Iterator[Check]:
    if shutil.which("atom") is None:
        yield Check("atom", FAIL, "it is not on the PATH", "Hooks and rewritten commands call it: install it there.")
    else:
        yield Check("atom", OK, str(shutil.which("atom")))
    try:
        access = find_access()
        if is_exposed(access.url):
            yield Check("TLS", WARN, f"{access.url} is public and without TLS", "Use https://: the key is readable.")
        with Atom(*access) as atom:
            agent = atom.agent()
            clock = atom.clock_warning
    except AtomError as error:
        yield Check("server", FAIL, str(error), "Until then every shell call is blocked.")
        return
    state = ", suspended: everything is denied" if agent.is_suspended else ""
    yield Check("server", OK, f"{access.url} knows this agent as {agent.name} ({agent.maturity}{state})")
    if clock:
        yield Check("clock", WARN, clock, "Set this machine's clock.")


def _is_there(target: HookTarget, folders: list[str]) -> bool:
    return any(os.path.isdir(os.path.dirname(target.path(folder))) for folder in folders)


def _program(target: HookTarget, folders: list[str], environment: Mapping[str, str]) -> Iterator[Check]:
    found: dict[str, list[Any]] = {event: [] for event in target.events}
    others: list[Any] = []
    yield from _read(target, folders, found, others)
    if target.program == "codex":
        yield from _codex(target, folders)
    step = f"atom connect {target.program} --write"
    for event, entries in found.items():
        if not entries:
            yield Check(f"{target.program} {event}", FAIL, "shell calls are not governed", step)
            continue
        weak = _weakness(target, entries[0])
        yield Check(f"{target.program} {event}", FAIL if weak else OK, weak or "governed", step if weak else "")
    if entry := next((entries[0] for entries in found.values() if entries), None):
        command = commands_of(entry)[0]
        mode = Mode.RUN if f"--mode {Mode.RUN}" in command else Mode.CHECK
        yield from _version(target.program, mode)
        if mode is Mode.RUN:
            yield from _rivals(target.program, others)
        yield from _tried(target, command, environment)


def _read(target: HookTarget, folders: list[str], found: dict[str, list[Any]], others: list[Any]) -> Iterator[Check]:
    """Sort what a program's settings hold into our own entries by event, and others."""
    for path in dict.fromkeys(path for folder in folders for path in target.paths(folder)):
        try:
            settings = read_settings(path)
        except AtomError as error:
            yield Check(target.program, FAIL, str(error), "Its hooks may not run.")
            continue
        for name in (name for name in SWITCHES if settings.get(name)):
            yield Check(target.program, FAIL, f"{path} turns {SWITCHES[name]} off", f"Remove `{name}` there.")
        for event in target.events:
            for entry in _entries(settings, event):
                (found[event] if is_own_entry(entry, target.program) else others).append(entry)


def _codex(target: HookTarget, folders: list[str]) -> Iterator[Check]:
    """Look for what has Codex skip a hook in silence: hooks that are off, and one that nobody has trusted."""
    try:
        configs = [codex_settings.read_config(folder) for folder in folders]
    except AtomError as error:
        yield Check("codex", FAIL, str(error), "Its hooks may not run.")
        return
    for folder, config in zip(folders, configs, strict=True):
        if not codex_settings.calls_hooks(config):
            path = os.path.join(folder, codex_settings.FILE)
            yield Check("codex", FAIL, f"{path} turns all hooks off", "Remove `hooks` from [features] there.")
    for path in (target.path(folder) for folder in folders):
        try:
            settings = read_settings(path)
        except AtomError:
            continue
        own = {
            event: [place for place, entry in enumerate(_entries(settings, event)) if is_own_entry(entry, "codex")]
            for event in target.events
        }
        for event in codex_settings.untrusted(configs[0], path, own):
            step = "Start Codex, open /hooks, and trust it; after each `atom connect` anew."
            yield Check(f"codex {event}", FAIL, "Codex skips the hook: nobody has trusted it", step)


def _version(program: str, mode: Mode) -> Iterator[Check]:
    """Ask a program for its version: an old one does not do all that a hook answers."""
    name = f"{program} version"
    if program not in PROGRAMS:
        return
    version = installed(program)
    if not version:
        *_, (_, newest) = lacks(program, "0", mode)
        step = f"Look that it is {newest} or newer."
        yield Check(name, WARN, f"`{PROGRAMS[program].executable} --version` says none here", step)
        return
    old = list(lacks(program, version, mode))
    for otherwise, since in old:
        yield Check(name, FAIL, f"{version} {otherwise}", f"Install {since} or newer.")
    if not old:
        yield Check(name, OK, version)


def _rivals(program: str, others: list[Any]) -> Iterator[Check]:
    """Look for hooks beside ours: of two that answer for one call, one's changed command can be lost."""
    if rival := next((entry for entry in others if _is_for_shells(entry)), None):
        named = next(iter(commands_of(rival)), "one without a command")
        step = f"Remove it, or have governance asked only: atom connect {program} --write"
        yield Check(f"{program} other hooks", FAIL, f"{named!r} may undo the changed command", step)


def _is_for_shells(entry: object) -> bool:
    matcher = entry.get("matcher", "") if isinstance(entry, dict) else ""
    try:
        return matcher in ("", "*") or re.search(matcher, "Bash") is not None
    except (re.error, TypeError):
        return True


def _entries(settings: Mapping[str, Any], event: str) -> list[Any]:
    hooks = settings.get("hooks")
    entries = hooks.get(event) if isinstance(hooks, dict) else None
    return entries if isinstance(entries, list) else []


def _weakness(target: HookTarget, entry: Mapping[str, Any]) -> str:
    """Return what an entry leaves open, empty for nothing."""
    wanted = target.entry("")
    if entry.get("matcher", "*") not in ("*", "", ".*"):
        return f"only tools that match {entry['matcher']!r} are governed"
    if not commands_of(entry)[0].rstrip().endswith(f"|| exit {BLOCKS}"):
        return "a hook that cannot start lets the tool run"
    inner, wanted_inner = (found.get("hooks", [found])[0] for found in (entry, wanted))
    given = inner.get("timeout")
    if not isinstance(given, int | float) or given < MOST_SECONDS + 5:
        return "its time-out is too short: the tool runs once it is over"
    missing = [name for name in ("onFailure", "failClosed") if inner.get(name) != wanted_inner.get(name)]
    return f"`{missing[0]}` does not say to block on failure" if missing else ""


def _tried(target: HookTarget, command: str, environment: Mapping[str, str]) -> Iterator[Check]:
    call = _call(target, FORBIDDEN)
    tries: tuple[tuple[str, str, Mapping[str, str]], ...] = (
        ("a forbidden command", json.dumps(call), environment),
        ("a call that is no JSON", "{", environment),
        ("no server", json.dumps(call), {**environment, **NOWHERE}),
    )
    for name, told, variables in tries:
        is_closed, how = _outcome(command, told, variables)
        step = "" if is_closed else "The tool would have run it. Connect it anew, and report this."
        yield Check(f"{target.program}, {name}", OK if is_closed else FAIL, how, step)


def _call(target: HookTarget, command: str) -> dict[str, Any]:
    event = target.events[0]
    if event == "beforeShellExecution":
        return {"hook_event_name": event, "command": command, "cwd": "/tmp"}  # noqa: S108 - a folder that is there
    tool = {"tool_name": "Bash", "tool_input": {"command": command}}
    return {"hook_event_name": event, "cwd": "/tmp", "tool_use_id": "doctor", **tool}  # noqa: S108 - the same


def _outcome(command: str, told: str, environment: Mapping[str, str]) -> tuple[bool, str]:
    """Run a hook as its program does, and return whether the call would not run as it is, and how that was said."""
    try:
        done = subprocess.run(  # noqa: S603 - the person's own settings say what this is
            ["/bin/sh", "-c", command],
            input=told.encode(),
            env=dict(environment),
            capture_output=True,
            timeout=TRY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, "the hook did not answer in time"
    if done.returncode == BLOCKS:
        return True, "blocked"
    try:
        said = json.loads(done.stdout)
    except ValueError:
        return False, f"the hook ended with {done.returncode} and no answer"
    inner = said.get("hookSpecificOutput", said)
    rewritten = str((inner.get("updatedInput") or {}).get("command", ""))
    if "deny" in (inner.get("permissionDecision"), inner.get("permission")):
        return done.returncode == 0, "denied"
    return rewritten.startswith("atom run "), "run by the product" if rewritten else "let through"
