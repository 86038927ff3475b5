"""Waking held requests: inside this process at once, and on PostgreSQL in every other process by NOTIFY.

A ring says only "look again"; what is true is in the database. A waiter registers before it looks, so that no ring
between its look and its wait is lost, and looks again every RECHECK_SECONDS in case a ring never came.
"""

import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from django.db import connection, transaction

RECHECK_SECONDS = 2.0
_CHANNEL = "atom_wake"
#: PostgreSQL takes a payload of less than 8000 bytes; a name is at most 60.
_NAMES_EACH = 100

logger = logging.getLogger(__name__)


class Bell(Protocol):
    """What a ring sets: an event that somebody waits for, or a call that the clerk holds."""

    def set(self) -> None:
        """Take note that there is something to look at."""


_lock = threading.Lock()
_waiters: dict[str, list["Bell"]] = {}
_gathering = threading.local()
_listener: threading.Thread | None = None
_closing = threading.Event()


def host_channel(host_id: int) -> str:
    """Return the name under which a host's held poll listens."""
    return f"host:{host_id}"


def session_channel(session_id: object) -> str:
    """Return the name under which those who wait for a session listen."""
    return f"session:{session_id}"


def ring_on_commit(*names: str) -> None:
    """Wake who listens to these names once the caller's transaction is committed."""
    gathered: set[str] | None = getattr(_gathering, "names", None)
    if gathered is not None:
        gathered.update(names)
        return
    transaction.on_commit(lambda: ring(names))
    tell_others(names)


@contextmanager
def gathering() -> Iterator[set[str]]:
    """Let this thread's rings be collected in a set: whoever gathers tells the others, commits, and rings."""
    names: set[str] = set()
    _gathering.names = names
    try:
        yield names
    finally:
        _gathering.names = None


def tell_others(names: Collection[str]) -> None:
    """Let other processes hear of these rings once the caller's transaction is committed."""
    if not names or connection.vendor != "postgresql":
        return
    listed = sorted(names)
    with connection.cursor() as cursor:
        for start in range(0, len(listed), _NAMES_EACH):
            payload = " ".join(listed[start : start + _NAMES_EACH])
            cursor.execute("SELECT pg_notify(%s, %s)", [_CHANNEL, payload])


def ring(names: Iterable[str], *, but: Collection[Bell] = ()) -> None:
    """Set every bell of this process that listens to one of these names, `but` those that know already."""
    with _lock:
        for name in names:
            for bell in _waiters.get(name, ()):
                if bell not in but:
                    bell.set()


def bells(names: Iterable[str]) -> list[Bell]:
    """Return the bells that listen to these names, each once."""
    with _lock:
        return list(dict.fromkeys(bell for name in names for bell in _waiters.get(name, ())))


@contextmanager
def listening(name: str) -> Iterator[threading.Event]:
    """Yield an event that is set by the next ring of `name`."""
    event = threading.Event()
    listen(name, event)
    try:
        yield event
    finally:
        leave(name, event)


def listen(name: str, bell: Bell) -> None:
    """Set this bell at every ring of `name`, until `leave`."""
    if connection.vendor == "postgresql":
        _listen()
    with _lock:
        _waiters.setdefault(name, []).append(bell)


def leave(name: str, bell: Bell) -> None:
    """Set this bell no more."""
    with _lock:
        _waiters[name].remove(bell)
        if not _waiters[name]:
            del _waiters[name]


def remaining_seconds(deadline: float) -> float:
    """Return how long a held request may wait still: not at all once this process is about to stop."""
    return 0.0 if _closing.is_set() else deadline - time.monotonic()


def close() -> None:
    """Let every held request answer now, because this process is about to stop."""
    _closing.set()
    with _lock:
        names = tuple(_waiters)
    ring(names)


def release_connection() -> None:
    """Give the database connection back before a wait, where connections are pooled."""
    if connection.settings_dict.get("OPTIONS", {}).get("pool") and not connection.in_atomic_block:
        connection.close()


def _listen() -> None:
    global _listener  # noqa: PLW0603  (one listening connection a process)
    with _lock:
        if _listener is not None and _listener.is_alive():
            return
        _listener = threading.Thread(target=_relay, name="wake", daemon=True)
        _listener.start()


def _relay() -> None:
    import psycopg  # noqa: PLC0415  (needed on PostgreSQL only)

    params = connection.get_connection_params()
    wanted = {name: value for name, value in params.items() if name in {"dbname", "user", "password", "host", "port"}}
    while True:
        try:
            with psycopg.connect(**wanted, autocommit=True) as listening_connection:
                listening_connection.execute(f"LISTEN {_CHANNEL}")
                for notification in listening_connection.notifies():
                    ring(notification.payload.split(" "))
        except psycopg.Error as error:
            logger.warning("wake-ups from other processes are late for a moment: %s", error)
            time.sleep(1)
