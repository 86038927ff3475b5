"""Django's SQLite backend, with writers taking turns.

SQLite has one writer at a time, and who finds it busy sleeps in steps of up to 100 ms, in no order: with a dozen
threads writing, most of each request was spent asleep, and one of eight processes waited for seconds. Inside a process
a lock hands the turn on at once. Processes look again after very short sleeps of random length, until the time that
the `timeout` option says is over: all but one whether they are next, by a lock on a file beside the database, and
that one whether SQLite is free. So who has just written does not write again before those that wait.
"""

import fcntl
import os
import random
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from django.db import OperationalError
from django.db.backends.sqlite3 import base

#: For the connection that does most of a process's work; the others have what the settings say.
LARGE_CACHE_KIB: Final = 4096
#: The mean of the first sleep before another look, and the longest mean.
NAP_SECONDS: Final = 0.0002
LONGEST_NAP_SECONDS: Final = 0.002
_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that holds its database's turn from the beginning of a transaction to its end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turn: threading.Lock | None = None

    def enlarge_cache(self) -> None:
        """Keep more pages in memory: for the one connection that does most of a process's work."""
        with self.cursor() as cursor:
            cursor.execute(f"PRAGMA cache_size=-{LARGE_CACHE_KIB}")

    @property
    def queries_logged(self) -> bool:
        """Return whether queries are kept for a look at them: only where somebody asks, not because of DEBUG.

        Django asks its lazy settings here for every cursor, which was a fourteenth of the web server's work.
        """
        return bool(self.force_debug_cursor)

    def _start_transaction_under_autocommit(self) -> None:
        patience = self.settings_dict["OPTIONS"].get("timeout", 5)
        until = time.monotonic() + patience
        turn = _turns[str(self.settings_dict["NAME"])]
        if not turn.acquire(timeout=patience):
            raise OperationalError("database is locked")
        self._turn = turn
        try:
            if self.is_in_memory_db():
                super()._start_transaction_under_autocommit()  # type: ignore[misc]
            else:
                with _next(f"{self.settings_dict['NAME']}-turn", until), self._without_waiting(patience):
                    self._begin(until)
        except BaseException:
            self._pass_turn()
            raise

    def _begin(self, until: float) -> None:
        """Begin, on the driver's own connection: Django's cursor would cost several times what a look does."""
        mode: str | None = self.transaction_mode  # type: ignore[attr-defined]
        begin, naps = f"BEGIN {mode or ''}", _naps(until)
        with self.wrap_database_errors:
            while True:
                try:
                    self.connection.execute(begin)
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or not next(naps, False):
                        raise
                else:
                    return

    @contextmanager
    def _without_waiting(self, patience: float) -> Iterator[None]:
        """Have SQLite say at once that it is busy. Statements outside of transactions keep its own waiting."""
        self.ensure_connection()
        raw = self.connection
        raw.execute("PRAGMA busy_timeout=0")
        try:
            yield
        finally:
            raw.execute(f"PRAGMA busy_timeout={round(1000 * patience)}")

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        # A commit that failed keeps the turn: its rollback, or the closing of the connection, follows.
        self._pass_turn()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._pass_turn()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._pass_turn()

    def _pass_turn(self) -> None:
        if self._turn is not None:
            turn, self._turn = self._turn, None
            turn.release()


@contextmanager
def _next(path: str, until: float) -> Iterator[None]:
    """Be the one process that is next, for the length of the block. The kernel forgets one that is killed.

    Without the file, on a full disk or in a folder that cannot be written, all are next; so is who has waited in vain.
    The lock is not waited for in the kernel, because a process that was stopped there would stop all others for good.
    """
    descriptor = -1
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        naps = _naps(until)
        while not _is_locked(descriptor) and next(naps, False):
            pass
    try:
        yield
    finally:
        if descriptor >= 0:
            # Said, because a process that was forked meanwhile has the file open as well.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _naps(until: float) -> Iterator[bool]:
    """Sleep for ever longer and yield True, as long as it is not too late."""
    nap = NAP_SECONDS
    while time.monotonic() < until:
        time.sleep(random.uniform(0, 2 * nap))  # noqa: S311 - not to be in step with anybody
        nap = min(1.5 * nap, LONGEST_NAP_SECONDS)
        yield True
