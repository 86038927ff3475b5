"""What all runs of a host share: checking an assignment against this host, and starting its program."""

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from governance.policy.plan import Plan
from shellagent import protocol
from shellagent.host import environment
from shellagent.host.errors import RefusedError
from shellagent.host.sandbox import Confinement, Sandbox
from shellagent.protocol import Assignment, Reason

logger = logging.getLogger(__name__)

GRACE_SECONDS: Final = 10.0
OOM_SCORE: Final = b"500"

Spawner = Callable[..., "subprocess.Popen[bytes]"]


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
        argv = tuple(word.literal or "" for word in commands[0].argv)
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

    def ended(self, pid: int) -> set[int]:
        """Forget a root that was waited for, and return the roots of the other runs."""
        with self._spawning:
            self.roots.discard(pid)
            return set(self.roots)

    def others(self, pid: int) -> set[int]:
        """Return the roots of all runs but one."""
        with self._spawning:
            return self.roots - {pid}


_HAS_PROC: Final = os.path.isdir("/proc/self/fd")
