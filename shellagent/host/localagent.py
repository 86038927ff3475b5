"""`manage.py localagent`: enrol this machine, start, stop and look at its local agent, and ask for a command."""

import argparse
import getpass
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from shellagent import protocol
from shellagent.client.arguments import Parser, seconds
from shellagent.client.credentials import read_secret, take_key
from shellagent.client.errors import Exit
from shellagent.client.terminal import without_escapes
from shellagent.host import background, ceiling, doctor, executing, facts, journal, service
from shellagent.host.arguments import (
    add_server,
    guarded,
    log_to_stderr,
    refuse_root,
    server_url,
    state_folder,
)
from shellagent.host.ceiling import Ceiling
from shellagent.host.client import Client, product_version
from shellagent.host.credential import renew
from shellagent.host.errors import DeclinedError, StateError, UnauthorisedError, UnavailableError
from shellagent.host.pinned import PinnedKeys
from shellagent.host.state import KEY_VARIABLE, Enrolment, StateFolder, boot_id
from shellagent.host.status_text import status_text
from shellagent.protections import missing

PROGRAM: Final = "localagent"
CODE_VARIABLE: Final = "ATOM_ENROL_CODE"
STOP_SECONDS: Final = 60.0

EXAMPLES: Final = """\
  ATOM_ENROL_CODE=ate_... manage.py localagent enroll --backend-url https://atom.example.com
  manage.py localagent start --concurrency 4
  manage.py localagent status --json
  manage.py localagent execute "ls -l" --directory /tmp --agent autonomous
  manage.py localagent stop"""
ENROL_EXAMPLES: Final = f"""\
  {CODE_VARIABLE}=ate_... manage.py localagent enroll --backend-url https://atom.example.com
  manage.py localagent enroll --backend-url https://atom.example.com --code-file code.txt

The code comes from {CODE_VARIABLE}, from --code-file, or from the standard input; never from here."""
START_EXAMPLES: Final = """\
  manage.py localagent start --concurrency 4
  ATOM_HOST_KEY=ath_... manage.py localagent start --backend-url https://atom.example.com"""
ROTATE_EXAMPLES: Final = "  manage.py localagent rotate-key"
STATUS_EXAMPLES: Final = """\
  manage.py localagent status
  manage.py localagent status --json --state-dir /var/lib/atom"""
STOP_EXAMPLES: Final = """\
  manage.py localagent stop
  manage.py localagent stop --timeout 300"""
RESTART_EXAMPLES: Final = "  manage.py localagent restart --timeout 300 --concurrency 4"
EXECUTE_EXAMPLES: Final = """\
  manage.py localagent execute "ls -l" --directory /tmp --agent autonomous
  ATOM_KEY=ata_... manage.py localagent execute "git status" --directory ~/project --json

exit codes: the command's own (128 + n for a signal); 75 still pending or queued; 77 denied, rejected, refused or
expired; 124 timed out; 130 cancelled or aborted; 3 the key is refused; 64 usage; 69 no host or server; 70 lost"""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    log_to_stderr(is_verbose=options.verbose)
    work: Callable[[argparse.Namespace], int] = options.work
    return guarded(lambda: work(options), f"{PROGRAM} {options.action}")


def parser() -> Parser:
    """Return the command's parser."""
    made = Parser(prog=f"manage.py {PROGRAM}", description="The local agent of this machine.", examples=EXAMPLES)
    actions = made.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, work: Callable[[argparse.Namespace], int], text: str, examples: str) -> Parser:
        added: Parser = actions.add_parser(name, help=text, description=text, examples=examples)
        added.set_defaults(work=work)
        added.add_argument("--json", action="store_true", help="print one JSON object")
        added.add_argument("--verbose", action="store_true", help="log each request")
        add_server(added)
        return added

    text = "Trade a one-use code for this host's key and keep it in the state folder."
    enrol = action("enroll", _enrol, text, ENROL_EXAMPLES)
    enrol.add_argument("--code-file", type=Path, metavar="FILE", help="an owner-only file with the code")
    enrol.add_argument("--scratch", metavar="DIR", help="where sessions without a directory run")
    start = action("start", _start, "Start the local agent in the background.", START_EXAMPLES)
    _add_start(start)
    text = "Replace this host's key. What runs goes on, and takes up the new one by itself."
    action("rotate-key", _rotate_key, text, ROTATE_EXAMPLES)
    text = "Say whether it runs, what it last said, and what the server says of it."
    action("status", _status, text, STATUS_EXAMPLES)
    stop = action("stop", _stop, "Stop it: what runs is waited for.", STOP_EXAMPLES)
    _add_timeout(stop)
    text = "Stop it, waiting for what runs, and start it as it was."
    restart = action("restart", _restart, text, RESTART_EXAMPLES)
    _add_start(restart)
    _add_timeout(restart)
    look = action("doctor", doctor.doctor, "Check what could keep this machine from being a host.", doctor.EXAMPLES)
    look.add_argument("--scratch", metavar="DIR", help="where sessions without a directory run")
    text = "Write a systemd unit for the local agent. Another one is only replaced if you say so."
    service.add_options(action("install-service", service.install, text, service.EXAMPLES))
    execute = action("execute", executing.execute, "Ask for a command, wait, and exit as it did.", EXECUTE_EXAMPLES)
    _add_execute(execute)
    return made


