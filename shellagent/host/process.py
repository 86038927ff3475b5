"""The process around the loop: its threads, its signals, its watchdog and its end."""

import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

from shellagent.client.errors import Exit
from shellagent.host import console
from shellagent.host.backoff import Backoff
from shellagent.host.errors import (
    AnotherInstanceError,
    CallError,
    UnauthorisedError,
    UnavailableError,
    UpgradeRequiredError,
)
from shellagent.host.loop import Loop
from shellagent.host.notify import Notifier
from shellagent.host.watchdog import STALL_SECONDS, Watchdog
from shellagent.protocol import Desired, Reason

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
DRAIN_TICK_SECONDS: Final = 0.05
FAILURES_IN_A_ROW: Final = 5


class Process:
    """Runs a loop until it is told to end: the first TERM or INT waits for what runs, the second aborts it."""

    def __init__(self, loop: Loop, notifier: Notifier = Notifier()) -> None:  # noqa: B008 - it is frozen
        self.loop = loop
        self._notifier = notifier
        self._shown = ""
        self._attended = loop.clock()
        self._signals = 0
        self._exit: Exit | None = None
        self._is_over = threading.Event()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        loop.sessions.watch(self._wake_read, self._woken)

    def run(self) -> Exit:
        """Run until the end and return the exit code. To be called in the main thread."""
        with self._signals_taken():
            self._guard({"the loop": self._stepped, "the main thread": lambda: self._attended})
            for work, name in ((self._claim, "claim"), (self._watch, "watch")):
                threading.Thread(target=work, name=name, daemon=True).start()
            self._notifier.ready(self._now())
            self._attend()
        return self._end()

    def run_once(self) -> Exit:
        """Take what waits now, run it to its end, deliver, and return the exit code."""
        with self._signals_taken():
            self._guard({"the main thread": lambda: max(self._attended, self.loop.last_step)})
            self._notifier.ready("runs what waits now, once")
            self.loop.step(hold_seconds=0)
            self.loop.draining.set()
            self._attend()
        return self._end()

    def _attend(self) -> None:
        """Keep an eye on everything, until the end is due and nothing runs."""
        loop, has_aborted = self.loop, False
        while True:
            if (self._signals or self._exit is not None) and not loop.draining.is_set():
                loop.draining.set()
                count = len(loop.sessions.running_sessions())
                text = f"stopping: waiting for {count} running; a second signal aborts them" if count else "stopping"
                self._notifier.stopping(text)
                loop.say(text)
            if not has_aborted and (self._signals > 1 or self._exit is Exit.UNAUTHORISED):
                has_aborted = True
                loop.sessions.abort_all(Reason.AGENT_STOP)
            if loop.draining.is_set() and loop.sessions.is_idle():
                return
            if loop.sessions.supervisors.is_broken and self._exit is None:
                loop.say("its supervisors cannot be made any more; ending so that it can be started anew")
                self._exit = Exit.INTERNAL
            self._show()
            self._attended = loop.clock()
            loop.sessions.attend(DRAIN_TICK_SECONDS if loop.draining.is_set() else TICK_SECONDS)

    def _end(self) -> Exit:
        self._attended = self.loop.clock()
        self._is_over.set()
        console.show("")
        self.loop.sessions.is_closing = True
        self.loop.close()
        waiting = self.loop.sessions.journal.depth
        if waiting:
            self.loop.say(f"{waiting} results wait in the journal and go out at the next start")
        return self._exit or Exit.OK

    def _guard(self, moved: Mapping[str, Callable[[], float]]) -> None:
        Watchdog(moved, self.loop.say, self._notifier, self.loop.clock, STALL_SECONDS).start()

    def _stepped(self) -> float:
        # Once it is over, only the main thread still has something to do.
        return math.inf if self._is_over.is_set() else self.loop.last_step

    def _show(self) -> None:
        now = self._now()
        console.show(now)
        if now != self._shown:
            self._shown = now
            self._notifier.status(now)

    def _now(self) -> str:
        loop = self.loop
        connection = "connected" if loop.is_connected else "no server yet" if loop.is_connected is None else "no server"
        states = [
            connection,
            f"{len(loop.sessions.running_sessions())} of {loop.sessions.slots.count} running",
            f"{loop.sessions.journal.depth} results wait",
        ]
        if loop.draining.is_set():
            states.append("stopping")
        elif loop.desired_state == Desired.STOPPED:
            states.append("stopped by the server")
        return ", ".join(states)

    def _claim(self) -> None:
        backoff, failures = Backoff(), 0
        while not self._is_over.is_set():
            try:
                self.loop.step()
                failures = 0
                backoff.reset()
            except (UnauthorisedError, AnotherInstanceError, UpgradeRequiredError) as error:
                self.loop.say(str(error))
                self._finish(error.ends_with)
                return
            except CallError as error:
                logger.info("Poll: %s", error)
                wait = backoff.next()
                if isinstance(error, UnavailableError):
                    wait = max(wait, error.retry_after_seconds)
                self._is_over.wait(wait)
            except Exception:
                logger.exception("The loop met an error of its own")
                failures += 1
                if failures >= FAILURES_IN_A_ROW:
                    self._finish(Exit.INTERNAL)
                    return
                self._is_over.wait(backoff.next())

    def _watch(self) -> None:
        while not self._is_over.is_set():
            try:
                self.loop.watch_step()
            except CallError as error:
                logger.info("Poll: %s", error)
                self._is_over.wait(TICK_SECONDS)
            except Exception:
                # A host of which every slot is taken hears of orders to stop by this thread alone.
                logger.exception("The loop met an error of its own")
                self._is_over.wait(TICK_SECONDS)

    def _woken(self) -> None:
        os.read(self._wake_read, 64)

    def _finish(self, code: Exit) -> None:
        self._exit = code
        os.write(self._wake_write, b"x")

    @contextmanager
    def _signals_taken(self) -> Iterator[None]:
        def note(_number: int, _frame: FrameType | None) -> None:
            self._signals += 1

        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, note) for number in numbers}
        wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
