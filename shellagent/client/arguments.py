"""What every command line of this product that is not Django's shares: a parser, and how a command ends."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

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


def seconds(text: str) -> float:
    """Return a time to wait; `inf` is as long as it takes."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not found >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more, or inf")
    return found


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
        # For `piped`, at the outermost door.
        raise
    except AtomError as error:
        complain(error, str(error))
        return error.ends_with
    except Exception as error:  # noqa: BLE001 - a command says that it failed, and how
        complain(error, f"internal error: {type(error).__name__}: {error}")
        return Exit.INTERNAL


def piped(program: Callable[[], int]) -> int:
    """Run a whole program and return its exit code; where whoever read what it prints has gone, it ends quietly.

    Its code is then 141, as a shell has it for programs that SIGPIPE ends. That signal itself would also end it where
    a server closes a connection. Streams that it was started without lead nowhere.
    """
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal of few characters, such as that of Latin-1, shows the others as escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return program()
        finally:
            _flush()
    except BrokenPipeError:
        _let_go(sys.stdout)
        _let_go(sys.stderr)
        return 128 + signal.SIGPIPE


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _flush() -> None:
    _let_go(sys.stderr)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _let_go(sys.stdout)
        sys.stderr.write(f"What was printed could not be written: {error.strerror}.\n")
        raise SystemExit(Exit.INTERNAL) from error


def _let_go(stream: TextIO) -> None:
    """Have what a stream cannot write go nowhere, so that the interpreter does not complain of it at its end."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
