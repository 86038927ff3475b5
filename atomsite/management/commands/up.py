"""`manage.py up`: web server, worker and local agent under one Ctrl-C."""

import os
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from atomsite.commands import AtomCommand, UnavailableError, UsageError, check_set_up
from atomsite.console import Console
from atomsite.up import CannotStartError, Plan, run
from shellagent.errors import SigningKeyError
from shellagent.signing_keys import signing_keys


class Command(AtomCommand):
    help = (
        "Start the web server, the worker and this machine's local agent, and keep them going until Ctrl-C or TERM.\n"
        "The local agent stops first and lets running commands end (30 s, then aborts them); a second Ctrl-C kills.\n"
        "What dies is started again after 1, 2, 4 … seconds; five deaths in a row stop everything with exit 70.\n"
        "Exit: 0 stopped, 69 cannot start (port taken, runs already), 70 gave up, 130 killed by a second Ctrl-C."
    )
    examples = (
        "  manage.py up\n"
        "  PORT=9000 manage.py up --concurrency 4\n"
        "  manage.py up --bind 0.0.0.0 --no-agent           a server whose hosts are other machines\n"
    )
    # `init` has just run them, and every child runs its own.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default=os.environ.get("ATOM_BIND") or "127.0.0.1", metavar="ADDRESS")
        parser.add_argument("--port", type=int, default=settings.PORT, help="default: PORT, else 8000")
        parser.add_argument("--concurrency", type=int, default=2, metavar="N", help="commands at once (default: 2)")
        parser.add_argument("--no-tour", action="store_true", help="no tour on the first start")
        parser.add_argument("--no-agent", action="store_true", help="no local agent on this machine")
        parser.add_argument("--no-worker", action="store_true", help="no worker: nothing expires and no host is lost")
        parser.add_argument("--json", action="store_true", help="one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until stopped. What is written meanwhile is the owner's only, by the children too."""
        os.umask(0o077)
        if not 1 <= options["port"] <= 65535:
            raise UsageError(f"--port {options['port']} is not a port: give 1 to 65535.")
        if not 1 <= options["concurrency"] <= 64:
            raise UsageError(f"--concurrency {options['concurrency']}: give 1 to 64.")
        home, console = settings.HOME, Console(as_json=options["json"])
        if not home.path.is_dir():
            raise UnavailableError(f"{home.path} is not set up. Run: manage.py init")
        check_set_up()
        try:
            signing_keys()
        except SigningKeyError as error:
            raise UnavailableError(str(error)) from error
        plan = Plan(
            home=home,
            directory=settings.BASE_DIR,
            bind=options["bind"],
            port=options["port"],
            url=settings.ATOM_URL if options["port"] == settings.PORT else f"http://localhost:{options['port']}",
            concurrency=options["concurrency"],
            has_worker=not options["no_worker"],
            has_agent=not options["no_agent"],
            has_tour=not (options["no_tour"] or options["json"] or home.tour_marker.exists()),
            redis_url=settings.REDIS_URL,
        )
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            console.say(
                "WARNING: running as root. What an agent is allowed to run, runs as root. "
                "Use an account of its own for anything but a trial."
            )
        try:
            code = run(plan, console)
        except CannotStartError as error:
            raise UnavailableError(str(error)) from error
        if code:
            raise SystemExit(code)
