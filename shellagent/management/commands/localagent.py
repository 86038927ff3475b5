"""So that `manage.py help` lists it; `manage.py` itself starts it before Django."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from shellagent.host import localagent


class Command(BaseCommand):
    help = "Enrol, start, stop and look at the local agent of this machine, and ask for a command."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        sys.exit(localagent.main(argv[2:]))

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("arguments", nargs="*", help="what follows `manage.py localagent`")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run with the arguments that `call_command` was given."""
        sys.exit(localagent.main(list(options["arguments"])))
