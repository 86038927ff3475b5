"""The loop: poll, claim, ask for the start, run, deliver. One thread polls; each slot's session runs on its own."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from shellagent import protocol
from shellagent.host import console
from shellagent.host.backoff import Backoff
from shellagent.host.client import Client
from shellagent.host.delivery import Delivery
from shellagent.host.errors import CallError, ConflictError, RefusedError, UnavailableError
from shellagent.host.journal import Entry, Journal, Spool, report_without_run
from shellagent.host.live import LiveOutput
from shellagent.host.runner import GRACE_SECONDS, Prepared, Run, Runner
from shellagent.host.slots import Slot, Slots
from shellagent.protocol import Assignment, GrantStatus, PollAnswer, Reason, RunOutcome

logger = logging.getLogger(__name__)

HOLD_SECONDS: Final = 20
#: A poll that cannot claim only because of this host's own state is held shorter: that state may change any moment.
SHORT_HOLD_SECONDS: Final = 5
#: With no free slot, another thread polls once the claiming one has not for this long.
WATCH_AFTER_SECONDS: Final = 0.5
#: Where the queue was not emptied by the last claim, waiting this long for more free slots makes larger batches.
LINGER_SECONDS: Final = 0.015
#: Pause after answers that came at once and brought nothing, such as a cancel that is already being obeyed.
NOTHING_NEW_SECONDS: Final = 0.25
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
class Loop:
    """Everything that goes on in the process of one host. `step` and `watch_step` are what its threads repeat."""

    client: Client
    runner: Runner
    journal: Journal
    spool: Spool
    slots: Slots
    instance_id: str
    boot_id: str
    facts: protocol.HostFacts
    version: str
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    #: Set once the process is to end: nothing more is claimed.
    draining: threading.Event = field(default_factory=threading.Event)
    is_connected: bool | None = field(default=None, init=False)
    desired_state: str = field(default=protocol.Desired.RUNNING, init=False)
    runs: dict[str, Run] = field(default_factory=dict, init=False)
    last_step: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.delivery = Delivery(self.client.another(), self.spool, self.instance_id)
        self._watcher = self.client.another()
        self._live = LiveOutput(self.client.another)
        self._pool = ThreadPoolExecutor(max_workers=self.slots.count + 2, thread_name_prefix="session")
        self._claim_key = str(uuid.uuid4())
        self._claimed: dict[str, Slot] = {}
        self._orders: dict[str, tuple[Reason, float]] = {}
        self._lock = threading.Lock()
        self._audit_failed = False
        self._is_closing = False
        self._queue_was_left = False
        self._empty_answers = 0
        self._is_polling = False
        self.last_step = self.clock()

    def recover(self, end_survivors: Callable[[str, int, float], tuple[int, ...]]) -> int:
        """Report what an earlier process left running as lost, after ending it. Returns how many there were."""
        self.spool.load()
        finished, count = self.spool.ids(), 0
        for entry in self.journal.entries():
            if entry.id not in finished:
                began = entry.create_time if entry.boot_id == self.boot_id else 0.0
                left = end_survivors(entry.id, entry.pid if began else 0, began)
                detail = "The local agent ended while this session was starting or running; it was not run again."
                if left:
                    detail += f" Processes still there: {', '.join(map(str, left))}."
                self.spool.add(
                    report_without_run(entry, outcome=RunOutcome.LOST, reason=Reason.AGENT_RESTART, detail=detail)
                )
                count += 1
            self.journal.end(entry.id)
        return count

    def step(self, *, hold_seconds: int = HOLD_SECONDS) -> bool:
        """Poll once and start what was claimed. Returns whether there was any. Raises CallError.

        With no free slot it waits for one, for a second at most, and then returns False without polling.
        """
        self.last_step = self.clock()
        if not self._may_claim():
            short = min(hold_seconds, SHORT_HOLD_SECONDS)
            is_stopped = self.desired_state == protocol.Desired.STOPPED
            self._poll(self.client, str(uuid.uuid4()), 0, hold_seconds if is_stopped else short)
            return False
        least = max(1, self.slots.count // 4) if self._queue_was_left else 1
        slots = self.slots.take(timeout_seconds=1.0, least=least, linger_seconds=LINGER_SECONDS)
        if not slots:
            return False
        self._is_polling = True
        try:
            answer = self._poll(self.client, self._claim_key, len(slots), hold_seconds)
            # The answer was read: only now may another claim be made.
            self._claim_key = str(uuid.uuid4())
            self._queue_was_left = len(answer.sessions) >= len(slots)
        except BaseException:
            self.slots.give_back(*slots)
            raise
        finally:
            self._is_polling = False
            self.last_step = self.clock()
        self._begin(answer.sessions, slots)
        return bool(answer.sessions)

    def watch_step(self, *, hold_seconds: int = SHORT_HOLD_SECONDS) -> bool:
        """While every slot is taken, poll without claiming, for heartbeat and cancels. Returns whether it polled."""
        if not self.slots.wait_until_full(timeout_seconds=hold_seconds):
            return False
        self.draining.wait(WATCH_AFTER_SECONDS)
        if self._is_polling or self.slots.free:
            return False
        self._poll(self._watcher, str(uuid.uuid4()), 0, hold_seconds)
        return True

    def running_ids(self) -> tuple[str, ...]:
        """Return the sessions whose leases this host wants to keep: claimed, running, or with a result not yet taken."""
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

    def abort_all(self, reason: Reason, grace_seconds: float = GRACE_SECONDS) -> None:
        """Stop every session."""
        with self._lock:
            ids = list(self._claimed)
        for session_id in ids:
            self._abort(session_id, reason, grace_seconds)

    def farewell(self) -> None:
        """Tell the server that nothing more will be claimed, once, and do not wait. What comes now is not begun."""
        self._is_closing = True
        client = self.client.another()
        try:
            self._poll(client, self._claim_key, 0, 0)
        except CallError as error:
            logger.info("The last poll failed: %s", error)
        finally:
            client.close()

    def close(self) -> None:
        """Wait for the threads, close connections and remove the temporary folders."""
        self._pool.shutdown(wait=True)
        self.delivery.flush()
        self.slots.remove()
        for client in (self.client, self._watcher, self.delivery.client):
            client.close()

    def _may_claim(self) -> bool:
        return not (
            self.draining.is_set()
            or self._audit_failed
            or self.desired_state == protocol.Desired.STOPPED
            or self.spool.is_full
        )

    def _poll(self, client: Client, claim_key: str, free_slots: int, hold_seconds: int) -> PollAnswer:
        began = self.clock()
        request = protocol.PollRequest(
            v=protocol.VERSION,
            instance_id=self.instance_id,
            boot_id=self.boot_id,
            claim_key=claim_key,
            free_slots=free_slots,
            running=self.running_ids(),
            spool=self.spool.depth,
            protections=self.runner.sandbox.protections,
            facts=self.facts,
            version=self.version,
            hold_seconds=hold_seconds,
        )
        try:
            answer = client.poll(request)
            if answer.v != protocol.VERSION:
                raise UnavailableError(f"The server speaks version {answer.v} of the protocol.")
        except UnavailableError as error:
            self._note_connection(is_connected=False, detail=str(error))
            raise
        self._note_connection(is_connected=True)
        self._obey(answer)
        if answer.sessions or self.clock() - began > NOTHING_NEW_SECONDS or not hold_seconds:
            self._empty_answers = 0
        else:
            self._empty_answers += 1
            if self._empty_answers > 1:
                self.draining.wait(NOTHING_NEW_SECONDS)
        return answer

    def _obey(self, answer: PollAnswer) -> None:
        self.runner.host_id = self.runner.host_id or answer.host_id
        if answer.desired_state != self.desired_state:
            self.desired_state = answer.desired_state
            is_stopped = answer.desired_state == protocol.Desired.STOPPED
            self.say("stopped by the server: claiming nothing" if is_stopped else "resumed by the server")
        self._audit_failed = answer.audit == "failed"
        if self._audit_failed and not self.is_idle():
            self.say("the server cannot write its audit trail: stopping what runs")
            self.abort_all(Reason.AGENT_STOP)
        for order in answer.cancel:
            try:
                reason = Reason(order.reason)
            except ValueError:
                reason = Reason.CANCEL
            self._abort(order.id, reason, order.grace_seconds)

    def _abort(self, session_id: str, reason: Reason, grace_seconds: float) -> None:
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

    def _note_connection(self, *, is_connected: bool, detail: str = "") -> None:
        if is_connected == self.is_connected:
            return
        self.say(f"connected to {self.client.url}" if is_connected else f"{detail} Trying again until it does.")
        self.is_connected = is_connected

    def _begin(self, assignments: Sequence[Assignment], slots: Sequence[Slot]) -> None:
        """Ask for the start of everything that was claimed in one call, and hand each that is granted to a thread."""
        free = list(slots)
        ready = []
        for assignment in assignments:
            with self._lock:
                is_known = assignment.id in self._claimed or assignment.id in self.spool.ids()
                if is_known or not free or self._is_closing:
                    # A session that is never started goes back to the queue when its lease is over.
                    continue
                slot = free.pop()
                self._claimed[assignment.id] = slot
            claimed = self._prepare(assignment, slot)
            if claimed is not None:
                ready.append(claimed)
        self.slots.give_back(*free)
        if not ready:
            self.deliver()
            return
        try:
            self.journal.begin(Entry(item.assignment.id, item.start_key, item.assignment.digest) for item in ready)
        except OSError as error:
            logger.error("The journal cannot be written, so nothing is started: %s", error)
            self._give_up(ready)
            return
        try:
            answer = self._ask_start(ready)
        except UnavailableError:
            # Others must not wait while this is tried again.
            self._pool.submit(self._guarded, self._begin_later, ready)
        else:
            self._started(ready, answer)

    def _prepare(self, assignment: Assignment, slot: Slot) -> _Claimed | None:
        try:
            prepared = self.runner.prepare(assignment, slot.temporary)
        except (RefusedError, OSError, ValueError) as error:
            reason = Reason(error.reason) if isinstance(error, RefusedError) else Reason.SPEC_MISMATCH
            entry = Entry(assignment.id, "", assignment.digest)
            report = report_without_run(entry, outcome=RunOutcome.REFUSED, reason=reason, detail=str(error))
            self.say(f"refused {assignment.id}: {error}")
            self._finish(assignment.id, slot, report)
            return None
        return _Claimed(assignment, slot, str(uuid.uuid4()), prepared)

    def _ask_start(self, ready: Sequence[_Claimed], client: Client | None = None) -> protocol.StartAnswer:
        starts = tuple(protocol.Start(item.assignment.id, item.start_key, item.assignment.digest) for item in ready)
        try:
            return (client or self.client).start(protocol.StartRequest(protocol.VERSION, self.instance_id, starts))
        except ConflictError as error:
            logger.error("The server refuses the start: %s", error)
            return protocol.StartAnswer(protocol.VERSION, ())

    def _begin_later(self, ready: Sequence[_Claimed]) -> None:
        """Ask again, with the same start keys, until there is an answer or the lease is surely over."""
        client, backoff, deadline = self.client.another(), Backoff(), self.clock() + START_SECONDS
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
        assignment = item.assignment
        with self._lock:
            order = self._orders.get(assignment.id)
        if order is not None:
            item.prepared.close()
            entry = Entry(assignment.id, item.start_key, assignment.digest)
            detail = "It was stopped before its program was started."
            report = report_without_run(entry, outcome=RunOutcome.ABORTED, reason=order[0], detail=detail)
            self._finish(assignment.id, item.slot, report)
            return
        self.say(f"run {assignment.id}: {console.shown_argv(item.prepared.argv)}")
        run = self.runner.start(item.prepared, item.start_key)
        with self._lock:
            self.runs[assignment.id] = run
            order = self._orders.get(assignment.id)
        if order is not None:
            run.abort(*order)
        if run.pid:
            self.journal.started(assignment.id, run.pid, run.created_at())
        report = run.finish(on_second=self._live.follow)
        self.say(f"end {assignment.id}: {console.shown_end(report)}")
        self._finish(assignment.id, item.slot, report)

    def _finish(self, session_id: str, slot: Slot, report: protocol.ExecutionReport) -> None:
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
