"""`localagent install-service`: a systemd unit that keeps the local agent of this machine running."""

import argparse
import difflib
import getpass
import json
import os
import pwd
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shellagent.client.arguments import Parser
from shellagent.client.errors import Exit
from shellagent.host.arguments import refuse_root, server_url, state_folder
from shellagent.host.errors import StateError
from shellagent.host.state import PRODUCT

SYSTEM_FOLDER: Final = Path("/etc/systemd/system")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}\Z")
#: What a person has to see to: the key is refused, another instance runs, wrong options, another protocol.
FINAL_CODES: Final = (Exit.UNAUTHORISED, Exit.ANOTHER_INSTANCE, Exit.USAGE, Exit.PROTOCOL)
#: Longer than the longest timeout of a session, which the first TERM waits for.
STOP_SECONDS: Final = 330
WATCHDOG_SECONDS: Final = 60

#: Commands inherit these, so nothing stands here that an approved command may need; the sandbox confines each command.
HARDENING: Final = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
    "UMask=0077",
    "LimitCORE=0",
)
#: These need a service manager with root's rights.
SYSTEM_HARDENING: Final = (
    "KeyringMode=private",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
)
#: A user without rights cannot write there anyway; root's commands may have to.
USER_HARDENING: Final = ("ProtectSystem=full", "CapabilityBoundingSet=")

EXAMPLES: Final = """\
  manage.py localagent install-service --print
  manage.py localagent install-service --user
  sudo .venv/bin/python manage.py localagent install-service --account atom --state-dir /home/atom/state

exit codes: 0 written, or the same stands there; 64 usage, or another unit stands there, and the difference was shown"""


def add_options(parser: Parser) -> None:
    """Add the options of the action."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--system", action="store_true", help="a unit of the machine; the default for root")
    where.add_argument("--user", action="store_true", help="a unit of your own; the default for others")
    parser.add_argument("--account", metavar="USER", help="with --system: whom the local agent runs as")
    parser.add_argument("--name", default="atom-local-agent", metavar="NAME", help="the unit's; atom-local-agent")
    parser.add_argument("--print", action="store_true", dest="is_print", help="print the unit and write nothing")
    parser.add_argument("--replace", action="store_true", help="put it in place of another one, showing the difference")
    parser.add_argument("--allow-root", action="store_true", help="let the service be root's")
    parser.add_argument("--run-as", metavar="USER", help="as runlocalagent's")
    parser.add_argument("--concurrency", metavar="N", help="as runlocalagent's")
    parser.add_argument("--ceiling", metavar="FILE", help="as runlocalagent's")
    parser.add_argument("--scratch", metavar="DIR", help="as runlocalagent's")
    parser.add_argument("--require-sandbox", action="store_true", help="as runlocalagent's")


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit is made from. `account` is empty for a unit of one's own and for root's."""

    arguments: tuple[str, ...]
    account: str = ""
    is_system: bool = False

    def text(self) -> str:
        """Return the unit file."""
        hardening = [*HARDENING]
        if self.is_system:
            hardening += SYSTEM_HARDENING
            hardening += USER_HARDENING if self.account else ()
        service = [
            "Type=notify",
            "NotifyAccess=main",
            *([f"User={self.account}"] if self.account else []),
            f"WorkingDirectory={_path(str(PRODUCT))}",
            f"ExecStart={' '.join(map(_word, self.arguments))}",
            "Restart=on-failure",
            "RestartSec=5",
            f"RestartPreventExitStatus={' '.join(str(int(code)) for code in FINAL_CODES)}",
            f"WatchdogSec={WATCHDOG_SECONDS}",
            "KillMode=mixed",
            f"TimeoutStopSec={STOP_SECONDS}",
            # Its cgroup is its own, so that it can bound the processes of each session in one below.
            "Delegate=pids",
            *hardening,
        ]
        # A unit of one's own does not see those of the machine.
        network = ["After=network-online.target", "Wants=network-online.target"] if self.is_system else []
        parts = [
            ("Unit", ["Description=Atom Local Agent, the host's process", *network, "StartLimitIntervalSec=0"]),
            ("Service", service),
            ("Install", [f"WantedBy={'multi-user' if self.is_system else 'default'}.target"]),
        ]
        return "\n\n".join("\n".join([f"[{title}]", *lines]) for title, lines in parts) + "\n"


