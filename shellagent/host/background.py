"""The local agent as a process in the background: who it is, started and stopped by pid and create time."""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from shellagent.client.errors import Exit
from shellagent.host import tree
from shellagent.host.errors import HostError, StateError
from shellagent.host.state import PRODUCT, StateFolder, boot_id, write_durably

START_SECONDS: Final = 15.0
#: After so long another one that holds the folder has said who it is.
ANOTHER_SECONDS: Final = 5.0
LOOK_EVERY_SECONDS: Final = 0.05
LOG_TAIL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Known:
    """The process that a PID file names, found alive with the create time that is written there."""

    pid: int
    #: In seconds since the boot, which no step of the clock changes.
    create_time: float
    url: str
    #: The file of its ceiling, empty where it has none.
    ceiling: str = ""
    #: The options that it was started with, for a restart.
    arguments: tuple[str, ...] = ()
    #: Whether a service manager started it, which then is the one to stop and start it.
    is_service: bool = False
    #: What confines its commands, and what it runs; not known before it has probed.
    protections: tuple[str, ...] | None = None
    version: str = ""
    #: The boot in which it runs.
    boot_id: str = ""

    @property
    def running_seconds(self) -> int:
        """Return for how long it has run."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) - self.create_time)

    def is_alive(self) -> bool:
        """Return whether this very process still runs."""
        return self.boot_id == boot_id() and _matches(self.pid, self.create_time)


def kept_arguments(known: Known) -> list[str]:
    """Return the options of a process that count for one in its place: not those that `start` gives itself."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--state-dir", "--backend-url", "--host", "--port"):
        parser.add_argument(name)
    parser.add_argument("--once", action="store_true")
    return parser.parse_known_args(list(known.arguments))[1]


def note_own_process(
    state: StateFolder, url: str, ceiling: str = "", arguments: Sequence[str] = (), *, is_service: bool = False
) -> Known:
    """Write the PID file for this process, which holds the state folder. `arguments` are what a restart gives again."""
    began = tree.create_time(os.getpid())
    known = Known(os.getpid(), began, url, ceiling, tuple(arguments), is_service, boot_id=boot_id())
    _write(state, known)
    return known


def note_what_it_is(state: StateFolder, known: Known, *, protections: Sequence[str], version: str) -> None:
    """Add to the PID file what this process has found out about itself."""
    _write(state, dataclasses.replace(known, protections=tuple(protections), version=version))


def _write(state: StateFolder, known: Known) -> None:
    write_durably(state.pid_file, json.dumps(dataclasses.asdict(known)).encode())


def forget_own_process(state: StateFolder) -> None:
    """Remove the PID file."""
    state.pid_file.unlink(missing_ok=True)


def find(state: StateFolder) -> Known | None:
    """Return the running local agent of a state folder, or None. A stale or damaged PID file counts as none."""
    try:
        data = json.loads(state.pid_file.read_text())
        known = Known(
            int(data["pid"]),
            float(data["create_time"]),
            str(data["url"]),
            str(data.get("ceiling", "")),
            tuple(map(str, data.get("arguments", ()))),
            data.get("is_service") is True,
            None if data.get("protections") is None else tuple(map(str, data["protections"])),
            str(data.get("version", "")),
            str(data.get("boot_id", "")),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if known.is_alive() else None


def has_died(state: StateFolder) -> bool:
    """Return whether a local agent of this folder ended without tidying up."""
    return state.pid_file.exists() and find(state) is None


def start(state: StateFolder, arguments: Sequence[str]) -> tuple[Known, bool]:
    """Start `runlocalagent` in the background, its output in the log file. Raises HostError where it ends at once.

    Returns the one that runs, and whether it is new: somebody else may have started one at the same moment.
    """
    state.create()
    command = [sys.executable, str(PRODUCT / "manage.py"), "runlocalagent", "--state-dir", str(state.path), *arguments]
    descriptor = os.open(state.log_file, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    begun_at = os.fstat(descriptor).st_size
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        raise StateError(f"The local agent could not be started: {error.strerror}.") from error
    finally:
        os.close(descriptor)
    begun = time.monotonic()
    deadline = begun + START_SECONDS
    while time.monotonic() < deadline:
        code, known = process.poll(), find(state)
        if known is not None and (known.pid == process.pid or code == Exit.ANOTHER_INSTANCE):
            return known, known.pid == process.pid
        if code not in (None, Exit.ANOTHER_INSTANCE):
            raise HostError(_last_words(state.log_file, begun_at) or f"It ended at once with code {code}.")
        if code is not None:
            deadline = min(deadline, begun + ANOTHER_SECONDS)
        time.sleep(LOOK_EVERY_SECONDS)
    if process.poll() is not None:
        raise HostError(_last_words(state.log_file, begun_at) or f"Another one holds {state.path}.")
    raise HostError(f"The local agent did not come up in {START_SECONDS:.0f} s; see {state.log_file}.")


def stop(known: Known, *, timeout_seconds: float) -> bool:
    """Send TERM and wait for the end. Returns False where it still runs. Raises HostError where that is not ours."""
    try:
        if known.is_alive():
            os.kill(known.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    except PermissionError as error:
        raise HostError(f"Process {known.pid} belongs to another user.") from error
    deadline = time.monotonic() + timeout_seconds
    while known.is_alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_SECONDS)
    return True


def last_line(log_file: Path) -> str:
    """Return the last line of the log, empty where there is none."""
    lines = _tail(log_file, 0).splitlines()
    return lines[-1] if lines else ""


def _last_words(log_file: Path, begun_at: int) -> str:
    lines = [line for line in _tail(log_file, begun_at).splitlines() if line.strip()]
    return lines[-1].removeprefix("runlocalagent: ") if lines else ""


def _tail(log_file: Path, begun_at: int) -> str:
    with contextlib.suppress(OSError), log_file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(begun_at, size - LOG_TAIL_BYTES))
        return stream.read(LOG_TAIL_BYTES).decode(errors="replace")
    return ""


def _matches(pid: int, create_time: float) -> bool:
    is_same = abs(tree.create_time(pid) - create_time) < tree.CLOCK_TICK_SECONDS
    try:
        return is_same and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
