"""What our management commands share: exit codes, examples in `--help`, one sentence in place of a traceback."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, OperationalError, connection

EXIT_USAGE: Final = 64
EXIT_UNAVAILABLE: Final = 69
EXIT_INTERNAL: Final = 70
EXIT_INTERRUPTED: Final = 130


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


def guarded(argv: Sequence[str]) -> int:
    """Run the command that `argv` names, from the settings on; an error is one sentence and its exit code.

    With `--traceback` among the arguments the whole trace comes before the sentence.
    """
    program = argv[1] if len(argv) > 1 else "manage.py"
    try:
        execute_from_command_line(list(argv))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read what it prints has gone: `manage.py` ends quietly then.
        raise
    except Exception as error:  # noqa: BLE001 - the outermost door
        if "--traceback" in argv:
            traceback.print_exc()
        sentence, code = _told(error)
        sys.stderr.write(f"{program}: {sentence}\n")
        return code
    return 0


def check_set_up() -> None:
    """Raise UnavailableError where `init` has not run, or not since an update, and where there is no database."""
    # Every command imports this module, and only this function needs what reads migrations.
    from django.db.migrations.executor import MigrationExecutor  # noqa: PLC0415

    todo = "Run: manage.py init"
    try:
        if connection.vendor == "sqlite" and not _has_file(str(connection.settings_dict["NAME"])):
            raise UnavailableError(f"{settings.HOME.path} is not set up. {todo}")
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if missing and not executor.loader.applied_migrations:
            raise UnavailableError(f"The database is not set up: it has no tables. {todo}")
        if missing:
            raise UnavailableError(f"The database is of an earlier version ({len(missing)} migrations wait). {todo}")
    except DatabaseError as error:
        raise UnavailableError(f"The database cannot be used: {error}") from error
    finally:
        if not connection.in_atomic_block:
            connection.close()


def _has_file(name: str) -> bool:
    # Asked first, because connecting makes the file. A database in memory has none.
    return name == ":memory:" or "mode=memory" in name or Path(name).exists()


def _told(error: Exception) -> tuple[str, int]:
    sentence = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, CommandError):
        return sentence, error.returncode
    if isinstance(error, ImproperlyConfigured):
        return sentence, EXIT_USAGE
    if isinstance(error, OperationalError):
        return f"The database cannot be used: {sentence}", EXIT_UNAVAILABLE
    return f"internal error: {type(error).__name__}: {sentence} (--traceback shows more)", EXIT_INTERNAL