def install(options: argparse.Namespace) -> int:
    """Write the unit, or print it. Raises StateError where another one stands there, having shown the difference."""
    is_system = options.system or (os.geteuid() == 0 and not options.user)
    if not NAME.match(options.name):
        raise StateError("A unit's name has letters, digits, dots, dashes and underscores, and no .service behind it.")
    text = _unit(options, is_system=is_system).text()
    if options.is_print:
        sys.stdout.write(json.dumps({"unit": text}) + "\n" if options.json else text)
        return Exit.OK
    folder = SYSTEM_FOLDER if is_system else _user_folder()
    target = folder / f"{options.name}.service"
    is_new = _write(target, text, is_replacing=options.replace)
    control = "systemctl" if is_system else "systemctl --user"
    next_steps = [f"{control} daemon-reload", f"{control} enable --now {options.name}"]
    if not is_system:
        next_steps.append(f"loginctl enable-linger {getpass.getuser()}")
    if options.json:
        sys.stdout.write(json.dumps({"unit": str(target), "is_new": is_new, "next": next_steps}) + "\n")
    else:
        done = f"{target} is written." if is_new else f"{target} is the same already."
        sys.stdout.write("\n  ".join([f"{done} Next:", *next_steps]) + "\n")
    return Exit.OK


def _unit(options: argparse.Namespace, *, is_system: bool) -> Unit:
    account = _account(options, is_system=is_system)
    state = state_folder(options)
    if account and not options.state_dir:
        raise StateError(f"Give --state-dir: the folder with the key of {account}, and not your own.")
    arguments = [sys.executable, str(PRODUCT / "manage.py"), "runlocalagent", "--state-dir", str(state.path)]
    arguments += ["--backend-url", server_url(options, state.enrolment())]
    for name in ("concurrency", "ceiling", "scratch", "run_as"):
        value = getattr(options, name)
        if value is not None:
            shown = os.path.abspath(value) if name in ("ceiling", "scratch") else value
            arguments += [f"--{name.replace('_', '-')}", shown]
    for name in ("require_sandbox", "allow_root"):
        if getattr(options, name):
            arguments.append(f"--{name.replace('_', '-')}")
    for argument in arguments:
        if not argument.isprintable():
            raise StateError(f"{argument!r} cannot stand in a unit file. Use a path without control characters.")
    return Unit(tuple(arguments), account, is_system)


def _account(options: argparse.Namespace, *, is_system: bool) -> str:
    """Return the user that the unit names, empty where it names none. Raises StateError."""
    account: str = options.account or ""
    if not is_system:
        if account:
            raise StateError("--account is for a unit of the machine: give --system, or leave it out.")
        refuse_root(is_allowed=options.allow_root)
        return ""
    if account in ("", "root"):
        if not options.allow_root:
            raise StateError(
                "A unit of the machine runs as root unless it names a user: give --account USER, or --allow-root."
            )
        return ""
    try:
        pwd.getpwnam(account)
    except KeyError:
        raise StateError(f"There is no user {account!r} on this machine. Make it: useradd {account}.") from None
    return account


def _write(target: Path, text: str, *, is_replacing: bool) -> bool:
    """Write a unit. Returns False where the same stands there. Raises StateError."""
    try:
        present = target.read_text()
    except FileNotFoundError:
        present = None
    except (OSError, UnicodeError) as error:
        raise StateError(f"{target} cannot be read: {error}.") from error
    if present == text:
        return False
    if present is not None:
        lines = difflib.unified_diff(present.splitlines(), text.splitlines(), str(target), "this one", lineterm="")
        sys.stderr.write("\n".join(lines) + "\n")
        if not is_replacing:
            raise StateError(f"{target} is another one; nothing was written. Give --replace, or --name.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_text(text)
        partial.chmod(0o644)
        partial.rename(target)
    except OSError as error:
        raise StateError(
            f"{target} cannot be written: {error.strerror}. Use --user, sudo, or --print and put it there yourself."
        ) from error
    return True


def _user_folder() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser().absolute() / "systemd" / "user"


def _path(text: str) -> str:
    """Return a path for a setting of one, in which only `%` is read."""
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """Return a word of a command line as systemd reads it: quoted, and no `%` or `$` filled in."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if re.search(r"[\s\"';\\]", text) or not text else text
