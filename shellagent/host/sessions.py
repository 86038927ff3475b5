"""The sessions on this host, from claim to result: prepare, start, hand over, keep, and what a crash left."""

import logging
import selectors
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shellagent import protocol
from shellagent.host import console, tree
from shellagent.host.channel import ClosedError, Message
from shellagent.host.claimed import Claimed, Ran, lost
from shellagent.host.client import Client
from shellagent.host.delivery import Delivery
from shellagent.host.errors import RefusedError
from shellagent.host.holding import Holding
from shellagent.host.journal import Journal, report_without_run
from shellagent.host.live import LiveOutput
from shellagent.host.runner import GRACE_SECONDS
from shellagent.host.settings import Settings
from shellagent.host.slots import Slot, Slots
from shellagent.host.starts import Starts
from shellagent.host.supervisors import Supervisors
from shellagent.host.zygote import Zygote
from shellagent.protocol import ExecutionReport, GrantStatus, PollAnswer, Reason, RunOutcome, StartGrant

if TYPE_CHECKING:
    # It loads the cryptography, which the processes that are forked before have no use for.
    from shellagent.host.pinned import Judge, PinnedKeys

logger = logging.getLogger(__name__)


@dataclass
class Sessions:
    """All sessions of one host process.

    One thread claims and calls `begin`; another calls `attend` in a loop and takes what supervisors tell. Results are
    sent on a thread of their own, so that a server that is slow to answer delays neither.
    """

    connect: Callable[[], Client]
    zygote: Zygote
    #: What supervisors are told of this host.
    settings: Settings
    journal: Journal
    slots: Slots
    instance_id: str
    boot_id: str
    host_id: str
    #: The host's own ceiling, and the secrets that it gives.
    holding: Holding
    #: By which a grant is known to be the server's.
    pinned: "PinnedKeys"
    say: Callable[[str], None]
    #: Set once the process is to end: a start without an answer is not asked for again.
    draining: threading.Event
    clock: Callable[[], float] = time.monotonic
    #: Ends what is left of a session; takes its id, and the pid and create time of its root or zeros.
    end_survivors: Callable[[str, int, float], tuple[int, ...]] = tree.end_survivors
    is_closing: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.supervisors = Supervisors(self.zygote, self.settings)
        self._live = LiveOutput(self.connect)
        self.delivery = Delivery(self.connect(), self.journal, self.instance_id, self._live.settle, self.clock)
        self._claimed: dict[str, Claimed] = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._starts = Starts(
            self.connect, self.instance_id, self.draining, self.clock, self._started, self._never_started
        )
        self._ran = Ran()

    def recover(self) -> int:
        """Report what an earlier process left running as lost, after ending it. Returns how many there were."""
        self.journal.load()
        reports = []
        for entry in self.journal.entries():
            began = entry.create_time if entry.boot_id == self.boot_id else 0.0
            left = self.end_survivors(entry.id, entry.pid if began else 0, began)
            detail = "The local agent ended while this session was starting or running; it was not run again."
            if left:
                detail += f" Processes still there: {', '.join(map(str, left))}."
            reports.append(lost(entry, detail))
        if reports:
            self.journal.add(reports)
        self.deliver()
        return len(reports)

    def running_ids(self) -> tuple[str, ...]:
        """Return the sessions whose leases are to be kept: claimed, running, or with a result not yet taken."""
        with self._lock:
            return tuple(dict.fromkeys((*self._claimed, *self.journal.ids())))

    def running_sessions(self) -> tuple[str, ...]:
        """Return the sessions that are claimed or running."""
        with self._lock:
            return tuple(self._claimed)

    def is_idle(self) -> bool:
        """Return whether no session is claimed or running."""
        return not self._claimed

    def deliver(self) -> None:
        """Have results sent that wait."""
        self.delivery.wake()

    def close(self) -> None:
        """Wait for the threads, send what is left to send, and end the supervisors."""
        self.is_closing = True
        self._starts.close()
        self.delivery.close()
        self.supervisors.end_all(self.slots.all)
        self._selector.close()
        self.journal.close()
        self.slots.remove()

    def abort_all(self, reason: Reason, grace_seconds: float = GRACE_SECONDS) -> None:
        """Stop every session."""
        for session_id in self.running_sessions():
            self.abort(session_id, reason, grace_seconds)

    def abort(self, session_id: str, reason: Reason, grace_seconds: float) -> None:
        """Stop one session if it is here; the same order may be given again."""
        with self._lock:
            claimed = self._claimed.get(session_id)
            if claimed is None:
                return
            is_new = claimed.order is None
            claimed.order = (reason, grace_seconds)
            is_running = claimed.is_running
        if is_running:
            self._send_order(claimed)
        if is_new:
            self.say(f"stopping {session_id}: {reason}")

    # The claiming thread

    def begin(self, client: Client, answer: PollAnswer, slots: Sequence[Slot], *, start_key: str) -> None:
        """Have everything that was claimed in one call looked at, and hand over what is granted.

        What was not granted with the claim, under this start key, is asked for. Raises CallError where the server
        refuses; where it cannot be reached, that is tried again on another thread.
        """
        taken = self._take(answer, slots, start_key)
        if not taken:
            return
        try:
            self.journal.begin(claimed.entry for claimed in taken)
        except OSError as error:
            logger.error("The journal cannot be written, so nothing is started: %s", error)
            for claimed in taken:
                self._drop(claimed)
                self._not_started(claimed, "the journal cannot be written")
            return
        digests = {assignment.id: assignment.digest for assignment in answer.sessions}
        judge = self._judge((grant, start_key, digests.get(grant.id, "")) for grant in answer.grants)
        with console.gathering():
            for claimed in taken:
                if claimed.grant is not None:
                    # Without a word of its supervisor, which says so where it refuses.
                    self._take_up(claimed, claimed.grant, judge)
        if left := [claimed for claimed in taken if claimed.grant is None and self._is_prepared(claimed)]:
            try:
                self._starts.ask(left, client)
            except BaseException:
                self._give_up(left)
                raise

    def _take(self, answer: PollAnswer, slots: Sequence[Slot], start_key: str) -> list[Claimed]:
        """Give each session a slot, and have its supervisor look at it."""
        grants = {grant.id: grant for grant in answer.grants if grant.status is GrantStatus.GRANTED}
        free, taken = list(slots), []
        known = set(self.running_ids())
        for assignment in answer.sessions:
            grant = grants.get(assignment.id)
            with self._lock:
                if assignment.id in known or not free or self.is_closing:
                    # One that is never started goes back to the queue when its lease is over, or is lost.
                    continue
                claimed = Claimed(assignment, free.pop(), grant=grant)
                if grant is not None:
                    claimed.start_key = start_key
                self._claimed[assignment.id] = claimed
                known.add(assignment.id)
            if self._send_to_prepare(claimed):
                taken.append(claimed)
        self.slots.give_back(*free)
        return taken

    def _send_to_prepare(self, claimed: Claimed) -> bool:
        try:
            secrets = self.holding.secrets_of(claimed.assignment)
        except RefusedError as error:
            self._refuse(claimed, Reason(error.reason), str(error))
            return False
        message = {"prepare": protocol.encode(claimed.assignment), "host_id": self.host_id, "secrets": secrets}
        if claimed.grant is None:
            message["answer"] = True
        if self.supervisors.tell(claimed.slot, message):
            return True
        self._not_started(claimed, "no supervisor could be made")
        return False

    def _is_prepared(self, claimed: Claimed) -> bool:
        """Take the supervisor's answer; what it refuses is reported."""
        try:
            message = claimed.supervisor.channel.receive()
            while message["id"] != claimed.id:
                message = claimed.supervisor.channel.receive()
        except ClosedError:
            burial = self.supervisors.end(claimed.slot)
            self._not_started(claimed, f"its supervisor {burial.cause()}")
            return False
        if "refused" in message:
            self._refuse(claimed, Reason(message["refused"]), message["detail"])
            return False
        return True

    def _not_started(self, claimed: Claimed, why: str) -> None:
        """Let go of a session that cannot be looked at here; one whose start was granted is reported."""
        self.say(f"not started {claimed.id}: {why}")
        if claimed.grant is not None:
            self._finish([(claimed, lost(claimed.entry, f"It was not started: {why}."))])
            return
        self.journal.end(claimed.id)
        self._forget(claimed)

    def _refuse(self, claimed: Claimed, reason: Reason, detail: str) -> None:
        """Report that a session does not run here."""
        self._finish([(claimed, self._refusal(claimed, reason, detail))])

    def _refusal(self, claimed: Claimed, reason: Reason, detail: str) -> ExecutionReport:
        """Say that a session does not run here. The start key is empty where its start was not granted."""
        self.say(f"refused {claimed.id}: {detail}")
        entry, start_key = claimed.entry, claimed.start_key if claimed.grant else ""
        return report_without_run(entry, outcome=RunOutcome.REFUSED, reason=reason, detail=detail, start_key=start_key)

    def _never_started(self, ready: Sequence[Claimed]) -> None:
        detail = "The answer to the start never arrived; the command did not run."
        for claimed in ready:
            self._drop(claimed)
        self._finish([(claimed, lost(claimed.entry, detail)) for claimed in ready])

    def _started(self, ready: Sequence[Claimed], answer: protocol.StartAnswer) -> None:
        grants, asked = {grant.id: grant for grant in answer.grants}, {item.id: item for item in ready}
        judge = self._judge(
            (grant, asked[grant.id].start_key, asked[grant.id].assignment.digest)
            for grant in answer.grants
            if grant.id in asked
        )
        for item in ready:
            grant = grants.get(item.id)
            if grant is not None and grant.status is GrantStatus.GRANTED:
                self._take_up(item, grant, judge)
            else:
                self.say(f"not started {item.id}: {(grant.detail or str(grant.status)) if grant else 'no grant'}")
                self._give_up([item])

    def _judge(self, grants: Iterable[tuple[StartGrant, str, str]]) -> "Judge":
        return self.pinned.judge(self.host_id, (item for item in grants if item[0].status is GrantStatus.GRANTED))

    def _take_up(self, claimed: Claimed, grant: StartGrant, judge: "Judge") -> None:
        """Have a granted session run, where the grant holds for what is about to run here."""
        claimed.grant = grant
        detail = judge(claimed.assignment, grant, claimed.start_key) or self._ran.refusal(claimed.id)
        if not detail:
            self._hand_over(claimed)
            return
        self._drop(claimed)
        self._refuse(claimed, Reason.BAD_GRANT, detail)

    def _hand_over(self, claimed: Claimed) -> None:
        with self._lock:
            order = claimed.order
            claimed.is_running = order is None
        if order is not None:
            self._drop(claimed)
            detail = "It was stopped before its program was started."
            report = report_without_run(claimed.entry, outcome=RunOutcome.ABORTED, reason=order[0], detail=detail)
            self._finish([(claimed, report)])
            return
        self._ran.note(claimed.id)
        self.say(f"run {claimed.id}: {claimed.shown}")
        try:
            channel = claimed.supervisor.channel
            channel.send({"run": claimed.id, "start_key": claimed.start_key})
        except ClosedError:
            self._finish([(claimed, self._lost_with_its_supervisor(claimed))])
            return
        # From here on it belongs to the thread that attends.
        self._selector.register(channel, selectors.EVENT_READ, claimed)
        if claimed.order is not None:
            self._send_order(claimed)

    def _give_up(self, items: Sequence[Claimed]) -> None:
        for claimed in items:
            self._drop(claimed)
            self.journal.end(claimed.id)
            self._forget(claimed)

    # The thread that attends

    def attend(self, timeout_seconds: float | None) -> None:
        """Take what supervisors tell, waiting for it at most so long. All results that are there are kept together."""
        finished: list[tuple[Claimed, ExecutionReport]] = []
        ready = self._selector.select(timeout_seconds)
        try:
            with console.gathering():
                for key, _ in ready:
                    if isinstance(key.data, Claimed):
                        report = self._heard(key.data)
                        if report is not None:
                            finished.append((key.data, report))
                    else:
                        key.data()
        finally:
            # What was taken is told by nobody again.
            if finished:
                self._finish(finished)

    def watch(self, descriptor: int, do: Callable[[], None]) -> None:
        """Have `attend` call `do` when a descriptor is readable."""
        self._selector.register(descriptor, selectors.EVENT_READ, do)

    def _heard(self, claimed: Claimed) -> ExecutionReport | None:
        """Take messages of a supervisor; returns the report once its session is over."""
        channel = claimed.supervisor.channel
        try:
            for message in channel.take():
                # What a session before it on this slot was refused for after it had been dropped is nobody's.
                report = self._understood(claimed, message) if message["id"] == claimed.id else None
                if report is not None:
                    self._selector.unregister(channel)
                    return report
        except ClosedError:
            self._selector.unregister(channel)
            return self._lost_with_its_supervisor(claimed)
        return None

    def _understood(self, claimed: Claimed, message: Message) -> ExecutionReport | None:
        if "report" in message:
            report = protocol.decode(ExecutionReport, message["report"])
            self.say(f"end {claimed.id}: {console.shown_end(report)}")
            return report
        if "failed" in message:
            return lost(claimed.entry, f"The local agent met an error of its own: {message['failed']}.")
        if "refused" in message:
            return self._refusal(claimed, Reason(message["refused"]), message["detail"])
        if "started" in message:
            self.journal.started(claimed.id, *message["started"])
        elif "output" in message:
            segment = protocol.decode(protocol.OutputSegment, message["output"])
            self._live.take(claimed.id, claimed.start_key, segment)
        return None

    # Any thread

    def _lost_with_its_supervisor(self, claimed: Claimed) -> ExecutionReport:
        burial = self.supervisors.end(claimed.slot)
        detail = f"The process that watched over this session {burial.cause()}; what it ran was ended with it."
        if burial.left_behind:
            detail = f"{detail[:-1]}, but {', '.join(map(str, burial.left_behind))} could not be ended."
        self.say(f"lost {claimed.id}: {detail}")
        return lost(claimed.entry, detail)

    def _send_order(self, claimed: Claimed) -> None:
        order = claimed.order
        try:
            if order is not None:
                claimed.supervisor.channel.send({"abort": claimed.id, "reason": order[0], "grace_seconds": order[1]})
        except ClosedError:
            logger.info("The supervisor of %s is gone", claimed.id)

    def _drop(self, claimed: Claimed) -> None:
        """Have the supervisor forget what it prepared."""
        try:
            claimed.supervisor.channel.send({"drop": claimed.id})
        except ClosedError:
            self.supervisors.end(claimed.slot)

    def _finish(self, finished: Sequence[tuple[Claimed, ExecutionReport]]) -> None:
        self.journal.add([report for _, report in finished])
        for claimed, _ in finished:
            self._forget(claimed)
        self.deliver()

    def _forget(self, claimed: Claimed) -> None:
        with self._lock:
            self._claimed.pop(claimed.id, None)
        self.slots.give_back(claimed.slot)
