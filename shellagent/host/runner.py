"""What all runs of a host share: checking an assignment against this host, and starting its program."""

import contextlib
import errno
import functools
import logging
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from governance.policy.paths import Protection, load_protection
from governance.policy.plan import Plan, Word
from governance.policy.types import Facts
from shellagent import protocol
from shellagent.host import environment
from shellagent.host.builtin import Place
from shellagent.host.ceiling import narrowed
from shellagent.host.errors import RefusedError
from shellagent.host.folder import Folder
from shellagent.host.git import OBLIGATION_GIT_HARDENED
from shellagent.host.grants import real_paths, system_trees
from shellagent.host.limits import Limits
from shellagent.host.reach import Reach, shown
from shellagent.host.sandbox import (
    OBLIGATION_DAEMON,
    OBLIGATION_NETWORK,
    OBLIGATION_READ_ONLY,
    OBLIGATION_SANDBOX,
    Confinement,
    Sandbox,
)
from shellagent.protocol import Assignment, PathGrant, Reason

logger = logging.getLogger(__name__)

GRACE_SECONDS: Final = 10.0
MOST_COMMANDS: Final = 32
#: What a decision may demand of this host; anything else is refused.
OBLIGATIONS: Final = frozenset(
    (OBLIGATION_SANDBOX, OBLIGATION_NETWORK, OBLIGATION_READ_ONLY, OBLIGATION_DAEMON, OBLIGATION_GIT_HARDENED)
)

#: Read once, before the supervisors are forked that share it.
shipped_protection = functools.cache(load_protection)

Spawner = Callable[..., "subprocess.Popen[bytes]"]


@dataclass(slots=True)
class Prepared:
    """An assignment that may be started: everything checked, the working directory open."""

    assignment: Assignment
    plan: Plan
    place: Place
    env: dict[str, str]
    confinement: Confinement
    #: Values by name, which are in `env` too and are masked in the output.
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def close(self) -> None:
        """Let the folder that the plan is in go."""
        self.place.folder.close()