def _add_start(parser: Parser) -> None:
    parser.add_argument("--concurrency", metavar="N", help="sessions at once")
    parser.add_argument("--ceiling", metavar="FILE", help="what may run here at most; ceiling.toml in the state folder")
    parser.add_argument("--scratch", metavar="DIR", help="where sessions without a directory run")
    parser.add_argument("--allow-root", action="store_true", help="let it be root's; without it, root is refused")


def _add_timeout(parser: Parser) -> None:
    parser.add_argument("--timeout", type=float, default=STOP_SECONDS, metavar="SECONDS", help="how long to wait; 60")


def _add_execute(execute: Parser) -> None:
    execute.add_argument("command", help="one line of text")
    execute.add_argument("--directory", metavar="DIR", help="the working directory on the host")
    execute.add_argument("--agent", metavar="NAME", help="whose key of credentials.json to use, such as autonomous")
    execute.add_argument("--timeout", type=int, metavar="N", help="seconds that the command may run, 1 to 300")
    execute.add_argument("--reason", metavar="TEXT", help="why, for whoever approves it")
    execute.add_argument("--on-host", metavar="NAME", help="the host to run on, where the agent may use several")
    execute.add_argument(
        "--wait", type=seconds, default=45.0, metavar="SECONDS", help="how long to wait for an approval or the host; 45"
    )


def _enrol(options: argparse.Namespace) -> int:
    state = state_folder(options)
    state.create()
    known = background.find(state)
    if known is not None:
        raise StateError(f"The local agent runs with this state folder (pid {known.pid}). Stop it first.")
    code = _code(options)
    if not code.startswith("ate_"):
        raise StateError("That is not an enrolment code: one begins with ate_, lasts 10 minutes and works once.")
    url = server_url(options, state.enrolment())
    client = Client(url, code)
    try:
        described = facts.host_facts(state, facts.scratch_folder(options.scratch))
        answer = client.enrol(protocol.EnrolRequest(protocol.VERSION, described))
    finally:
        client.close()
    if not answer.server_keys:
        raise StateError("The server has no key to sign starts with. Run `manage.py init` on it, and enrol again.")
    state.enrol(Enrolment(url=url, host_id=answer.host_id, name=answer.name), answer.key)
    PinnedKeys(state.server_keys).pin(answer.server_keys[-1].key)
    _say(
        options,
        {"host_id": answer.host_id, "name": answer.name, "url": url, "state_dir": str(state.path)},
        f"This machine is the host {answer.name} of {url}. Its key is in {state.key_file}, which only you can read.",
    )
    return Exit.OK


def _rotate_key(options: argparse.Namespace) -> int:
    state = state_folder(options)
    if os.environ.get(KEY_VARIABLE):
        raise StateError(f"The key comes from {KEY_VARIABLE}, where it cannot be replaced. Enrol this host anew.")
    url = server_url(options, state.enrolment())

    def ask(key: str) -> str:
        client = Client(url, key)
        try:
            return client.new_key()
        finally:
            client.close()

    try:
        renew(state, ask)
    except OSError as error:
        raise StateError(f"{state.key_file} cannot be written: {error.strerror}. The old key still works.") from error
    known = background.find(state)
    _say(
        options,
        {"key_file": str(state.key_file), "is_running": known is not None},
        f"The new key is in {state.key_file}; the old one works until this one is used."
        + (" The local agent takes it up with its next poll." if known is not None else ""),
    )
    return Exit.OK


def _code(options: argparse.Namespace) -> str:
    code = take_key(CODE_VARIABLE)
    if code:
        return code
    if options.code_file:
        return read_secret(options.code_file, missing=f"{options.code_file} does not exist.")
    if sys.stdin.isatty():
        return getpass.getpass("Enrolment code: ").strip()
    return sys.stdin.readline().strip()


def _start(options: argparse.Namespace) -> int:
    state = state_folder(options)
    known = background.find(state)
    is_new = False
    if known is None:
        refuse_root(is_allowed=options.allow_root)
        known, is_new = background.start(state, _start_arguments(options, server_url(options, state.enrolment())))
    # One that runs in the foreground, as under `up`, writes to its own standard error.
    log = str(state.log_file) if state.log_file.exists() else None
    verb = "runs" if is_new else "already runs"
    where = f"its log is {log}" if log else "its log is where it was started"
    _say(
        options,
        {"pid": known.pid, "url": known.url, "is_new": is_new, "log": log},
        f"The local agent {verb} with pid {known.pid}; {where}.",
    )
    return Exit.OK


