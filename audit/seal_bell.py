"""How what writes events tells the process's sealer that something waits. Costs next to nothing where none runs."""

import threading
from typing import Final

from django.db import transaction

#: As many events are sealed at once rather than a second later.
ENOUGH: Final = 256


class SealBell:
    """Set while there is something to seal now. Counting is not exact across threads, and need not be."""

    def __init__(self) -> None:
        self._event: Final = threading.Event()
        self._count = 0

    def noted(self, count: int) -> None:
        """Count events that were written; they may not be committed yet."""
        self._count += count
        if self._count >= ENOUGH:
            self._count = 0
            self._event.set()

    def ring(self) -> None:
        """Have what waits sealed now."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most for so long. Returns whether there was one."""
        is_set = self._event.wait(seconds)
        self._event.clear()
        return is_set


bell = SealBell()
noted = bell.noted


def seal_on_commit() -> None:
    """Have what waits sealed as soon as the caller's transaction is committed, on the sealer's thread."""
    transaction.on_commit(bell.ring)