@dataclass
class Runner:
    """What all runs of this host share. `clock` and `spawn` are attributes so that a test can swap them."""

    host_id: str
    scratch: str
    user: str
    sandbox: Sandbox
    protected: tuple[str, ...] = ()
    #: What `~` and `$HOME` stand for, as this host reports it; a program's own HOME is its agent's scratch folder.
    home: str = field(default_factory=lambda: os.path.expanduser("~"))
    protection: Protection = field(default_factory=shipped_protection)
    limits: Limits = field(default_factory=Limits)
    path: tuple[str, ...] = field(default_factory=environment.search_path)
    grace_seconds: float = GRACE_SECONDS
    #: No grant opens more than these, where there are any.
    roots: tuple[PathGrant, ...] | None = None
    clock: Callable[[], float] = time.monotonic
    spawn: Spawner = subprocess.Popen

    def __post_init__(self) -> None:
        self.nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._system = system_trees(self.sandbox.tool_roots)

    def close(self) -> None:
        """Let go of what all runs share."""
        os.close(self.nothing)

    def prepare(self, assignment: Assignment, temporary: Path, secrets: Mapping[str, str] | None = None) -> Prepared:
        """Check an assignment against this host. Raises RefusedError with its reason; nothing has happened then.

        `secrets` are the values of those that it names.
        """
        plan = self._checked_plan(assignment)
        if unknown := set(assignment.obligations) - OBLIGATIONS:
            raise RefusedError(Reason.HOST_CEILING, f"This host cannot meet {', '.join(sorted(unknown))}.")
        protected = tuple(dict.fromkeys((*self.protected, *assignment.protected)))
        grants = assignment.grants if self.roots is None else narrowed(assignment.grants, self.roots)
        # First of all, because what is not there is not opened.
        scratch = self._scratch_of(assignment)
        confinement = self.sandbox.confinement(
            grants=grants, obligations=assignment.obligations, protected=protected, temporary=temporary
        )
        # What only reads needs no caches there, and finds no start-up file that something left there.
        home = str(temporary) if OBLIGATION_READ_ONLY in assignment.obligations else scratch
        env = environment.build(
            assignment.id, assignment.env, path=self.path, home=home, temporary=str(temporary), user=self.user
        )
        # The names were let through by the host's own ceiling, and the values are its own.
        env |= secrets or {}
        reach = self._reach(grants, protected, scratch)
        folder = Folder.open(assignment.working_directory or scratch)
        if reason := reach.refusal_to_enter(folder.real):
            folder.close()
            raise RefusedError(Reason.HOST_CEILING, reason)
        place = Place(folder, self.home, self.user, reach)
        return Prepared(assignment, plan, place, env, confinement, secrets or {})

    def _scratch_of(self, assignment: Assignment) -> str:
        """Return the agent's own folder in the scratch folder, the first that is granted there, and make it.

        Without one it is the scratch folder itself. Raises RefusedError where the folder is a link or cannot be made.
        """
        base = os.path.normpath(self.scratch)
        own = next((grant.path for grant in assignment.grants if os.path.dirname(grant.path) == base), "")
        if not own:
            return self.scratch
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(own, 0o700)
                if (account := self.sandbox.account) is not None:
                    os.chown(own, account.uid, account.gid)
            if not stat.S_ISDIR(os.lstat(own).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as error:
            raise RefusedError(
                Reason.NO_FOLDER, f"The agent's scratch folder {shown(own)} cannot be made: {error.strerror}."
            ) from error
        return own

    def _checked_plan(self, assignment: Assignment) -> Plan:
        try:
            plan = Plan.from_json(assignment.plan)
        except ValueError as error:
            raise RefusedError(Reason.SPEC_MISMATCH, f"The plan cannot be read: {error}.") from error
        if protocol.assignment_digest(assignment, plan=plan, host_id=self.host_id) != assignment.digest:
            raise RefusedError(Reason.SPEC_MISMATCH, "What was sent is not what was decided: the digests differ.")
        if not 1 <= assignment.timeout_seconds <= 300:
            raise RefusedError(Reason.SPEC_MISMATCH, "The timeout is not between 1 and 300 seconds.")
        if sum(1 for _ in plan.commands()) > MOST_COMMANDS:
            raise RefusedError(Reason.SPEC_MISMATCH, f"The plan has more than {MOST_COMMANDS} commands.")
        if any("\0" in part.text for word in _words(plan) for part in word.parts):
            raise RefusedError(Reason.SPEC_MISMATCH, "A word of the plan holds a NUL byte.")
        return plan

    def _reach(self, grants: tuple[PathGrant, ...], protected: tuple[str, ...], scratch: str) -> Reach:
        if self.protection.problem:
            raise RefusedError(Reason.HOST_CEILING, f"The protected paths are not known: {self.protection.problem}.")
        return Reach.of(
            grants,
            tuple(os.path.realpath(grant.path) for grant in grants),
            scratch=os.path.realpath(scratch),
            system=self._system,
            protection=self.protection,
            facts=Facts(self.home, self.user, scratch, protected=real_paths(protected)),
        )

    def launch(
        self, prepared: Prepared, program: str, argv: Sequence[str], env: Mapping[str, str], files: Sequence[int]
    ) -> "subprocess.Popen[bytes]":
        """Start a program with `files` as its 0, 1 and 2. Raises OSError where the system cannot."""
        folder = prepared.place.folder
        return self.spawn(
            argv,
            executable=program,
            cwd=f"/proc/self/fd/{folder.descriptor}" if _HAS_PROC else folder.real,
            env=env,
            stdin=files[0],
            stdout=files[1],
            stderr=files[2],
            close_fds=True,
            start_new_session=True,
            umask=0o077,
        )


def _words(plan: Plan) -> Iterator[Word]:
    for command in plan.commands():
        yield from command.argv
        yield from (redirect.target for redirect in command.redirects if isinstance(redirect.target, Word))


_HAS_PROC: Final = os.path.isdir("/proc/self/fd")
