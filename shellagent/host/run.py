"""One run of a plan: start its steps in turn, keep what they print, end everything when the time is over, and report.

One poll loop on one thread drives all of it: the captured output, the ends of processes, what the host itself has to
write, the deadline and orders to stop. Every child of this process that was not there before is the run's.
"""

import functools
import os
import select
import subprocess
import threading
from collections.abc import Callable
from typing import Final, Protocol

from governance.policy.plan import Join
from shellagent import protocol
from shellagent.host import denial, limits, pipes
from shellagent.host.capture import Capture
from shellagent.host.family import Family
from shellagent.host.pipeline import End, Pipeline, Running
from shellagent.host.runner import Prepared, Runner
from shellagent.host.writer import Writer
from shellagent.masking import Known
from shellagent.protocol import Reason, Rung, RunOutcome

DRAIN_SECONDS: Final = 2.0
#: How long a killed program may take to be gone before it is reported as left behind.
KILL_SECONDS: Final = 5.0
#: Output of a run that takes longer goes ahead of its record.
LIVE_AFTER_SECONDS: Final = 1.0
FIRST_TICK_SECONDS: Final = 0.1
TICK_SECONDS: Final = 1.0
#: Of each stream and tick.
LIVE_BYTES: Final = 64 * 1024


class Overseer(Protocol):
    """Whoever a run belongs to: what it is told while it runs, and where its orders come from."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when there are orders."""

    def obey(self, run: "Run") -> None:
        """Give the run the orders that are there. What this raises ends the run."""

    def started(self, pid: int) -> None:
        """Take note of the first process of a run that takes its time."""

    def output(self, stream: str, offset: int, data: bytes) -> None:
        """Take what is new of the head of a stream."""


