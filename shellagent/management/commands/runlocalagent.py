"""So that `manage.py help` lists it; `manage.py` itself starts it before Django."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from shellagent.host import runlocalagent


class Command(BaseCommand):
    help = "Run the local agent of this machine in the foreground."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        sys.exit(runlocalagent.main(argv[2:]))

    def handle(self, *args: Any, **options: Any) -> None:
        """Run with the defaults, as `call_command` does."""
        sys.exit(runlocalagent.main([]))
