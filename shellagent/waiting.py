"""Holding a request until a session has ended. Waits are counted, so that no agent takes the threads hosts need."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from shellagent import queries, wake
from shellagent.models import ShellSession
from shellagent.services import sessions_expire
from shellagent.states import TERMINAL

_lock = threading.Lock()
_held: Counter[str] = Counter()


def session_wait(session: ShellSession, seconds: float, *, waiter: str) -> ShellSession:
    """Return the session once it has ended or the time is over, whichever is first.

    `waiter` names who waits; beyond the caps the session is returned as it stands, at once.
    """
    if seconds <= 0 or session.status in TERMINAL:
        return session
    deadline = time.monotonic() + seconds
    with place(waiter) as has_place, wake.listening(wake.session_channel(session.pk)) as bell:
        is_rung = True
        while has_place:
            bell.clear()
            has_ended = _has_ended(session, expires=not is_rung)
            remaining = wake.remaining_seconds(deadline)
            if has_ended or remaining <= 0:
                break
            wake.release_connection()
            is_rung = bell.wait(min(wake.RECHECK_SECONDS, remaining))
    return queries.session_with(session.pk)


def _has_ended(session: ShellSession, *, expires: bool) -> bool:
    """Look whether a session has ended. Where the database is gone for a moment, it is looked at again.

    An error would say of what was just kept that nothing was done: whoever reads that asks again, and it runs twice.
    """
    try:
        if expires:
            sessions_expire()
        return queries.session_status(session.pk) in TERMINAL
    except (OperationalError, InterfaceError):
        if not connection.in_atomic_block:
            connection.close()
        return False


@contextmanager
def place(waiter: str) -> Iterator[bool]:
    with _lock:
        has_place = _held[waiter] < settings.ATOM_WAITS_PER_KEY and _held.total() < settings.ATOM_WAITS_TOTAL
        if has_place:
            _held[waiter] += 1
    try:
        yield has_place
    finally:
        if has_place:
            with _lock:
                _held[waiter] -= 1
                if not _held[waiter]:
                    del _held[waiter]
