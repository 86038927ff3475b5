"""`atom`: ask for commands from any machine, follow them, and see what governance would say."""

import argparse
import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from shellagent.client import running, shown
from shellagent.client.arguments import Parser, ended, piped, seconds
from shellagent.client.atom import VERSION, Atom
from shellagent.client.cli_programs import add_program_actions
from shellagent.client.credentials import find_access, is_exposed
from shellagent.client.errors import Exit, StateError

PROGRAM: Final = "atom"
WAIT_SECONDS: Final = 45.0

EPILOG: Final = """\
  atom run -- make test
  atom run 'ls -l | wc -l'
  atom policy check -- rm -r build
  atom wait 019a0000-0000-7000-8000-000000000000

The server and the key come from ATOM_URL and ATOM_KEY, or from ~/.config/atom/credentials.json, which only you may be
able to read: {"url": "https://atom.example.com", "key": "ata_..."}"""
ENDS: Final = """\

exit codes: the command's own (128 + n for a signal); 75 still pending or queued; 77 denied, rejected, refused or
expired; 124 timed out; 130 cancelled or aborted; 3 the key is refused; 64 usage; 69 no host or server; 70 lost"""
RUN_EXAMPLES: Final = f"""\
  atom run -- make test
  atom run --directory /srv/app --reason 'the deploy needs it' -- systemctl restart app
  atom run 'grep -c error app.log | sort'
{ENDS}"""
WAIT_EXAMPLES: Final = f"""\
  atom wait 019a0000-0000-7000-8000-000000000000 --wait 900
{ENDS}"""
CHECK_EXAMPLES: Final = """\
  atom policy check -- rm -r build
  atom policy check --directory /srv/app 'cat a | sort'

exit codes: 0 it would run; 75 a person would be asked; 77 it would be denied; 64 it cannot be read"""
STATUS_EXAMPLES: Final = "  atom status\n  atom status --json"
CANCEL_EXAMPLES: Final = "  atom cancel 019a0000-0000-7000-8000-000000000000 --reason 'not needed any more'"
LIST_EXAMPLES: Final = "  atom list\n  atom list --status pending --limit 5 --json"
SHOW_EXAMPLES: Final = "  atom show 019a0000-0000-7000-8000-000000000000"
Work = Callable[[Atom, argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, and return its exit code."""
    return piped(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    manner = running.Manner(
        is_json=getattr(options, "json", False), wait_seconds=getattr(options, "wait", WAIT_SECONDS)
    )
    if hasattr(options, "work_here"):
        return ended(lambda: int(options.work_here(options)), manner.complain)

    def work() -> int:
        _check_texts(sys.argv[1:] if arguments is None else arguments)
        return _with_server(options, manner)

    return ended(work, manner.complain)


def parser() -> Parser:
    """Return the command's parser."""
    made = Parser(prog=PROGRAM, description="Commands under governance, from any machine.", examples=EPILOG)
    made.add_argument("--version", action="version", version=f"{PROGRAM} {VERSION}")
    # A parser that is not told its own name imports what it takes to print a usage.
    actions = made.add_subparsers(prog=PROGRAM, dest="action", required=True, metavar="ACTION")
    run = _action(
        actions, "run", _run, "Ask for a command, show its output as it comes, and exit as it did.", RUN_EXAMPLES
    )
    _add_command(run)
    run.add_argument("--timeout", type=int, metavar="N", help="seconds that the command may run, 1 to 300")
    run.add_argument("--reason", metavar="TEXT", help="why, for whoever approves it")
    run.add_argument("--env", action="append", type=_pair, metavar="NAME=VALUE", help="a variable for the command")
    run.add_argument("--secret", action="append", metavar="NAME", help="a secret that the host knows by this name")
    _add_wait(run)
    wait = _action(actions, "wait", _wait, "Follow a session that was asked for before, as `run` does.", WAIT_EXAMPLES)
    _add_id(wait)
    _add_wait(wait)
    _action(actions, "status", _status, "Say whether commands can run, and what waits.", STATUS_EXAMPLES)
    text = "Cancel a session: at once, or by having its host stop it."
    cancel = _action(actions, "cancel", _cancel, text, CANCEL_EXAMPLES)
    _add_id(cancel)
    cancel.add_argument("--reason", default="", metavar="TEXT", help="why, for the audit trail")
    listed = _action(actions, "list", _list, "List this agent's newest sessions.", LIST_EXAMPLES)
    listed.add_argument("--status", metavar="STATUS", help="only those in this state, such as pending")
    listed.add_argument("--limit", type=_limit, default=20, metavar="N", help="how many, 1 to 200; 20")
    _add_id(_action(actions, "show", _show, "Show one session, with its output.", SHOW_EXAMPLES))
    policy = actions.add_parser("policy", help="Ask governance.", description="Ask governance.")
    questions = policy.add_subparsers(prog=f"{PROGRAM} policy", dest="question", required=True, metavar="QUESTION")
    _add_command(_action(questions, "check", _check, "Say what governance would say of a command.", CHECK_EXAMPLES))
    add_program_actions(actions)
    return made


def _action(actions: Any, name: str, work: Work, text: str, examples: str) -> Parser:
    added: Parser = actions.add_parser(name, help=text, description=text, examples=examples)
    added.set_defaults(work=work)
    added.add_argument("--json", action="store_true", help="print one JSON object")
    return added


def _add_command(parser: Parser) -> None:
    parser.add_argument("command", help="one line of text, or a program before its arguments")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's arguments, taken literally")
    parser.add_argument("--directory", metavar="DIR", help="the working directory on the host")
    parser.add_argument("--on-host", metavar="NAME", help="the host to run on, where the agent may use several")


def _add_id(parser: Parser) -> None:
    parser.add_argument("id", type=_session_id, help="the session's id")


def _add_wait(parser: Parser) -> None:
    text = "how long to wait for an approval or the host; 45"
    parser.add_argument("--wait", type=seconds, default=WAIT_SECONDS, metavar="SECONDS", help=text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _session_id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text.lower()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a session's id: `atom list` shows them")
    return text.lower()


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 200:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 200")
    return int(text)


def _with_server(options: argparse.Namespace, manner: running.Manner) -> int:
    access = find_access()
    if is_exposed(access.url):
        manner.note(f"warning: {access.url} is public and without TLS: the key travels for all to read. Use https://.")
    with Atom(*access) as atom:
        try:
            code: int = options.work(atom, options)
        finally:
            if atom.clock_warning:
                manner.note(f"warning: {atom.clock_warning}")
        return code


def _check_texts(words: Sequence[str]) -> None:
    """Raise StateError for bytes that are no text: JSON cannot carry them."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise StateError(f"{word!r} holds bytes that are not UTF-8. Name a file by a pattern instead.") from None


def _asked(options: argparse.Namespace) -> str | list[str]:
    """Return one line of text, or a program and its arguments."""
    return [options.command, *options.arguments] if options.arguments else options.command


def _run(atom: Atom, options: argparse.Namespace) -> int:
    ask = functools.partial(
        atom.execute,
        _asked(options),
        working_directory=options.directory,
        timeout_seconds=options.timeout,
        reason=options.reason,
        host=options.on_host,
        env=dict(options.env) if options.env else None,
        secrets=options.secret,
    )
    manner = running.Manner(is_json=options.json, wait_seconds=options.wait)
    return running.run(atom, lambda wait_seconds: ask(wait_seconds=wait_seconds), manner)


def _wait(atom: Atom, options: argparse.Namespace) -> int:
    return running.resume(atom, options.id, running.Manner(is_json=options.json, wait_seconds=options.wait))


def _status(atom: Atom, options: argparse.Namespace) -> int:
    status = atom.status()
    _say(options, {"url": atom.url, **status.raw}, lambda: shown.status_text(atom.url, atom.agent(), status))
    return Exit.OK if status.can_run else Exit.UNAVAILABLE


def _cancel(atom: Atom, options: argparse.Namespace) -> int:
    session = atom.cancel(options.id, reason=options.reason)
    _say(
        options,
        session.raw,
        lambda: f"{session.id} " + (f"is {session.status}" if session.is_over else "is being stopped"),
    )
    return Exit.OK


def _list(atom: Atom, options: argparse.Namespace) -> int:
    sessions = atom.sessions(status=options.status, limit=options.limit)
    _say(options, {"sessions": [session.raw for session in sessions]}, lambda: shown.list_text(sessions))
    return Exit.OK


def _show(atom: Atom, options: argparse.Namespace) -> int:
    session = atom.session(options.id)
    _say(options, session.raw, lambda: shown.session_text(session))
    return Exit.OK


def _check(atom: Atom, options: argparse.Namespace) -> int:
    decision = atom.check(_asked(options), working_directory=options.directory, host=options.on_host)
    codes = {"allow": Exit.OK, "ask": Exit.WAITING}
    code = codes.get(decision.outcome, Exit.DENIED)
    _say(options, {"process_exit_code": int(code), **decision.raw}, lambda: shown.decision_text(decision))
    return code


def _say(options: argparse.Namespace, found: dict[str, Any], text: Callable[[], str]) -> None:
    sys.stdout.write((json.dumps(found) if options.json else text()) + "\n")
    sys.stdout.flush()