def _start_arguments(options: argparse.Namespace, url: str) -> list[str]:
    arguments = ["--backend-url", url]
    for name in ("concurrency", "scratch", "ceiling"):
        value = getattr(options, name)
        if value is not None:
            # It is started from another folder.
            arguments += [f"--{name}", str(value) if name == "concurrency" else os.path.abspath(value)]
    arguments += [f"--{name.replace('_', '-')}" for name in ("allow_root", "verbose") if getattr(options, name)]
    return arguments


def _restart(options: argparse.Namespace) -> int:
    state = state_folder(options)
    known = background.find(state)
    refuse_root(is_allowed=options.allow_root)
    if known is not None and known.is_service:
        raise StateError(f"Process {known.pid} belongs to a service. Restart that: `systemctl restart` and its name.")
    is_elsewhere = options.backend_url or options.host or options.port
    url = known.url if known is not None and not is_elsewhere else server_url(options, state.enrolment())
    # What is given now comes last, so that it counts.
    arguments = [*(background.kept_arguments(known) if known is not None else ()), *_start_arguments(options, url)]
    if known is not None and not background.stop(known, timeout_seconds=options.timeout):
        kept = {"was_running": True, "is_running": True, "pid": known.pid}
        _say(options, kept, f"Process {known.pid} still waits for what runs. Nothing was started; ask again later.")
        return Exit.WAITING
    started, _is_new = background.start(state, arguments)
    result: dict[str, Any] = {
        "was_running": known is not None,
        "pid": started.pid,
        "url": started.url,
        "log": str(state.log_file),
    }
    _say(options, result, f"The local agent runs with pid {started.pid}; its log is {state.log_file}.")
    return Exit.OK


def _stop(options: argparse.Namespace) -> int:
    state = state_folder(options)
    known = background.find(state)
    if known is None:
        _say(options, {"was_running": False, "is_running": False}, "The local agent does not run.")
        return Exit.OK
    is_gone = background.stop(known, timeout_seconds=options.timeout)
    result = {"was_running": True, "is_running": not is_gone, "pid": known.pid}
    if not is_gone:
        _say(options, result, f"Process {known.pid} still waits for what runs. Stop it again to abort that.")
        return Exit.WAITING
    _say(options, result, "The local agent has stopped.")
    return Exit.OK


def _status(options: argparse.Namespace) -> int:
    state = state_folder(options)
    known = background.find(state)
    enrolment = state.enrolment()
    url = known.url if known is not None else server_url(options, enrolment)
    held = journal.outstanding(state.journal)
    of_host = _ceiling(state, known)
    server, reported = _ask_server(state, url)
    protections = known.protections if known else None
    result: dict[str, Any] = {
        "is_running": known is not None,
        "pid": known.pid if known else None,
        "running_seconds": known.running_seconds if known else None,
        "version": (known.version if known else "") or product_version(),
        "boot_id": boot_id(),
        "host_id": enrolment.host_id or None,
        "name": enrolment.name or None,
        "url": url,
        "state_dir": str(state.path),
        "spool": held.waiting,
        "spool_bytes": held.waiting_bytes,
        "journal": held.open,
        "protections": None if protections is None else list(protections),
        "protections_missing": None if protections is None else list(missing(protections)),
        "ceiling": (of_host.shown() if of_host.path else None) if isinstance(of_host, Ceiling) else of_host,
        "limits": of_host.shown_limits() if isinstance(of_host, Ceiling) else None,
        "last_log_line": without_escapes(background.last_line(state.log_file)) or None,
        "server": server,
        "reported": reported,
    }
    _say(options, result, status_text(result))
    return Exit.OK if known is not None else Exit.UNAVAILABLE


def _ceiling(state: StateFolder, known: background.Known | None) -> Ceiling | dict[str, str]:
    """Return the ceiling as it is in its file: that of the running process, else the state folder's."""
    path = Path(known.ceiling) if known is not None and known.ceiling else state.ceiling
    try:
        return ceiling.load(path)
    except StateError as error:
        return {"error": str(error)}


def _ask_server(state: StateFolder, url: str) -> tuple[str, dict[str, Any] | None]:
    """Return in a few words whether the server answers and takes the key, and what it knows of this host."""
    try:
        key = state.key()
    except StateError as error:
        return f"not asked: {error}", None
    client = Client(url, key)
    try:
        # No starts: a call that is checked like any other and changes nothing.
        answer = client.start(protocol.StartRequest(protocol.VERSION, "", ()))
        reported = dict(client.status())
    except UnavailableError as error:
        return f"down: {error}", None
    except UnauthorisedError as error:
        return f"refuses the key: {error}", None
    except DeclinedError as error:
        return f"answers, with trouble: {error}", None
    finally:
        client.close()
    is_stopped = f"KILL SWITCH: {without_escapes(answer.stopped)}" if answer.stopped else ""
    return is_stopped or "answers and knows this host", reported


def _say(options: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    sys.stdout.write((json.dumps(result) if options.json else text) + "\n")
    sys.stdout.flush()
