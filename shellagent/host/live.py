"""Output while a command runs: what supervisors tell of it goes to the server, in order.

Best effort: whatever is not acknowledged here travels with the result.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from shellagent import protocol
from shellagent.host.client import Client
from shellagent.host.errors import CallError
from shellagent.protocol import OutputSegment

logger = logging.getLogger(__name__)


@dataclass
class LiveOutput:
    """Sends output on a thread of its own, which is there only while there is something to send."""

    connect: Callable[[], Client]
    _parts: deque[tuple[str, str, OutputSegment]] = field(default_factory=deque, init=False, repr=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)
    #: The session whose output is being sent just now.
    _sending: str = field(default="", init=False)
    _has_thread: bool = field(default=False, init=False)

    def take(self, session_id: str, start_key: str, segment: OutputSegment) -> None:
        """Send a part soon. Parts of one stream come in order, without a gap."""
        with self._changed:
            self._parts.append((session_id, start_key, segment))
            if not self._has_thread:
                self._has_thread = True
                try:
                    threading.Thread(target=self._send_all, name="live-output", daemon=True).start()
                except RuntimeError as error:
                    # As with what is not taken: all of it travels with the result.
                    logger.info("Live output of %s cannot be sent: %s", session_id, error)
                    self._has_thread = False
                    self._parts.clear()

    def settle(self, session_id: str) -> None:
        """Send no more of a session, and return when nothing of it is on its way."""
        with self._changed:
            self._forget(session_id)
            self._changed.wait_for(lambda: self._sending != session_id)

    def _forget(self, session_id: str) -> None:
        self._parts = deque(part for part in self._parts if part[0] != session_id)

    def _send_all(self) -> None:
        client = self.connect()
        try:
            while True:
                with self._changed:
                    self._sending = ""
                    self._changed.notify_all()
                    if not self._parts:
                        self._has_thread = False
                        return
                    session_id, start_key, segment = self._parts.popleft()
                    self._sending = session_id
                try:
                    client.output(session_id, protocol.OutputRequest(protocol.VERSION, start_key, (segment,)))
                except CallError as error:
                    # What follows would leave a gap; all of it travels with the result.
                    logger.info("Live output of %s was not taken: %s", session_id, error)
                    with self._changed:
                        self._forget(session_id)
        finally:
            client.close()
