"""Ending a process whose loop stalls. On a thread of its own, so that no other thread has to move for it."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from shellagent.client.errors import Exit
from shellagent.host.notify import Notifier

#: A poll is bounded by its hold and its time limits, far below this.
STALL_SECONDS: Final = 120.0
LOOK_EVERY_SECONDS: Final = 5.0
#: What hangs may be the very place that the last words go to.
LAST_WORDS_SECONDS: Final = 1.0


def end_process() -> None:
    """End at once: threads that hang would keep an orderly exit from ending too. Supervisors end what they run."""
    os._exit(Exit.STALLED)


@dataclass
class Watchdog:
    """Looks at when each of `moved` last moved, by `clock`; gives the service manager a sign of life while all do."""

    moved: Mapping[str, Callable[[], float]]
    say: Callable[[str], None]
    notifier: Notifier = field(default_factory=Notifier)
    clock: Callable[[], float] = time.monotonic
    stall_seconds: float = STALL_SECONDS
    end: Callable[[], None] = end_process

    def start(self) -> None:
        """Look for as long as the process lives."""
        threading.Thread(target=self._work, name="watchdog", daemon=True).start()

    def look(self) -> bool:
        """Look once. Returns whether all moved; where one did not, says so and ends the process."""
        now = self.clock()
        for name, when in self.moved.items():
            silent = now - when()
            if silent > self.stall_seconds:
                self._last_words(f"{name} has not moved for {silent:.0f} s; ending so that it can be started anew")
                self.end()
                return False
        if self.notifier.watchdog_seconds:
            self.notifier.alive()
        return True

    def _work(self) -> None:
        # A third of what is allowed, so that one late look is none too many.
        allowed = [self.stall_seconds, *([self.notifier.watchdog_seconds] if self.notifier.watchdog_seconds else [])]
        pause = min(LOOK_EVERY_SECONDS, *(seconds / 3 for seconds in allowed))
        while self.look():
            time.sleep(pause)

    def _last_words(self, text: str) -> None:
        speaker = threading.Thread(target=self.say, args=(text,), daemon=True)
        speaker.start()
        speaker.join(LAST_WORDS_SECONDS)
