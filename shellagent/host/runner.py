"""Running one session: prepare and check everything, start the program, keep its output, end all of it, report."""

import contextlib
import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from governance.policy.plan import Plan
from shellagent import protocol
from shellagent.host import environment
from shellagent.host.capture import Capture
from shellagent.host.errors import RefusedError
from shellagent.host.sandbox import Confinement, Sandbox
from shellagent.host.tree import Tree, create_time
from shellagent.protocol import Assignment, Reason, RunOutcome

logger = logging.getLogger(__name__)

READ_BYTES: Final = 64 * 1024
GRACE_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 2.0
#: How long a killed program may take to be gone before it is reported as left behind.
KILL_SECONDS: Final = 5.0
LIVE_AFTER_SECONDS: Final = 1.0
OOM_SCORE: Final = b"500"

Spawner = Callable[..., "subprocess.Popen[bytes]"]


class Rung(IntEnum):
    """How far the ending of a run has gone."""

    NONE = 0
    TERM = 1
    KILL = 2


@dataclass(slots=True)
class Prepared:
    """An assignment that may be started: everything checked, the working directory open."""

    assignment: Assignment
    argv: tuple[str, ...]
    program: str
    #: 0, or the exit code that says why the program cannot be started.
    program_status: int
    directory: str
    directory_fd: int
    env: dict[str, str]
    temporary: Path
    confinement: Confinement

    def close(self) -> None:
        """Let the working directory go."""
        if self.directory_fd >= 0:
            os.close(self.directory_fd)
            self.directory_fd = -1


