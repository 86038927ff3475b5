"""Getting results to the server: oldest first, together when they finish together, until each is acknowledged."""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from shellagent import protocol
from shellagent.host.backoff import Backoff
from shellagent.host.client import Client
from shellagent.host.errors import CallError, ConflictError, DeclinedError, UnauthorisedError, UnavailableError
from shellagent.host.journal import Journal, Spooled
from shellagent.host.run import LIVE_AFTER_SECONDS

logger = logging.getLogger(__name__)

BATCH: Final = 32
#: Base64 text in one record.
MOST_INLINE_TEXT: Final = protocol.INLINE_BYTES * 4 // 3 + 8
#: A result that the server turned away is offered again after this long, behind the others.
TURNED_AWAY_SECONDS: Final = 300.0


@dataclass
class Delivery:
    """Sends the results that wait. Any thread may call `flush`; one at a time does the work for all of them."""

    client: Client
    journal: Journal
    instance_id: str
    #: Called with a session whose long output is to be sent: what went ahead of it must have arrived by then.
    settle: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    #: The last trouble, one sentence; empty while all is well.
    trouble: str = field(default="", init=False)
    _not_before: float = field(default=0.0, init=False)
    _backoff: Backoff = field(default_factory=Backoff, init=False)
    _sending: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _news: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _thread: threading.Thread | None = field(default=None, init=False, repr=False)
    _is_closing: bool = field(default=False, init=False)

    def wake(self) -> None:
        """Have results sent that wait, on a thread of this one's own, which the first of them starts."""
        if self._thread is None and self.journal.depth:
            self._thread = threading.Thread(target=self._work, name="delivery", daemon=True)
            self._thread.start()
        self._news.set()

    def close(self) -> None:
        """Wait for the thread, send what is left to send, and close the connection."""
        self._is_closing = True
        self._news.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()
        self.client.close()

    def _work(self) -> None:
        while not self._is_closing:
            self._news.wait(self.due_in())
            self._news.clear()
            try:
                self.flush()
            except Exception:
                logger.exception("A thread of the local agent met an error of its own")

    def due_in(self) -> float | None:
        """Return in how many seconds to try next, or None where nothing waits."""
        return max(0.05, self._not_before - self.clock()) if self.journal.depth else None

    def is_due(self) -> bool:
        """Return whether a result waits that should be sent now."""
        now = self.clock()
        return now >= self._not_before and not self._sending.locked() and bool(self.journal.next(1, now=now))

    def flush(self) -> None:
        """Send what is due. Returns at once where another thread is already at it: that one takes ours along."""
        while self.is_due() and self._sending.acquire(blocking=False):
            try:
                self._send_all()
            finally:
                self._sending.release()

    def _send_all(self) -> None:
        while items := self.journal.next(BATCH, now=self.clock()):
            try:
                self._send(items)
            except UnauthorisedError as error:
                # The poll meets the same answer and ends the process; the results stay for the next one.
                self._pause(error)
                return
            except CallError as error:
                self._pause(error)
                return
            self._backoff.reset()
            self.trouble = ""

    def _pause(self, error: CallError) -> None:
        self.trouble = str(error)
        self._not_before = self.clock() + self._backoff.next()

    def _send(self, items: Sequence[Spooled]) -> None:
        ready: list[tuple[Spooled, protocol.ExecutionReport]] = []
        for item in items:
            report = self.journal.read(item)
            if report is not None:
                ready.append((item, self._without_long_output(report)))
        if not ready:
            return
        records = tuple(report for _, report in ready)
        try:
            answer = self.client.record(protocol.RecordRequest(protocol.VERSION, self.instance_id, records))
        except DeclinedError as error:
            self._turned_away([item for item, _ in ready], error)
            return
        acknowledged = [item for item, _ in ready if item.id in answer.statuses]
        for item in acknowledged:
            if answer.statuses[item.id] in ("conflict", "unknown"):
                logger.error("The server answered %r to the result of %s.", answer.statuses[item.id], item.id)
        self.journal.acknowledge(acknowledged)
        if len(acknowledged) < len(ready):
            raise UnavailableError("The server did not acknowledge every result.")

    def _turned_away(self, items: Sequence[Spooled], error: DeclinedError) -> None:
        """Find the one that the server does not take, so that it does not hold up the others."""
        if len(items) > 1:
            for item in items:
                self._send([item])
            return
        logger.error("The server does not take the result of %s: %s It is kept.", items[0].id, error)
        items[0].not_before = self.clock() + TURNED_AWAY_SECONDS

    def _without_long_output(self, report: protocol.ExecutionReport) -> protocol.ExecutionReport:
        """Send output ahead of its record where it is long, or part of it may have gone ahead while it ran.

        What this returns depends on the report alone, so that a record that is sent again is the same record.
        """
        size = sum(len(segment.data) for segment in report.output)
        if size <= MOST_INLINE_TEXT and report.duration_us < LIVE_AFTER_SECONDS * 1_000_000:
            return report
        if size:
            self.settle(report.id)
            try:
                self._send_output(report)
            except DeclinedError as error:
                # The session is closed: an earlier record arrived, and its answer was lost.
                logger.info("Output of %s was not taken: %s", report.id, error)
        return dataclasses.replace(report, output=())

    def _send_output(self, report: protocol.ExecutionReport) -> None:
        expected = self._output_call(report, ())
        for segment in report.output:
            start = segment.offset
            known = expected.get(segment.stream, 0)
            content = segment.content()[max(0, known - start) :]
            if content:
                start = max(start, known)
                part = protocol.OutputSegment.of(segment.stream, start, content, is_tail=segment.is_tail)
                expected = self._output_call(report, (part,))

    def _output_call(
        self, report: protocol.ExecutionReport, segments: tuple[protocol.OutputSegment, ...]
    ) -> dict[str, int]:
        return self.client.output(report.id, protocol.OutputRequest(protocol.VERSION, report.start_key, segments))


def expected_offset(error: ConflictError, stream: str) -> int | None:
    """Return the offset that a refusal of output asks for, or None where it does not say."""
    offsets = error.problem.get("expected_offset")
    offset = offsets.get(stream) if isinstance(offsets, Mapping) else None
    return offset if type(offset) is int else None
