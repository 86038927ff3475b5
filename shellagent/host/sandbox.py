"""Confining a command: a thread of its own gives up what it may do, starts the program and ends.

Only that thread and its child are confined. Every command gets a new domain, so that one cannot signal another. What
this leaves open is written down in the documentation.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from _thread import start_new_thread
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import landlockpy

# `Ruleset.restrict` enters a ruleset once only; the calls that it is made of let one ruleset serve many commands.
from landlockpy._syscall import restrict_self, set_no_new_privs

from shellagent.host import probe, seccomp
from shellagent.host.capabilities import Account, drop_capabilities
from shellagent.host.errors import RefusedError
from shellagent.host.grants import WRITE, Mark, Rule, base_rules, granted_rules, real_paths, rules_for
from shellagent.protections import FILE_PROTECTION, missing
from shellagent.protocol import PathGrant, Reason

logger = logging.getLogger(__name__)

T = TypeVar("T")

OBLIGATION_SANDBOX: Final = "sandbox"
OBLIGATION_NETWORK: Final = "network"
OBLIGATION_READ_ONLY: Final = "read-only"
OBLIGATION_DAEMON: Final = "daemon"
_IS_LINUX: Final = sys.platform.startswith("linux")
KEPT_RULESETS: Final = 64
SYSTEM_SECONDS: Final = 1.0
FILTER_PROTECTION: Final = "seccomp"


@dataclass(frozen=True, slots=True)
class Confinement:
    """What one command is confined by; the protections are the names of what of it was proved on this machine."""

    protections: tuple[str, ...] = ()
    ruleset: landlockpy.Ruleset | None = None
    program: seccomp.Program | None = None
    account: Account | None = None

    def enter(self) -> None:
        """Confine the calling thread, for good. Raises OSError."""
        if self.account is not None:
            self.account.become()
        drop_capabilities()
        set_no_new_privs()
        if self.ruleset is not None:
            restrict_self(self.ruleset.fileno())
        if self.program is not None:
            self.program.load()

    def spawn(self, start: Callable[[], T]) -> T:
        """Call `start` in a confined thread and return what it returns. Raises what it raises, or OSError."""

        def confined() -> T:
            self.enter()
            return start()

        return _on_a_thread(confined)

    def as_its_user(self, do: Callable[[], None]) -> None:
        """Call `do` as the user that the command runs as, otherwise unconfined. Raises what it raises, or OSError.

        Without every right of root's, only that user may set limits of its processes.
        """
        account = self.account
        if account is None:
            do()
            return

        def become() -> None:
            account.become()
            do()

        _on_a_thread(become)


def _on_a_thread(do: Callable[[], T]) -> T:
    """Call something on a thread of its own, which ends with what it has given up."""
    results: list[T] = []
    errors: list[BaseException] = []
    is_over = threading.Lock()

    def work() -> None:
        try:
            results.append(do())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            errors.append(error)
        finally:
            is_over.release()

    is_over.acquire()
    # The bare thread: `threading` waits for its begin as well as for its end, and each wait is two changes of threads.
    start_new_thread(work, ())
    is_over.acquire()
    if errors:
        raise errors[0]
    return results[0]


class _Unconfined(Confinement):
    """On a system that is not Linux there is nothing to enter."""

    def spawn(self, start: Callable[[], T]) -> T:
        return start()


@dataclass(slots=True)
class _Kept:
    ruleset: landlockpy.Ruleset
    #: Of what was granted, looked at for each command.
    marks: tuple[Mark, ...]
    #: Of the rest. A replaced one is out of reach until this is made again, so now and then will do.
    system_marks: tuple[Mark, ...]
    looked_at: float

    def still_holds(self) -> bool:
        """Return whether what it was made from is the same."""
        now = time.monotonic()
        if now - self.looked_at > SYSTEM_SECONDS:
            if not all(mark.still_holds() for mark in self.system_marks):
                return False
            self.looked_at = now
        return all(mark.still_holds() for mark in self.marks)


@dataclass
class Sandbox:
    """Makes confinements, keeping their rulesets while what they were made from is the same. Safe from any thread."""

    tool_roots: tuple[str, ...] = ()
    account: Account | None = None
    #: What the probe has proved to work on this machine, such as `landlock-fs-v7`.
    protections: tuple[str, ...] = field(default=(), init=False)
    _abi: int = field(default_factory=lambda: landlockpy.abi_version() if _IS_LINUX else 0, init=False)
    _kept: "OrderedDict[tuple[object, ...], _Kept]" = field(default_factory=OrderedDict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def is_active(self) -> bool:
        """Return whether commands are confined in what files they reach."""
        return FILE_PROTECTION not in self.missing

    @property
    def missing(self) -> tuple[str, ...]:
        """Return the protections that this machine does not have, or that did not hold."""
        return missing(self.protections)

    def confinement(
        self,
        *,
        grants: tuple[PathGrant, ...],
        obligations: tuple[str, ...],
        protected: tuple[str, ...],
        temporary: Path,
    ) -> Confinement:
        """Return the confinement for these grants. Raises RefusedError where one is demanded but none works.

        `read-only` and `daemon` say how tight it is; what the machine lacks of it is missing in the protections.
        """
        if not self.is_active and OBLIGATION_SANDBOX in obligations:
            raise RefusedError(
                Reason.HOST_CEILING, "This command may only run in a sandbox, and this host has none that works."
            )
        if not _IS_LINUX:
            return _Unconfined()
        kind = seccomp.Kind(
            is_read_only=OBLIGATION_READ_ONLY in obligations,
            may_use_network=OBLIGATION_NETWORK in obligations,
            may_ask_daemons=OBLIGATION_DAEMON in obligations,
        )
        ruleset = None
        if self.is_active:
            ruleset = self._ruleset(grants, protected, str(temporary), may_connect=kind.may_use_network)
        program = seccomp.program_for(kind) if FILTER_PROTECTION in self.protections else None
        if self.account is not None:
            os.chown(temporary, self.account.uid, self.account.gid)
        lifted = _lifted(kind)
        active = tuple(name for name in self.protections if name not in lifted)
        return Confinement(active, ruleset, program, self.account)

    def probe(self, folder: Path) -> None:
        """Try to break out of confinements and note what held. `folder` is one that no command may reach."""
        self.protections = ()
        if not _IS_LINUX:
            return
        ruleset = self._ruleset((), (str(folder),), "", may_connect=False) if self._abi else None
        program = seccomp.program_for(seccomp.Kind(is_read_only=True))
        found: list[str] = []
        try:
            found += probe.held_by(Confinement((), ruleset).spawn, probe.WITHOUT_FILTER, folder)
            if program is not None:
                found += probe.held_by(Confinement((), ruleset, program).spawn, probe.WITH_FILTER, folder)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            logger.error("The sandbox's probe could not be run: %s", error)
        self.protections = tuple(f"{name}-v{self._abi}" if name == FILE_PROTECTION else name for name in found)

    def _ruleset(
        self, grants: tuple[PathGrant, ...], protected: tuple[str, ...], temporary: str, *, may_connect: bool
    ) -> landlockpy.Ruleset:
        key = (grants, protected, temporary, may_connect)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is not None and kept.still_holds():
            return kept.ruleset
        real = real_paths(protected)
        system, rules = base_rules(real, self.tool_roots), granted_rules(grants, real)
        if temporary:
            rules += rules_for(os.path.realpath(temporary), WRITE, ())
        made = _build([*system, *rules], may_connect=may_connect)
        now_and_then = (*system, *(rule for rule in rules if rule.is_listed))
        kept = _Kept(
            made,
            tuple(rule.mark for rule in rules if not rule.is_listed),
            tuple(rule.mark for rule in now_and_then),
            time.monotonic(),
        )
        with self._lock:
            self._kept[key] = kept
            while len(self._kept) > KEPT_RULESETS:
                # Closed by the last confinement that still uses it.
                self._kept.popitem(last=False)
        return kept.ruleset


def _build(rules: list[Rule], *, may_connect: bool) -> landlockpy.Ruleset:
    both_scopes = landlockpy.Scope.ABSTRACT_UNIX_SOCKET | landlockpy.Scope.SIGNAL
    ruleset = landlockpy.Ruleset(handled_net=landlockpy.AccessNet.NONE if may_connect else None, scoped=both_scopes)
    try:
        for rule in rules:
            # The descriptor's own link leads to exactly the inode that was checked, whatever the path is now.
            ruleset.allow_path(f"/proc/self/fd/{rule.descriptor}", rule.access)
    finally:
        for rule in rules:
            os.close(rule.descriptor)
    return ruleset


def _lifted(kind: seccomp.Kind) -> set[str]:
    """Return the protections that a kind of command is without."""
    lifted = set[str]()
    if kind.may_use_network:
        lifted |= {"landlock-net", "seccomp-net"}
    if kind.may_ask_daemons:
        lifted.add("seccomp-net")
    if not kind.is_read_only:
        lifted.add("seccomp-read")
    return lifted
