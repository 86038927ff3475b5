"""What our management commands share: exit codes, examples in `--help`, one sentence in place of a traceback."""

import argparse
import sys
import traceback
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

EXIT_USAGE: Final = 64
EXIT_UNAVAILABLE: Final = 69
EXIT_INTERNAL: Final = 70


class UsageError(CommandError):
    """The command was called in a way that it does not have."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=EXIT_USAGE)


class UnavailableError(CommandError):
    """Something that the command needs is not there: a port, a database, a folder."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=EXIT_UNAVAILABLE)


class _Parser(CommandParser):
    def error(self, message: str) -> Any:
        if self.called_from_command_line:
            self.print_usage(sys.stderr)
            self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")
        raise UsageError(message)


class AtomCommand(BaseCommand):
    """A command whose class has `help` and `examples`; it writes what it prints to `self.stdout`."""

    examples = ""

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        parser = _Parser(
            prog=f"{prog_name.rsplit('/', 1)[-1]} {subcommand}",
            description=self.help,
            epilog=f"examples:\n{self.examples}" if self.examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            called_from_command_line=getattr(self, "_called_from_command_line", False),
            **options,
        )
        self.add_arguments(parser)
        # Django reads these of every command; they are not of interest here.
        for name, default in (("settings", None), ("pythonpath", None), ("traceback", False)):
            action = "store_true" if default is False else "store"
            parser.add_argument(f"--{name}", action=action, default=default, help=argparse.SUPPRESS)
        parser.add_argument("--no-color", action="store_true", help=argparse.SUPPRESS)
        parser.add_argument("--force-color", action="store_true", help=argparse.SUPPRESS)
        parser.add_argument("--skip-checks", action="store_true", help=argparse.SUPPRESS)
        parser.add_argument("--verbosity", type=int, default=1, help=argparse.SUPPRESS)
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; from a command line an error is its sentence and its exit code."""
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            if not getattr(self, "_called_from_command_line", False):
                raise
            self.stderr.write(f"{self.__module__.rpartition('.')[2]}: {' '.join(str(error).split())}")
            sys.exit(error.returncode)

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command; anything unforeseen is one sentence and exit 70, with `--traceback` the whole trace."""
        try:
            super().run_from_argv(argv)
        except Exception as error:  # noqa: BLE001 - the outermost door
            if "--traceback" in argv:
                traceback.print_exc()
            message = " ".join(str(error).split()) or type(error).__name__
            self.stderr.write(f"{argv[1]}: internal error: {type(error).__name__}: {message} (--traceback shows more)")
            sys.exit(EXIT_INTERNAL)
