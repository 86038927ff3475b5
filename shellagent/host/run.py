"""One run: keep the program's output, end it and all that it started when its time is over, and report."""

import contextlib
import math
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from shellagent import protocol
from shellagent.host.capture import Capture
from shellagent.host.runner import Prepared, Runner
from shellagent.host.tree import Tree, create_time
from shellagent.protocol import Reason, RunOutcome

READ_BYTES: Final = 64 * 1024
DRAIN_SECONDS: Final = 2.0
#: How long a killed program may take to be gone before it is reported as left behind.
KILL_SECONDS: Final = 5.0
LIVE_AFTER_SECONDS: Final = 1.0


class Rung(IntEnum):
    """How far the ending of a run has gone."""

    NONE = 0
    TERM = 1
    KILL = 2


class Run:
    """One started session. `finish` belongs to one thread; `abort` and the captures may be used by others."""

    def __init__(self, runner: Runner, prepared: Prepared, start_key: str) -> None:
        self.runner = runner
        self.prepared = prepared
        self.id = prepared.assignment.id
        self.start_key = start_key
        self.stdout = Capture("stdout")
        self.stderr = Capture("stderr")
        self.began = runner.clock()
        self.process: subprocess.Popen[bytes] | None = None
        self.detail = ""
        self._exit_code = 0
        self._ended_by: Reason | None = None
        self._rung = Rung.NONE
        self._streams: dict[int, Capture] = {}
        self._has_ended = False
        self._deadline = self.began + prepared.assignment.timeout_seconds
        self._order: tuple[Reason, float] | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closing = threading.Lock()
        #: Held by whoever sends output of the running command, so that no part is sent twice at once.
        self.sending = threading.Lock()
        self.is_finished = False
        self._launch()

    def _launch(self) -> None:
        status = self.prepared.program_status
        name = self.prepared.argv[0]
        try:
            if status:
                self._exit_code = status
                self.detail = (
                    f"{name} was not found on this host."
                    if status == 127
                    else f"{self.prepared.program} is not executable."
                )
                return
            self.process = self.runner.launch(self.prepared)
        except FileNotFoundError:
            # The program is there, so it is the interpreter in its first line that is not.
            self._exit_code, self.detail = 127, f"{name} or its interpreter was not found on this host."
        except PermissionError:
            self._exit_code, self.detail = 126, f"{name} may not be executed here."
        except OSError as error:
            self._exit_code, self.detail = 126, f"{name} could not be started: {error.strerror}."

    @property
    def pid(self) -> int:
        """Return the process id, 0 where nothing was started."""
        return self.process.pid if self.process is not None else 0

    def created_at(self) -> float:
        """Return the process's create time as psutil gives it, 0.0 where there is none."""
        return create_time(self.pid) if self.process is not None else 0.0

    def abort(self, reason: Reason, grace_seconds: float) -> None:
        """Ask for the end of this run, from any thread. The first order stands, but a shorter grace is taken."""
        order = self._order
        if order is not None:
            reason, grace_seconds = order[0], min(order[1], grace_seconds)
        self._order = (reason, grace_seconds)
        with self._closing:
            if not self.is_finished:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._wake_write, b"x")

    def finish(self, *, on_second: Callable[["Run"], None] | None = None) -> protocol.ExecutionReport:
        """Wait for the end and report. `on_second` is called once if the command still runs after a second."""
        try:
            left_behind = self._attend(self.process, on_second) if self.process is not None else ()
            with self.sending:
                return self._report(left_behind)
        finally:
            self.prepared.close()
            with self._closing, self.sending:
                self.is_finished = True
                os.close(self._wake_read)
                os.close(self._wake_write)

    def _attend(self, process: "subprocess.Popen[bytes]", on_second: Callable[["Run"], None] | None) -> tuple[int, ...]:
        """Read until the program has ended, then end what it left. Returns the pids that are still there."""
        tree = Tree(process.pid, self.id)
        with contextlib.ExitStack() as stack:
            for pipe, capture in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
                if pipe is not None:
                    stack.callback(pipe.close)
                    self._streams[pipe.fileno()] = capture
            ended = _exit_descriptor(process)
            stack.callback(os.close, ended)
            self._watch(process, tree, ended, on_second)
            status = process.poll()
            others = self.runner.ended(process.pid) if status is not None else self.runner.others(process.pid)
            left_behind: tuple[int, ...] = ()
            if tree.may_have_survivors(spare=others):
                left_behind = tree.sweep(spare=others)
                for descriptor, capture in self._streams.items():
                    _drain(descriptor, capture)
        if status is None:
            self.detail = f"Process {process.pid} could not be killed."
            return (process.pid, *left_behind)
        self._exit_code = 128 - status if status < 0 else status
        if self._ended_by is None and status < 0:
            self._ended_by = Reason.SIGNAL
            self.detail = f"Ended by {_signal_name(-status)}."
        return left_behind

    def _watch(
        self,
        process: "subprocess.Popen[bytes]",
        tree: Tree,
        ended: int,
        on_second: Callable[["Run"], None] | None,
    ) -> None:
        """Return when the program has ended and its pipes are at their end, or the time for that is over."""
        clock = self.runner.clock
        poll = select.poll()
        for descriptor in (*self._streams, ended, self._wake_read):
            poll.register(descriptor, select.POLLIN)
        open_streams = len(self._streams)
        live_at = self.began + LIVE_AFTER_SECONDS if on_second else math.inf
        while not self._has_ended or open_streams:
            now = clock()
            if now >= self._deadline and not self._escalate(tree, now):
                return
            if on_second is not None and now >= live_at:
                live_at = math.inf
                on_second(self)
            wait = min(self._deadline, live_at) - clock()
            for descriptor, _event in poll.poll(max(0.0, wait * 1000 + 0.5)):
                if descriptor in self._streams:
                    if not _read(descriptor, self._streams[descriptor]):
                        poll.unregister(descriptor)
                        open_streams -= 1
                elif descriptor == ended:
                    poll.unregister(ended)
                    process.wait()
                    self._has_ended = True
                    # From here on the deadline is that of whoever still holds a pipe.
                    self._deadline = clock() + DRAIN_SECONDS
                else:
                    os.read(self._wake_read, 64)
                    self._obey(tree)

    def _obey(self, tree: Tree) -> None:
        """Act on an order to abort: TERM if nothing was sent yet, else at most a nearer KILL."""
        if self._order is None or self._has_ended:
            return
        reason, grace = self._order
        if self._rung is Rung.NONE:
            self._ended_by = reason
            self._send_term(tree, grace)
        elif self._rung is Rung.TERM:
            self._deadline = min(self._deadline, self.runner.clock() + grace)

    def _send_term(self, tree: Tree, grace: float) -> None:
        self._rung = Rung.TERM
        tree.look()
        tree.terminate()
        self._deadline = self.runner.clock() + grace

    def _escalate(self, tree: Tree, now: float) -> bool:
        """Take the next rung; returns False when there is none left."""
        if self._has_ended:
            return False
        if self._rung is Rung.NONE:
            self._ended_by = Reason.TIMEOUT
            self._send_term(tree, self.runner.grace_seconds)
        elif self._rung is Rung.TERM:
            self._rung = Rung.KILL
            tree.look()
            if self.process is not None:
                self.process.kill()
            # Those in sessions of their own may hold the pipes; waiting for them would take the whole drain.
            tree.sweep(spare=self.runner.others(tree.root))
            self._deadline = now + KILL_SECONDS
        else:
            return False
        return True

    def _report(self, left_behind: tuple[int, ...]) -> protocol.ExecutionReport:
        outcome, reason = self._verdict()
        assignment = self.prepared.assignment
        return protocol.ExecutionReport(
            id=self.id,
            start_key=self.start_key,
            digest=assignment.digest,
            outcome=outcome,
            reason=reason,
            detail=self.detail,
            exit_codes=(self._exit_code,),
            stdout=self.stdout.totals(),
            stderr=self.stderr.totals(),
            duration_us=int((self.runner.clock() - self.began) * 1_000_000),
            protections=self.prepared.confinement.protections,
            left_behind=left_behind,
            output=(*self.stdout.segments(), *self.stderr.segments()),
        )

    def _verdict(self) -> tuple[RunOutcome, Reason]:
        if self.process is None:
            return RunOutcome.FAILED, Reason.NOT_FOUND if self._exit_code == 127 else Reason.EXIT
        if self._ended_by is Reason.TIMEOUT:
            return RunOutcome.TIMED_OUT, Reason.TIMEOUT
        if self._ended_by is Reason.SIGNAL:
            return RunOutcome.FAILED, Reason.SIGNAL
        if self._ended_by is not None:
            return RunOutcome.ABORTED, self._ended_by
        return (RunOutcome.FAILED if self._exit_code else RunOutcome.SUCCEEDED), Reason.EXIT


def _exit_descriptor(process: Any) -> int:
    """Return a descriptor that becomes readable when the process has ended."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(process.pid)
    read_end, write_end = os.pipe()

    def wait() -> None:
        process.wait()
        os.close(write_end)

    threading.Thread(target=wait, daemon=True, name=f"wait-{process.pid}").start()
    return read_end


def _read(descriptor: int, capture: Capture) -> bool:
    """Take what is there; returns False at the end."""
    try:
        data = os.read(descriptor, READ_BYTES)
    except OSError:
        return False
    if data:
        capture.feed(data)
    return bool(data)


def _drain(descriptor: int, capture: Capture) -> None:
    """Take what is left in a pipe without waiting for more."""
    os.set_blocking(descriptor, False)
    for _ in range(64):
        if not _read(descriptor, capture):
            return


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
