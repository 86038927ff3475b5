"""Whether the trail can be written and sealed, as far as this process knows.

A thread of the server looks every few seconds, by writing and not by asking; what fails meanwhile is noted as well. A
failure counts once it has lasted, so that no blink of a disk stops what runs. A database that is only busy, or away, is
no failure: then nobody knows what it holds, and the server is to its hosts as one that cannot be reached.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Final

from django.db import DatabaseError, InterfaceError, connection, transaction

from audit import triggers
from audit.key_files import KeyFileError
from audit.models import AuditWatch

#: A failure that has lasted for so long counts.
LASTS_SECONDS: Final = 10.0
#: What SQLite says where writing is not a matter of waiting (the low byte of its code): an error in the statement, such
#: as a table that is gone; no permission; read-only; a failing or full disk; a file that is damaged or none.
_SQLITE: Final = frozenset((1, 3, 8, 10, 11, 13, 14, 23, 26))
#: Classes of SQLSTATE alike, and single ones: read-only transaction, disk full.
_CLASSES: Final = ("42", "58", "XX")
_STATES: Final = frozenset(("25006", "53100"))


def is_failure(error: BaseException | None) -> bool:
    """Return whether an error shows that the trail cannot be written, rather than that it has to wait."""
    if isinstance(error, KeyFileError):
        return True
    cause = error.__cause__ if isinstance(error, DatabaseError | InterfaceError) else None
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _SQLITE
    # As psycopg's errors have it, which only a server on PostgreSQL imports.
    state = getattr(cause, "sqlstate", None) or ""
    return state in _STATES or state[:2] in _CLASSES


class Standing:
    """What this process knows. Any thread may tell it something or ask it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: Since when writing fails, when it did last, and why.
        self._since: float | None = None
        self._last = 0.0
        self._why = ""
        #: Since when what is written is not kept as it should be, and why.
        self._unkept_since = 0.0
        self._unkept = ""
        #: The ids of hosts on which commands run although nothing is written of them.
        self.best_effort: Collection[int] = ()

    def failed(self, error: BaseException) -> None:
        """Take in an error of a write, whatever it is."""
        if is_failure(error):
            with self._lock:
                self._last = self._clock()
                self._since = self._last if self._since is None else self._since
                self._why = " ".join(str(error).split())[:300] or type(error).__name__

    def looked(self, unkept: str) -> None:
        """Take in that a write succeeded, and why what is written is not kept as it should be, where that is so."""
        with self._lock:
            # One look may be between a step of the clock and the next sealing.
            if unkept and not self._unkept:
                self._unkept_since = self._clock()
            self._unkept = unkept
            # A small write may find room where others just did not.
            if self._since is not None and self._clock() - self._last >= LASTS_SECONDS / 2:
                self._since, self._why = None, ""

    @property
    def cannot_write(self) -> str:
        """Return why events cannot be written, once that has lasted, else an empty text."""
        since = self._since
        return self._why if since is not None and self._clock() - since >= LASTS_SECONDS else ""

    @property
    def failure(self) -> str:
        """Return why the trail cannot be kept, once that has lasted, else an empty text."""
        lasts = self._unkept and self._clock() - self._unkept_since >= LASTS_SECONDS
        return self.cannot_write or (self._unkept if lasts else "")

    def stops(self, host_id: int) -> bool:
        """Return whether nothing may run on a host, because the trail cannot be kept."""
        return bool(self.failure) and host_id not in self.best_effort

    def spares(self, host_ids: Sequence[int | None]) -> bool:
        """Return whether events about these hosts go unwritten, and what they tell of happens all the same."""
        return bool(self.cannot_write) and all(host_id in self.best_effort for host_id in host_ids)


standing: Final = Standing()


def standing_look(
    now: datetime,
    *,
    write: Callable[[datetime], object],
    unsealed: Callable[[datetime], str],
    known: Standing = standing,
) -> bool:
    """Have an event written and take it back. Returns whether that went; a failure is in `known`.

    `unsealed` says why what is written is not sealed, where that is so. Raises what is no failure, but shows a database
    that is busy or away.
    """
    try:
        with transaction.atomic():
            AuditWatch.objects.update_or_create(pk=1, defaults={"looked_at": now})
            with transaction.atomic():
                write(now)
                transaction.set_rollback(True)
        missing = triggers.missing(connection)
        unkept = f"the triggers {', '.join(missing)} are missing, disabled or changed" if missing else ""
        known.looked(unkept or unsealed(now))
    except (DatabaseError, InterfaceError, KeyFileError) as error:
        known.failed(error)
        if not is_failure(error):
            raise
        return False
    return True
