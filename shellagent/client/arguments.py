"""What every command line of this product that is not Django's shares: a parser, and how a command ends."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from shellagent.client.errors import AtomError, Exit


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Knows the terminal's width by itself: argparse imports four compressors to ask for it, at each option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


class Parser(argparse.ArgumentParser):
    """A parser whose usage errors exit 64 and whose help ends with examples."""

    def __init__(self, *arguments: Any, examples: str = "", **options: Any) -> None:
        options.setdefault("formatter_class", _Formatter)
        if examples:
            options["epilog"] = f"examples:\n{examples}"
        super().__init__(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: {message}\n")


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def ended(work: Callable[[], int], complain: Callable[[Exception, str], None]) -> int:
    """Run a command and return its exit code. An error becomes one sentence for `complain`, never a traceback."""
    try:
        return work()
    except KeyboardInterrupt:
        return Exit.CANCELLED
    except BrokenPipeError:
        # Whoever read our output has gone. Nothing more can be said, not even by the interpreter at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except AtomError as error:
        complain(error, str(error))
        return error.ends_with
    except Exception as error:  # noqa: BLE001 - a command says that it failed, and how
        complain(error, f"internal error: {type(error).__name__}: {error}")
        return Exit.INTERNAL
