"""Django's SQLite backend, with the writing threads of one process taking turns.

SQLite has one writer at a time, and who finds it busy sleeps in steps of up to 100 ms, in no order: with a dozen
threads writing, most of each request was spent asleep. Inside a process a lock hands the turn on at once; between
processes SQLite's own waiting stays, for as long as the `timeout` option says.
"""

import threading
from collections import defaultdict
from typing import Any, Final

from django.db import OperationalError
from django.db.backends.sqlite3 import base

#: For the connection that does most of a process's work; the others have what the settings say.
LARGE_CACHE_KIB: Final = 4096
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
        turn = _turns[str(self.settings_dict["NAME"])]
        if not turn.acquire(timeout=self.settings_dict["OPTIONS"].get("timeout", 5)):
            raise OperationalError("database is locked")
        self._turn = turn
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._pass_turn()
            raise

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
