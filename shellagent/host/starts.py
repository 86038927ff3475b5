"""Asking for the starts of what was claimed without a grant, as from a server that gives none with the claim."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from shellagent import protocol
from shellagent.host.backoff import Backoff
from shellagent.host.claimed import Claimed
from shellagent.host.client import Client
from shellagent.host.errors import CallError, ConflictError, UnavailableError

logger = logging.getLogger(__name__)

#: A start that gets no answer for this long is given up; its lease is over then.
START_SECONDS: Final = 60.0


@dataclass
class Starts:
    """Asks once on the caller's thread; where the server cannot be reached, again and again on one of its own."""

    connect: Callable[[], Client]
    instance_id: str
    #: Set once the process is to end: a start without an answer is not asked for again.
    draining: threading.Event
    clock: Callable[[], float]
    #: Called with what was asked for and the answer.
    answered: Callable[[Sequence[Claimed], protocol.StartAnswer], None]
    #: Called with what never got one.
    unanswered: Callable[[Sequence[Claimed]], None]
    _later: list[threading.Thread] = field(default_factory=list, init=False, repr=False)

    def ask(self, ready: Sequence[Claimed], client: Client) -> None:
        """Ask for these starts. Raises CallError where the server refuses the call."""
        try:
            answer = self._ask(ready, client)
        except UnavailableError:
            # Others must not wait while this is tried again.
            self._later = [thread for thread in self._later if thread.is_alive()]
            self._later.append(threading.Thread(target=self._ask_later, args=(ready,), name="start", daemon=True))
            self._later[-1].start()
        else:
            self.answered(ready, answer)

    def close(self) -> None:
        """Wait for what is still being asked for."""
        for thread in self._later:
            thread.join()

    def _ask(self, ready: Sequence[Claimed], client: Client) -> protocol.StartAnswer:
        starts = tuple(protocol.Start(item.id, item.start_key, item.assignment.digest) for item in ready)
        try:
            return client.start(protocol.StartRequest(protocol.VERSION, self.instance_id, starts))
        except ConflictError as error:
            logger.error("The server refuses the start: %s", error)
            return protocol.StartAnswer(protocol.VERSION, ())

    def _ask_later(self, ready: Sequence[Claimed]) -> None:
        """Ask again, with the same start keys, until there is an answer or the lease is surely over."""
        client, backoff, deadline = self.connect(), Backoff(), self.clock() + START_SECONDS
        try:
            while self.clock() < deadline and not self.draining.wait(min(backoff.next(), 5.0)):
                try:
                    answer = self._ask(ready, client)
                except UnavailableError:
                    continue
                self.answered(ready, answer)
                return
        except CallError as error:
            logger.error("The start was refused: %s", error)
        finally:
            client.close()
        self.unanswered(ready)
