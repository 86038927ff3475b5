"""So that `manage.py help` lists it; `manage.py` itself starts it before Django."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from shellagent.mcp_server import command


class Command(BaseCommand):
    help = "Serve the tools of this product to an MCP client."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        sys.exit(command.main(argv[2:]))

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("arguments", nargs="*", help="what follows `manage.py mcp`")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run with the arguments that `call_command` was given."""
        sys.exit(command.main(list(options["arguments"])))