class Run:
    """One started session, on one thread."""

    def __init__(
        self,
        runner: Runner,
        prepared: Prepared,
        start_key: str,
        *,
        overseer: Overseer | None = None,
        family: Family | None = None,
    ) -> None:
        self.runner = runner
        self.prepared = prepared
        self.id = prepared.assignment.id
        self.start_key = start_key
        known = Known.of(prepared.secrets)
        self.stdout = Capture("stdout", known=known)
        self.stderr = Capture("stderr", known=known)
        self.began = runner.clock()
        #: The first process; 0 as long as none was started.
        self.pid = 0
        self._steps: list[int | None] = [None] * len(prepared.plan.steps)
        self._exit_codes: list[int | None] = [None for _ in prepared.plan.commands()]
        self._next, self._first = 0, 0
        self._pipeline: Pipeline | None = None
        self._end = End(0)
        self._ended_by: Reason | None = None
        #: A sentence about why the host ended it.
        self._ended_why = ""
        self._rung = Rung.NONE
        self._family = family or Family()
        self._has_ended = False
        self._deadline = self.began + prepared.assignment.timeout_seconds
        self._poll = select.poll()
        #: What to do when a descriptor has something to say.
        self._watched: dict[int, Callable[[], None]] = {}
        self._streams: dict[int, Capture] = {}
        self._outputs: tuple[int, ...] = ()
        self._overseer = overseer
        self._was_told = False
        try:
            if overseer is not None:
                self._watch(overseer.fileno(), functools.partial(overseer.obey, self))
            self._open_outputs()
            self._advance()
        except BaseException:
            self._close()
            raise

    def abort(self, reason: Reason, grace_seconds: float) -> None:
        """End this run: TERM if nothing was sent yet, else at most a nearer KILL. The first reason stands."""
        if self._has_ended:
            return
        if self._rung is Rung.NONE:
            self._ended_by = reason
            self._send_term(grace_seconds)
        elif self._rung is Rung.TERM:
            self._deadline = min(self._deadline, self.runner.clock() + grace_seconds)

    def finish(self) -> protocol.ExecutionReport:
        """Wait for the end and report."""
        try:
            self._attend()
            left_behind = self._sweep()
            return self._report(left_behind)
        finally:
            self._close()

    # The plan

    def _open_outputs(self) -> None:
        outputs = []
        for capture in (self.stdout, self.stderr):
            read_end, write_end = os.pipe()
            outputs.append(write_end)
            self._streams[read_end] = capture
            self._watch(read_end, functools.partial(self._take, read_end))
        self._outputs = tuple(outputs)

    def _advance(self) -> None:
        """Start what comes next, until something has to be waited for or the plan is over."""
        while self._pipeline is None or self._pipeline.is_over:
            if self._pipeline is not None:
                self._note_step(self._pipeline)
            if not self._start_next():
                self._close_outputs()
                self._has_ended = True
                # From here on the deadline is that of whoever still holds a pipe.
                self._deadline = self.runner.clock() + DRAIN_SECONDS
                return

    def _note_step(self, pipeline: Pipeline) -> None:
        self._end = pipeline.end()
        self._steps[self._next - 1] = self._end.exit_code
        for running in pipeline.running:
            if running.end is not None:
                self._exit_codes[running.number] = running.end.exit_code

    def _start_next(self) -> bool:
        """Start the next step that the exit code so far lets run. Returns False where there is none."""
        if self._ended_by is not None:
            return False
        steps = self.prepared.plan.steps
        while self._next < len(steps):
            step, first = steps[self._next], self._first
            self._next += 1
            self._first += len(step.pipeline)
            if _UNLESS.get(step.join) is not bool(self._end.exit_code):
                self._pipeline = Pipeline(step, first)
                self._pipeline.start(self.runner, self.prepared, self._outputs)
                if self._next == len(steps):
                    self._close_outputs()
                for running in self._pipeline.running:
                    self._attend_to(running)
                return True
        return False

    def _attend_to(self, running: Running) -> None:
        process = running.process
        if process is not None:
            if not self.pid:
                self.pid = process.pid
            ended = _exit_descriptor(process)
            self._watch(ended, functools.partial(self._reap, running, process, ended))
        for writer in running.writers:
            if not writer.is_done:
                go_on = functools.partial(self._write, running, writer, writer.descriptor)
                self._watch(writer.descriptor, go_on, select.POLLOUT)

    # The loop

    def _watch(self, descriptor: int, do: Callable[[], None], event: int = select.POLLIN) -> None:
        self._watched[descriptor] = do
        self._poll.register(descriptor, event)

    def _unwatch(self, descriptor: int) -> None:
        del self._watched[descriptor]
        self._poll.unregister(descriptor)

    def _attend(self) -> None:
        """Return when the plan is over and its pipes are at their end, or the time for that is over."""
        clock = self.runner.clock
        tick_at, look_at = self.began + FIRST_TICK_SECONDS, self.began + limits.LOOK_SECONDS
        while not self._has_ended or self._streams:
            now = clock()
            if now >= self._deadline and not self._escalate(now):
                return
            if now >= tick_at:
                tick_at = now + TICK_SECONDS
                self._tick()
            if now >= look_at:
                look_at = now + limits.LOOK_SECONDS
                self._look_at_limits()
            wait = min(self._deadline, tick_at, look_at) - clock()
            for descriptor, _event in self._poll.poll(max(0.0, wait * 1000 + 0.5)):
                # Another one's turn may have ended this one.
                if descriptor in self._watched:
                    self._watched[descriptor]()

    def _tick(self) -> None:
        """Do what is done now and then: tell what is new, and wait for orphans that ended."""
        self._family.reap(kept=frozenset(process.pid for process in self._living()))
        overseer = self._overseer
        if overseer is None:
            return
        if self.pid and not self._was_told:
            self._was_told = True
            overseer.started(self.pid)
        if self.runner.clock() - self.began < LIVE_AFTER_SECONDS:
            return
        for capture in (self.stdout, self.stderr):
            data = capture.head_from(capture.told)[:LIVE_BYTES]
            if data:
                overseer.output(capture.stream, capture.told, data)
                capture.told += len(data)

    def _take(self, descriptor: int) -> None:
        if not pipes.read(descriptor, self._streams[descriptor]):
            self._unwatch(descriptor)
            del self._streams[descriptor]
            os.close(descriptor)

    def _reap(self, running: Running, process: "subprocess.Popen[bytes]", ended: int) -> None:
        self._unwatch(ended)
        os.close(ended)
        running.end = End.of(running.command.program, process.wait(), self.runner.limits)
        self._advance()

    def _write(self, running: Running, writer: Writer, descriptor: int) -> None:
        running.go_on(writer)
        if writer.is_done:
            self._unwatch(descriptor)
            self._advance()

    # Ending it

    def _look_at_limits(self) -> None:
        """End it at once where its processes take more than they may."""
        found = limits.excess(self.runner.limits, self._family.living())
        if found is not None and self._rung is Rung.NONE and not self._has_ended:
            reason, self._ended_why = found
            self.abort(reason, 0)

    def _send_term(self, grace: float) -> None:
        self._rung = Rung.TERM
        self._family.terminate()
        self._deadline = self.runner.clock() + grace

    def _escalate(self, now: float) -> bool:
        """Take the next rung; returns False when there is none left."""
        if self._has_ended:
            return False
        if self._rung is Rung.NONE:
            self._ended_by = Reason.TIMEOUT
            self._send_term(self.runner.grace_seconds)
        elif self._rung is Rung.TERM:
            self._rung = Rung.KILL
            # Those in sessions of their own too: they may hold the pipes.
            self._family.kill()
            self._deadline = now + KILL_SECONDS
        else:
            return False
        return True

    def _living(self) -> list["subprocess.Popen[bytes]"]:
        running = self._pipeline.running if self._pipeline is not None else []
        return [item.process for item in running if item.process is not None and item.end is None]

    def _sweep(self) -> tuple[int, ...]:
        """End what the plan left. Returns the pids that are still there."""
        if self._family.is_gone():
            return ()
        unkillable = {process.pid for process in self._living()}
        if self._rung is not Rung.NONE:
            self._family.settle()
        swept = self._family.sweep()
        if swept.had_living:
            self._rung = Rung.SWEEP
        for process in self._living():
            process.poll()  # what the sweep waited for, its handle does not know of
        for descriptor, capture in self._streams.items():
            pipes.drain(descriptor, capture)
        if unkillable := unkillable.intersection(swept.left_behind):
            self._end = End(0, Reason.EXIT, f"Process {', '.join(map(str, unkillable))} could not be killed.")
        return swept.left_behind

    def _close_outputs(self) -> None:
        for descriptor in self._outputs:
            os.close(descriptor)
        self._outputs = ()

    def _close(self) -> None:
        self.prepared.close()
        self._close_outputs()
        for capture in (self.stdout, self.stderr):
            capture.close()
        for running in self._pipeline.running if self._pipeline is not None else ():
            for writer in running.writers:
                self._watched.pop(writer.descriptor, None)
                writer.close()
        if self._overseer is not None:
            self._watched.pop(self._overseer.fileno(), None)
        for descriptor in self._watched:
            os.close(descriptor)
        self._watched.clear()

    # The result

    def _report(self, left_behind: tuple[int, ...]) -> protocol.ExecutionReport:
        outcome, reason = self._verdict()
        assignment, protections = self.prepared.assignment, self.prepared.confinement.protections
        stderr = self.stderr.segments()
        detail = self._ended_why or denial.hint(self._end.exit_code, stderr, protections) or self._end.detail
        return protocol.ExecutionReport(
            id=self.id,
            start_key=self.start_key,
            digest=assignment.digest,
            outcome=outcome,
            reason=reason,
            detail=detail,
            exit_codes=tuple(self._exit_codes),
            steps=tuple(self._steps),
            stdout=self.stdout.totals(),
            stderr=self.stderr.totals(),
            duration_us=int((self.runner.clock() - self.began) * 1_000_000),
            protections=protections,
            left_behind=left_behind,
            rung=self._rung,
            output=(*self.stdout.segments(), *stderr),
            masked=dict(self.stdout.masked + self.stderr.masked),
        )

    def _verdict(self) -> tuple[RunOutcome, Reason]:
        if self._ended_by is Reason.TIMEOUT:
            return RunOutcome.TIMED_OUT, Reason.TIMEOUT
        if self._ended_by is not None:
            return RunOutcome.ABORTED, self._ended_by
        return (RunOutcome.FAILED if self._end.exit_code else RunOutcome.SUCCEEDED), self._end.reason


#: Whether the exit code so far must not be (True), or must be (False), other than 0 for a step to run.
_UNLESS: Final = {Join.AND: True, Join.OR: False}


def _exit_descriptor(process: "subprocess.Popen[bytes]") -> int:
    """Return a descriptor that becomes readable when the process has ended."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(process.pid)
    read_end, write_end = os.pipe()

    def wait() -> None:
        process.wait()
        os.close(write_end)

    threading.Thread(target=wait, daemon=True, name=f"wait-{process.pid}").start()
    return read_end
