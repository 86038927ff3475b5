"""So that `manage.py help` lists it; `manage.py` itself starts it before Django."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from shellagent.client import cli


class Command(BaseCommand):
    help = "Connect an AI tool (Claude Code, Codex, Cursor), or print what connects LangGraph, n8n, cron and others."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        sys.exit(cli.main(argv[1:]))

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("arguments", nargs="*", help="what follows `atom connect`")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run with the arguments that `call_command` was given."""
        sys.exit(cli.main(["connect", *options["arguments"]]))
