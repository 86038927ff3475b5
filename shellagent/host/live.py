"""Output while a command runs: about each second, what is new of its head goes to the server.

Best effort: whatever is not acknowledged here travels with the result.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from shellagent import protocol
from shellagent.host.capture import Capture
from shellagent.host.client import Client
from shellagent.host.delivery import expected_offset
from shellagent.host.errors import CallError, ConflictError
from shellagent.host.run import Run

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 1.0


@dataclass
class LiveOutput:
    """Follows runs on a thread of its own, which is there only while there is something to follow."""

    connect: Callable[[], Client]
    _runs: list[Run] = field(default_factory=list, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _is_following: bool = field(default=False, init=False)
    _wake: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def follow(self, run: Run) -> None:
        """Send this run's output from now on, until it is finished."""
        with self._lock:
            self._runs.append(run)
            if not self._is_following:
                self._is_following = True
                threading.Thread(target=self._follow_all, name="live-output", daemon=True).start()

    def _follow_all(self) -> None:
        client = self.connect()
        try:
            while True:
                with self._lock:
                    self._runs = [run for run in self._runs if not run.is_finished]
                    runs = list(self._runs)
                    if not runs:
                        self._is_following = False
                        return
                for run in runs:
                    self._send(client, run)
                self._wake.wait(INTERVAL_SECONDS)
        finally:
            client.close()

    def _send(self, client: Client, run: Run) -> None:
        for capture in (run.stdout, run.stderr):
            with run.sending:
                data = capture.head_from(capture.sent)[: protocol.SEGMENT_BYTES]
                if data and not run.is_finished:
                    self._send_part(client, run, capture, data)

    def _send_part(self, client: Client, run: Run, capture: Capture, data: bytes) -> None:
        segment = protocol.OutputSegment.of(capture.stream, capture.sent, data)
        request = protocol.OutputRequest(protocol.VERSION, run.start_key, (segment,))
        try:
            offsets = client.output(run.id, request)
        except ConflictError as error:
            offset = expected_offset(error, capture.stream)
            if offset is not None and offset <= capture.sent + len(data):
                capture.sent = offset
        except CallError as error:
            logger.info("Live output of %s was not taken: %s", run.id, error)
        else:
            capture.sent = min(offsets.get(capture.stream, capture.sent), capture.sent + len(data))