@dataclass
class Runner:
    """What all runs of this host share. `clock` and `spawn` are attributes so that a test can swap them."""

    host_id: str
    scratch: str
    user: str
    sandbox: Sandbox
    protected: tuple[str, ...] = ()
    path: tuple[str, ...] = field(default_factory=environment.search_path)
    grace_seconds: float = GRACE_SECONDS
    clock: Callable[[], float] = time.monotonic
    spawn: Spawner = subprocess.Popen
    #: The processes that this runner has started and not yet waited for.
    roots: set[int] = field(default_factory=set, init=False)
    _spawning: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of what all runs share."""
        os.close(self._nothing)

    def prepare(self, assignment: Assignment, temporary: Path) -> Prepared:
        """Check an assignment against this host. Raises RefusedError with its reason; nothing has happened then."""
        argv = self._checked_argv(assignment)
        wanted = assignment.working_directory or self.scratch
        protected = tuple(dict.fromkeys((*self.protected, *assignment.protected)))
        confinement = self.sandbox.confinement(
            grants=assignment.grants, obligations=assignment.obligations, protected=protected, temporary=temporary
        )
        env = environment.build(
            assignment.id, assignment.env, path=self.path, home=self.scratch, temporary=str(temporary), user=self.user
        )
        descriptor, directory = environment.open_directory(wanted)
        try:
            self._check_directory(directory, assignment, protected)
            program, status = environment.find_program(argv[0], path=self.path, directory=directory)
        except BaseException:
            os.close(descriptor)
            raise
        return Prepared(assignment, argv, program, status, directory, descriptor, env, temporary, confinement)

    def _checked_argv(self, assignment: Assignment) -> tuple[str, ...]:
        try:
            plan = Plan.from_json(assignment.plan)
        except ValueError as error:
            raise RefusedError(Reason.SPEC_MISMATCH, f"The plan cannot be read: {error}.") from error
        digest = protocol.session_digest(
            plan=plan,
            working_directory=assignment.working_directory,
            host_id=self.host_id,
            env=assignment.env,
            timeout_seconds=assignment.timeout_seconds,
            grants=assignment.grants,
            obligations=assignment.obligations,
        )
        if digest != assignment.digest:
            raise RefusedError(Reason.SPEC_MISMATCH, "What was sent is not what was decided: the digests differ.")
        if not 1 <= assignment.timeout_seconds <= 300:
            raise RefusedError(Reason.SPEC_MISMATCH, "The timeout is not between 1 and 300 seconds.")
        commands = list(plan.commands())
        if len(commands) != 1:
            raise RefusedError(
                Reason.SPEC_MISMATCH, "This version of the local agent runs one simple command at a time."
            )
        argv = commands[0].argv
        if any("\0" in word for word in argv):
            raise RefusedError(Reason.SPEC_MISMATCH, "An argument holds a NUL byte.")
        return argv

    def _check_directory(self, directory: str, assignment: Assignment, protected: tuple[str, ...]) -> None:
        if any(environment.is_within(directory, os.path.realpath(path)) for path in protected):
            raise RefusedError(Reason.HOST_CEILING, f"The working directory {directory} is protected on this host.")
        roots = [os.path.realpath(grant.path) for grant in assignment.grants] + [os.path.realpath(self.scratch)]
        if not any(environment.is_within(directory, root) for root in roots):
            raise RefusedError(
                Reason.HOST_CEILING, f"The working directory {directory} is outside the folders that were granted."
            )

    def start(self, prepared: Prepared, start_key: str) -> "Run":
        """Start a prepared session. The run that is returned has to be finished by `Run.finish`."""
        return Run(self, prepared, start_key)

    def launch(self, prepared: Prepared) -> "subprocess.Popen[bytes]":
        """Start the program, confined. Raises OSError where the system cannot."""

        def confined() -> "subprocess.Popen[bytes]":
            return self.spawn(
                prepared.argv,
                executable=prepared.program,
                cwd=f"/proc/self/fd/{prepared.directory_fd}" if _HAS_PROC else prepared.directory,
                env=prepared.env,
                stdin=self._nothing,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                close_fds=True,
                start_new_session=True,
                umask=0o077,
            )

        # Held so that nobody who looks for orphans takes a new child for one before it is listed here.
        with self._spawning:
            process = prepared.confinement.spawn(confined)
            self.roots.add(process.pid)
        with contextlib.suppress(OSError), open(f"/proc/{process.pid}/oom_score_adj", "wb", buffering=0) as file:
            file.write(OOM_SCORE)
        return process

    def others(self, pid: int) -> set[int]:
        """Return the roots of all runs but one."""
        with self._spawning:
            return self.roots - {pid}


_HAS_PROC: Final = os.path.isdir("/proc/self/fd")


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
            left_behind = self._attend(on_second) if self.process is not None else ()
            with self.sending:
                return self._report(left_behind)
        finally:
            self.prepared.close()
            with self._closing, self.sending:
                self.is_finished = True
                os.close(self._wake_read)
                os.close(self._wake_write)

    def _attend(self, on_second: Callable[["Run"], None] | None) -> tuple[int, ...]:
        process = self.process
        assert process is not None  # noqa: S101 - the caller has looked
        tree = Tree(process.pid, self.id)
        with contextlib.ExitStack() as stack:
            streams = {process.stdout.fileno(): self.stdout, process.stderr.fileno(): self.stderr}  # type: ignore[union-attr]
            stack.callback(process.stdout.close)  # type: ignore[union-attr]
            stack.callback(process.stderr.close)  # type: ignore[union-attr]
            ended = _exit_descriptor(process)
            stack.callback(os.close, ended)
            self._watch(process, tree, streams, ended, on_second)
            status = process.returncode if process.returncode is not None else process.poll()
            with self.runner._spawning:
                if status is not None:
                    self.runner.roots.discard(process.pid)
            others = self.runner.others(process.pid)
            left_behind: tuple[int, ...] = ()
            if tree.may_have_survivors(spare=others):
                left_behind = tree.sweep(spare=others)
                for descriptor, capture in streams.items():
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
        streams: dict[int, Capture],
        ended: int,
        on_second: Callable[["Run"], None] | None,
    ) -> None:
        """Read until the program has ended and its pipes are at their end, or the time for that is over."""
        clock = self.runner.clock
        poll = select.poll()
        for descriptor in (*streams, ended, self._wake_read):
            poll.register(descriptor, select.POLLIN)
        open_streams = set(streams)
        drain_until = None
        live_at = self.began + LIVE_AFTER_SECONDS if on_second else None
        while True:
            now = clock()
            if drain_until is not None and (not open_streams or now >= drain_until):
                return
            if drain_until is None and now >= self._deadline and not self._escalate(tree, now):
                return
            if live_at is not None and now >= live_at and on_second is not None:
                live_at = None
                on_second(self)
            limits = [drain_until if drain_until is not None else self._deadline]
            if live_at is not None:
                limits.append(live_at)
            for descriptor, _event in poll.poll(max(0.0, (min(limits) - clock()) * 1000 + 0.5)):
                if descriptor in open_streams:
                    if not _read(descriptor, streams[descriptor]):
                        open_streams.discard(descriptor)
                        poll.unregister(descriptor)
                elif descriptor == ended:
                    process.wait()
                    poll.unregister(ended)
                    drain_until = clock() + DRAIN_SECONDS
                else:
                    os.read(self._wake_read, 64)
                    self._obey(tree)

    def _obey(self, tree: Tree) -> None:
        """Act on an order to abort: TERM if nothing was sent yet, else at most a nearer KILL."""
        if self._order is None:
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
        if self._rung is Rung.NONE:
            self._ended_by = Reason.TIMEOUT
            self._send_term(tree, self.runner.grace_seconds)
        elif self._rung is Rung.TERM:
            self._rung = Rung.KILL
            tree.look()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(tree.root, signal.SIGKILL)
            if self.process is not None:
                self.process.kill()
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
