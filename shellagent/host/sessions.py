"""The sessions on this host, from their claim to their result: start, run, spool, deliver, and what a crash left."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from shellagent import protocol
from shellagent.host import console, tree
from shellagent.host.backoff import Backoff
from shellagent.host.client import Client
from shellagent.host.delivery import Delivery
from shellagent.host.errors import CallError, ConflictError, RefusedError, UnavailableError
from shellagent.host.journal import Entry, Journal, Spool, report_without_run
from shellagent.host.live import LiveOutput
from shellagent.host.run import Run
from shellagent.host.runner import GRACE_SECONDS, Prepared, Runner
from shellagent.host.slots import Slot, Slots
from shellagent.protocol import Assignment, ExecutionReport, GrantStatus, Reason, RunOutcome

logger = logging.getLogger(__name__)

#: A start that gets no answer for this long is given up; its lease is over then.
START_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Claimed:
    """A session between its claim and its start."""

    assignment: Assignment
    slot: Slot
    start_key: str
    prepared: Prepared


@dataclass
class Sessions:
    """All sessions of one host process. Each that is granted runs on a thread of the pool."""

    connect: Callable[[], Client]
    runner: Runner
    journal: Journal
    spool: Spool
    slots: Slots
    instance_id: str
    boot_id: str
    say: Callable[[str], None]
    #: Set once the process is to end: a start without an answer is not asked for again.
    draining: threading.Event
    clock: Callable[[], float] = time.monotonic
    #: Ends what is left of a session; takes its id, and the pid and create time of its root or zeros.
    end_survivors: Callable[[str, int, float], tuple[int, ...]] = tree.end_survivors
    is_closing: bool = field(default=False, init=False)
    runs: dict[str, Run] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.delivery = Delivery(self.connect(), self.spool, self.instance_id, self.clock)
        self._live = LiveOutput(self.connect)
        self._pool = ThreadPoolExecutor(max_workers=self.slots.count + 2, thread_name_prefix="session")
        self._claimed: dict[str, Slot] = {}
        self._orders: dict[str, tuple[Reason, float]] = {}
        self._lock = threading.Lock()

    def recover(self) -> int:
        """Report what an earlier process left running as lost, after ending it. Returns how many there were."""
        self.spool.load()
        finished, count = self.spool.ids(), 0
        for entry in self.journal.entries():
            if entry.id not in finished:
                began = entry.create_time if entry.boot_id == self.boot_id else 0.0
                left = self.end_survivors(entry.id, entry.pid if began else 0, began)
                detail = "The local agent ended while this session was starting or running; it was not run again."
                if left:
                    detail += f" Processes still there: {', '.join(map(str, left))}."
                self.spool.add(
                    report_without_run(entry, outcome=RunOutcome.LOST, reason=Reason.AGENT_RESTART, detail=detail)
                )
                count += 1
            self.journal.end(entry.id)
        return count

    def running_ids(self) -> tuple[str, ...]:
        """Return the sessions whose leases are to be kept: claimed, running, or with a result not yet taken."""
        with self._lock:
            return tuple(dict.fromkeys((*self._claimed, *self.spool.ids())))

    def running_sessions(self) -> tuple[str, ...]:
        """Return the sessions that are claimed or running."""
        with self._lock:
            return tuple(self._claimed)

    def is_idle(self) -> bool:
        """Return whether no session is claimed or running."""
        return not self._claimed

    def deliver(self) -> None:
        """Send results that are due, on another thread. To be called now and then."""
        if self.delivery.is_due():
            self._pool.submit(self._guarded, self.delivery.flush)

    def close(self) -> None:
        """Wait for the threads, send what is left to send, and remove the temporary folders."""
        self._pool.shutdown(wait=True)
        self.delivery.flush()
        self.delivery.client.close()
        self.slots.remove()

    def abort_all(self, reason: Reason, grace_seconds: float = GRACE_SECONDS) -> None:
        """Stop every session."""
        with self._lock:
            ids = list(self._claimed)
        for session_id in ids:
            self.abort(session_id, reason, grace_seconds)

    def abort(self, session_id: str, reason: Reason, grace_seconds: float) -> None:
        """Stop one session if it is here; the same order may be given again."""
        with self._lock:
            if session_id not in self._claimed:
                return
            is_new = session_id not in self._orders
            self._orders[session_id] = (reason, grace_seconds)
            run = self.runs.get(session_id)
        if run is not None:
            run.abort(reason, grace_seconds)
        if is_new:
            self.say(f"stopping {session_id}: {reason}")

    def begin(self, client: Client, assignments: Sequence[Assignment], slots: Sequence[Slot]) -> None:
        """Ask for the start of everything that was claimed in one call, and hand each that is granted to a thread.

        Raises CallError where the server refuses; where it cannot be reached, that is tried again on another thread.
        """
        free = list(slots)
        ready = []
        for assignment in assignments:
            with self._lock:
                is_known = assignment.id in self._claimed or assignment.id in self.spool.ids()
                if is_known or not free or self.is_closing:
                    # A session that is never started goes back to the queue when its lease is over.
                    continue
                slot = free.pop()
                self._claimed[assignment.id] = slot
            claimed = self._prepare(assignment, slot)
            if claimed is not None:
                ready.append(claimed)
        self.slots.give_back(*free)
        if not ready:
            return
        try:
            self.journal.begin(Entry(item.assignment.id, item.start_key, item.assignment.digest) for item in ready)
        except OSError as error:
            logger.error("The journal cannot be written, so nothing is started: %s", error)
            self._give_up(ready)
            return
        try:
            answer = self._ask_start(ready, client)
        except UnavailableError:
            # Others must not wait while this is tried again.
            self._pool.submit(self._guarded, self._begin_later, ready)
        except BaseException:
            self._give_up(ready)
            raise
        else:
            self._started(ready, answer)

    def _prepare(self, assignment: Assignment, slot: Slot) -> _Claimed | None:
        try:
            prepared = self.runner.prepare(assignment, slot.temporary)
        except (RefusedError, OSError, ValueError) as error:
            reason = Reason(error.reason) if isinstance(error, RefusedError) else Reason.HOST_CEILING
            entry = Entry(assignment.id, "", assignment.digest)
            report = report_without_run(entry, outcome=RunOutcome.REFUSED, reason=reason, detail=str(error))
            self.say(f"refused {assignment.id}: {error}")
            self._pool.submit(self._guarded, self._finish, assignment.id, slot, report)
            return None
        return _Claimed(assignment, slot, str(uuid.uuid4()), prepared)

    def _ask_start(self, ready: Sequence[_Claimed], client: Client) -> protocol.StartAnswer:
        starts = tuple(protocol.Start(item.assignment.id, item.start_key, item.assignment.digest) for item in ready)
        try:
            return client.start(protocol.StartRequest(protocol.VERSION, self.instance_id, starts))
        except ConflictError as error:
            logger.error("The server refuses the start: %s", error)
            return protocol.StartAnswer(protocol.VERSION, ())

    def _begin_later(self, ready: Sequence[_Claimed]) -> None:
        """Ask again, with the same start keys, until there is an answer or the lease is surely over."""
        client, backoff, deadline = self.connect(), Backoff(), self.clock() + START_SECONDS
        try:
            while self.clock() < deadline and not self.draining.wait(min(backoff.next(), 5.0)):
                try:
                    answer = self._ask_start(ready, client)
                except UnavailableError:
                    continue
                self._started(ready, answer)
                return
        except CallError as error:
            logger.error("The start was refused: %s", error)
        finally:
            client.close()
        for item in ready:
            item.prepared.close()
            detail = "The answer to the start never arrived; the command did not run."
            entry = Entry(item.assignment.id, item.start_key, item.assignment.digest)
            report = report_without_run(entry, outcome=RunOutcome.LOST, reason=Reason.AGENT_RESTART, detail=detail)
            self._finish(item.assignment.id, item.slot, report)

    def _started(self, ready: Sequence[_Claimed], answer: protocol.StartAnswer) -> None:
        granted = {grant.id for grant in answer.grants if grant.status is GrantStatus.GRANTED}
        details = {grant.id: grant.detail or str(grant.status) for grant in answer.grants}
        not_granted = [item for item in ready if item.assignment.id not in granted]
        for item in not_granted:
            self.say(f"not started {item.assignment.id}: {details.get(item.assignment.id, 'no grant')}")
        self._give_up(not_granted)
        for item in ready:
            if item.assignment.id in granted:
                self._pool.submit(self._guarded, self._run, item)

    def _give_up(self, items: Sequence[_Claimed]) -> None:
        for item in items:
            item.prepared.close()
            self.journal.end(item.assignment.id)
            self._forget(item.assignment.id, item.slot, may_be_in_use=False)

    def _run(self, item: _Claimed) -> None:
        entry = Entry(item.assignment.id, item.start_key, item.assignment.digest)
        with self._lock:
            order = self._orders.get(entry.id)
        if order is not None:
            item.prepared.close()
            detail = "It was stopped before its program was started."
            report = report_without_run(entry, outcome=RunOutcome.ABORTED, reason=order[0], detail=detail)
        else:
            try:
                report = self._run_to_end(item)
            except Exception as error:
                logger.exception("The run of %s met an error of the local agent's own", entry.id)
                self.end_survivors(entry.id, 0, 0.0)
                detail = f"The local agent met an error of its own: {type(error).__name__}."
                report = report_without_run(entry, outcome=RunOutcome.LOST, reason=Reason.AGENT_RESTART, detail=detail)
        self._finish(entry.id, item.slot, report)

    def _run_to_end(self, item: _Claimed) -> ExecutionReport:
        session_id = item.assignment.id
        self.say(f"run {session_id}: {console.shown_command(item.prepared.plan.source())}")
        run = Run(self.runner, item.prepared, item.start_key)
        with self._lock:
            self.runs[session_id] = run
            order = self._orders.get(session_id)
        if order is not None:
            run.abort(*order)
        if run.pid:
            self.journal.started(session_id, run.pid, run.created_at())
        report = run.finish(on_second=self._live.follow)
        self.say(f"end {session_id}: {console.shown_end(report)}")
        return report

    def _finish(self, session_id: str, slot: Slot, report: ExecutionReport) -> None:
        self.spool.add(report)
        self.journal.end(session_id)
        self._forget(session_id, slot, may_be_in_use=bool(report.left_behind))
        self.delivery.flush()

    def _forget(self, session_id: str, slot: Slot, *, may_be_in_use: bool) -> None:
        slot.clean(may_be_in_use=may_be_in_use)
        with self._lock:
            self._claimed.pop(session_id, None)
            self.runs.pop(session_id, None)
            self._orders.pop(session_id, None)
        self.slots.give_back(slot)

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Run work of the pool; whatever it meets is in the log, because nobody looks at the future."""
        try:
            work(*arguments)
        except Exception:
            logger.exception("A thread of the local agent met an error of its own")
