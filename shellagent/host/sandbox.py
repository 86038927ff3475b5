"""Confining a command by Landlock: a thread of its own enters the domain, starts the program and ends.

Only that thread and its child are confined; every command gets a new domain, so that one cannot signal another. What
this leaves open (metadata, UDP, Unix sockets by path, and more for root) is written down in the documentation.
"""

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import landlockpy

# `Ruleset.restrict` enters a ruleset once only; the calls that it is made of let one ruleset serve many commands.
from landlockpy._syscall import restrict_self, set_no_new_privs

from shellagent.host.errors import RefusedError
from shellagent.host.grants import WRITE, Mark, Rule, base_rules, granted_rules, real_paths, rules_for
from shellagent.protocol import PathGrant, Reason

logger = logging.getLogger(__name__)

T = TypeVar("T")

OBLIGATION_SANDBOX: Final = "sandbox"
OBLIGATION_NETWORK: Final = "network"
KEPT_RULESETS: Final = 64
SYSTEM_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 20.0
NET_PROTECTION: Final = "landlock-net"

#: Run by the probe's child: each attempt prints whether the kernel refused it.
PROBE: Final = """
import json, os, socket, sys
secret, port, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def refused(attempt):
    try:
        attempt()
    except PermissionError:
        return True
    except OSError:
        return False
    return False
def write():
    os.close(os.open(secret + ".escaped", os.O_CREAT | os.O_WRONLY, 0o600))
def status():
    return any(line.split() == ["NoNewPrivs:", "1"] for line in open("/proc/self/status"))
print(json.dumps({
    "write": refused(write),
    "read": refused(lambda: os.open(secret, os.O_RDONLY)),
    "connect": refused(lambda: socket.create_connection(("127.0.0.1", port), 2)),
    "signal": refused(lambda: os.kill(parent, 0)),
    "privileges": status(),
}))
"""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What one command is confined by; `ruleset` is None where nothing confines it."""

    ruleset: landlockpy.Ruleset | None
    protections: tuple[str, ...]

    def spawn(self, start: Callable[[], T]) -> T:
        """Call `start` inside the domain and return what it returns. Raises what it raises, or OSError."""
        ruleset = self.ruleset
        if ruleset is None:
            return start()
        results: list[T] = []
        errors: list[BaseException] = []

        def confined() -> None:
            try:
                set_no_new_privs()
                restrict_self(ruleset.fileno())
                results.append(start())
            except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=confined, name="spawn")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]


@dataclass(slots=True)
class _Kept:
    ruleset: landlockpy.Ruleset
    #: Of what was granted, looked at for each command.
    marks: tuple[Mark, ...]
    #: Of what every command needs. A replaced one is out of reach until this is made again, so now and then will do.
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
    #: What the probe has proved to work on this machine, such as `landlock-fs-v7`.
    protections: tuple[str, ...] = field(default=(), init=False)
    _abi: int = field(default_factory=landlockpy.abi_version, init=False)
    _kept: "OrderedDict[tuple[object, ...], _Kept]" = field(default_factory=OrderedDict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def is_active(self) -> bool:
        """Return whether commands are confined in what files they reach."""
        return any(name.startswith("landlock-fs") for name in self.protections)

    def confinement(
        self,
        *,
        grants: tuple[PathGrant, ...],
        obligations: tuple[str, ...],
        protected: tuple[str, ...],
        temporary: Path,
    ) -> Confinement:
        """Return the confinement for these grants. Raises RefusedError where one is demanded but none works."""
        if not self.is_active:
            if OBLIGATION_SANDBOX in obligations:
                raise RefusedError(
                    Reason.HOST_CEILING, "This command may only run in a sandbox, and this host has none that works."
                )
            return Confinement(None, ())
        may_connect = OBLIGATION_NETWORK in obligations
        ruleset = self._ruleset(grants, protected, str(temporary), may_connect=may_connect)
        active = tuple(name for name in self.protections if not (may_connect and name == NET_PROTECTION))
        return Confinement(ruleset, active)

    def probe(self, folder: Path) -> None:
        """Try to break out of a confinement and note what held. `folder` is one that no command may reach."""
        self.protections = ()
        if not self._abi:
            return
        try:
            held = self._break_out(folder)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            logger.error("The sandbox's probe could not be run: %s", error)
            return
        found = []
        if held.get("write") and held.get("read"):
            found.append(f"landlock-fs-v{self._abi}")
        found += [
            name
            for name, attempt in (
                (NET_PROTECTION, "connect"),
                ("landlock-scope", "signal"),
                ("no-new-privs", "privileges"),
            )
            if held.get(attempt)
        ]
        self.protections = tuple(found)

    def _break_out(self, folder: Path) -> dict[str, bool]:
        secret = folder / f"probe-{secrets.token_hex(8)}"
        secret.write_text("nobody reads this")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            ruleset = self._ruleset((), (str(folder),), "", may_connect=False)
            arguments = [os.path.realpath(sys.executable), "-I", "-S", "-c", PROBE]
            try:
                process = Confinement(ruleset, ()).spawn(
                    lambda: subprocess.Popen(  # noqa: S603 - our own program
                        [*arguments, str(secret), str(port), str(os.getpid())],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        env={"PATH": "/usr/bin:/bin"},
                        cwd="/",
                        start_new_session=True,
                    )
                )
                try:
                    answer, _ = process.communicate(timeout=PROBE_SECONDS)
                except subprocess.TimeoutExpired:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
                    raise
            finally:
                secret.unlink(missing_ok=True)
                secret.with_name(secret.name + ".escaped").unlink(missing_ok=True)
        held = json.loads(answer)
        return {str(name): value is True for name, value in held.items()}

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
        kept = _Kept(made, tuple(rule.mark for rule in rules), tuple(rule.mark for rule in system), time.monotonic())
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
