"""The thread that seals and publishes in a server process, so that no caller waits for it.

It looks once a second, and at once when it is rung for: at an approval, at a start, when many events wait. Under a
steady ringing it seals twice a second. Any process may have one; the schedule of every minute is the backstop.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone

from audit.anchors import anchors_publish
from audit.key_files import KeyFileError
from audit.seal_bell import SealBell, bell
from audit.sealing import SealError, seal
from audit.standing import standing, standing_look
from audit.tags import Tag
from audit.trail import SYSTEM, Event, losses_tell, record
from audit.trail_health import unsealed_reason

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
#: Between two sealings that were rung for.
GAP_SECONDS: Final = 0.5
#: Between two looks whether the trail can be written.
LOOK_SECONDS: Final = 5.0


def _write(now: datetime) -> None:
    """Write an event that is taken back."""
    record(Event(Tag.TRAIL_READ, SYSTEM, SYSTEM))


class Sealer:
    """Seals whenever there is something. `publish` is called on a thread of its own: a sink may be slow."""

    def __init__(
        self,
        *,
        rung: SealBell = bell,
        clock: Callable[[], datetime] = timezone.now,
        publish: Callable[[datetime], object] = anchors_publish,
        best_effort: Callable[[], Collection[int]] = lambda: (),
    ) -> None:
        self._bell = rung
        self._clock = clock
        self._publish = publish
        self._best_effort = best_effort
        self._sealed = threading.Event()
        self._told = ""

    def start(self) -> None:
        """Work until the process ends."""
        threading.Thread(target=self._seal_always, name="sealer", daemon=True).start()
        threading.Thread(target=self._publish_always, name="anchors", daemon=True).start()
        threading.Thread(target=self._look_always, name="standing", daemon=True).start()

    def step(self) -> bool:
        """Seal once. Returns whether more waits. An error is logged once, until there is another or none."""
        try:
            close_old_connections()
            sealed = seal(self._clock())
        except (DatabaseError, InterfaceError, KeyFileError, SealError) as error:
            if str(error) != self._told:
                logger.error("the trail could not be sealed: %s", error)
            self._told = str(error)
            connection.close()
            return False
        self._told = ""
        if sealed is not None and sealed.number:
            self._sealed.set()
        return sealed is not None and not sealed.is_all

    def _seal_always(self) -> None:
        while True:
            self._bell.wait(TICK_SECONDS - GAP_SECONDS)
            while self.step():
                pass
            time.sleep(GAP_SECONDS)

    def look(self) -> None:
        """Look once whether the trail can be written, and tell of what was lost once it can be again."""
        was = standing.failure
        try:
            close_old_connections()
            standing.best_effort = frozenset(self._best_effort())
            if standing_look(self._clock(), write=_write, unsealed=unsealed_reason) and not standing.cannot_write:
                losses_tell()
        except (DatabaseError, InterfaceError, KeyFileError) as error:
            logger.warning("it could not be seen whether the trail can be written: %s", error)
            connection.close()
        if standing.failure != was:
            words = "the audit trail cannot be kept, so nothing new runs but in best effort: %s"
            logger.error(words, standing.failure) if standing.failure else logger.warning(
                "the audit trail is kept again"
            )

    def _look_always(self) -> None:
        while True:
            self.look()
            time.sleep(LOOK_SECONDS)

    def _publish_always(self) -> None:
        while True:
            self._sealed.wait()
            self._sealed.clear()
            try:
                close_old_connections()
                self._publish(self._clock())
            except (DatabaseError, InterfaceError) as error:
                logger.error("a checkpoint could not be noted as published: %s", error)
                connection.close()
