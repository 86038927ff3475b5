"""The actions of `atom` for the programs that agents live in: the hook, connecting them, and looking at it."""

import argparse
import json
import os
import sys
from typing import Any, Final

from shellagent.client.arguments import Parser

PROGRAMS: Final = ("claude-code", "codex", "cursor")
RECIPES: Final = ("langgraph", "openai-agents", "requests", "n8n", "cron")

CONNECT_EXAMPLES: Final = """\
  atom connect claude-code
  atom connect claude-code --write
  atom connect codex --project . --mode run --write
  atom connect cron

Without --write nothing is changed. With it the settings that were there are kept beside it, as FILE.before-atom."""
HOOK_EXAMPLES: Final = """\
  atom hook claude-code --mode check < call.json

exit codes: 0 the answer is on standard output; 2 the call is blocked, standard error says why"""
DOCTOR_EXAMPLES: Final = """\
  atom doctor
  atom doctor --project ~/src/app --json

exit codes: 0 nothing is open; 1 something is"""


def add_program_actions(actions: Any) -> None:
    """Add the actions to a parser's subparsers."""
    text = "Answer a hook of an AI tool; `atom connect` puts it there."
    hook = actions.add_parser("hook", help=text, description=text, examples=HOOK_EXAMPLES)
    hook.add_argument("program", choices=PROGRAMS, metavar="PROGRAM", help=", ".join(PROGRAMS))
    _add_manner(hook)
    hook.set_defaults(work_here=_hook)
    connect = _action(actions, "connect", "Connect an AI tool: put the hook into its settings.", CONNECT_EXAMPLES)
    every = PROGRAMS + RECIPES
    connect.add_argument("program", choices=every, metavar="PROGRAM", help=", ".join(every))
    connect.add_argument(
        "--project", type=_folder, metavar="DIR", help="one project's settings; without it the user's own"
    )
    connect.add_argument(
        "--write", action="store_true", help="write the settings, in place of showing what would change"
    )
    _add_manner(connect)
    connect.set_defaults(work_here=_connect)
    doctor = _action(
        actions, "doctor", "Look whether an AI tool could still run commands past governance.", DOCTOR_EXAMPLES
    )
    doctor.add_argument("--project", type=_folder, metavar="DIR", help="a project whose settings are looked at too")
    doctor.set_defaults(work_here=_doctor)


def _action(actions: Any, name: str, text: str, examples: str) -> Parser:
    added: Parser = actions.add_parser(name, help=text, description=text, examples=examples)
    added.add_argument("--json", action="store_true", help="print one JSON object")
    return added


def _add_manner(parser: Parser) -> None:
    text = "what becomes of an allowed call: check leaves it to the tool (default), run has a host run it"
    parser.add_argument("--mode", choices=("check", "run"), default="check", help=text)
    parser.add_argument(
        "--other-folders", action="store_true", help="the host is another machine: do not send the tool's folder"
    )


def _folder(text: str) -> str:
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return text


def _hook(options: argparse.Namespace) -> int:
    from shellagent.client import hook  # noqa: PLC0415 - not a part of `atom run`, whose start counts

    return hook.main(hook.Manner(options.program, hook.Mode(options.mode), not options.other_folders))


def _connect(options: argparse.Namespace) -> int:
    from shellagent.client import connecting, hook  # noqa: PLC0415 - as above

    if options.program in RECIPES:
        return _say(options, {"recipe": connecting.recipe(options.program)}, connecting.recipe(options.program))
    target = connecting.TARGETS[options.program]
    folder = os.path.abspath(options.project) if options.project else os.path.expanduser("~")
    difference = connecting.connect(
        target,
        folder=folder,
        mode=hook.Mode(options.mode),
        has_same_folders=not options.other_folders,
        is_written=options.write,
    )
    path = target.path(folder)
    if not difference:
        text = f"{path} is connected already."
    elif options.write:
        text = f"{difference}\nWritten. {target.after} Then: atom doctor"
    else:
        text = f"{difference}\nNothing was written. To write it: atom connect {options.program} --write"
    return _say(options, {"file": path, "difference": difference, "written": bool(options.write and difference)}, text)


def _doctor(options: argparse.Namespace) -> int:
    from shellagent.client import doctor  # noqa: PLC0415 - as above

    checks = list(doctor.checks(options.project))
    code = 1 if any(check.result == "fail" for check in checks) else 0
    found = {"process_exit_code": code, "checks": [check._asdict() for check in checks]}
    _say(options, found, "\n".join(check.line for check in checks))
    return code


def _say(options: argparse.Namespace, found: dict[str, Any], text: str) -> int:
    said = json.dumps(found) if options.json else text
    sys.stdout.write(said if said.endswith("\n") else f"{said}\n")
    return 0
