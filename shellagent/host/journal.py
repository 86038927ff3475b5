"""What survives a crash: the journal (what may be running) and the spool (results the server has not acknowledged).

A session is in the journal from before its start is asked for until its result is in the spool, and in the spool until
the server acknowledges it. So after a crash the journal names exactly the runs whose end nobody saw.
"""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shellagent import protocol
from shellagent.host.state import sync, write_durably

logger = logging.getLogger(__name__)

SPOOL_LIMIT: Final = 1000
LEAST_FREE_BYTES: Final = 64 * 1024 * 1024
#: Reports up to this many are also kept in memory, so that the usual case sends without reading the file again.
KEPT_IN_MEMORY: Final = 64
EMPTY_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True, slots=True)
class Entry:
    """A session that was about to start, or runs: `pid` is 0 until its process is known."""

    id: str
    start_key: str
    digest: str
    pid: int = 0
    create_time: float = 0.0
    boot_id: str = ""


@dataclass
class Journal:
    """One file a session in `folder`, and beside it the process id once there is one."""

    folder: Path
    boot_id: str = ""

    def begin(self, entries: Iterable[Entry]) -> None:
        """Write entries durably. Raises OSError; then none of these sessions may start."""
        for entry in entries:
            content = {"id": entry.id, "start_key": entry.start_key, "digest": entry.digest}
            write_durably(self.folder / f"{entry.id}.json", json.dumps(content).encode(), sync_folder=False)
        sync(self.folder)

    def started(self, session_id: str, pid: int, create_time: float) -> None:
        """Note the process of a session. Not synced: after a power cut there is no process to find."""
        with contextlib.suppress(OSError):
            (self.folder / f"{session_id}.pid").write_text(json.dumps([pid, create_time, self.boot_id]))

    def end(self, session_id: str) -> None:
        """Forget a session: its result is in the spool, or its start was not granted."""
        for suffix in ("pid", "json"):
            (self.folder / f"{session_id}.{suffix}").unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """Return what is in the journal; what cannot be read is passed over with an error in the log."""
        found = []
        for file in sorted(self.folder.glob("*.json")):
            if file.name.startswith("."):
                continue
            try:
                data = json.loads(file.read_text())
                entry = Entry(str(data["id"]), str(data["start_key"]), str(data["digest"]))
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.error("The journal entry %s is damaged: %s", file, error)
                continue
            with contextlib.suppress(OSError, ValueError, TypeError):
                pid, began, boot = json.loads(file.with_suffix(".pid").read_text())
                entry = Entry(entry.id, entry.start_key, entry.digest, int(pid), float(began), str(boot))
            found.append(entry)
        return found


@dataclass(slots=True, eq=False)
class Spooled:
    """A result that waits to be acknowledged: on disk as `file`, and in memory while there are few."""

    id: str
    file: Path | None
    report: protocol.ExecutionReport | None
    #: Monotonic time before which it is not sent again, after the server turned it away.
    not_before: float = 0.0


@dataclass
class Spool:
    """Results in `folder`, oldest first. They leave only by `acknowledge`. Safe to use from any thread."""

    folder: Path
    limit: int = SPOOL_LIMIT
    _waiting: list[Spooled] = field(default_factory=list, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def load(self) -> None:
        """Take up what an earlier process left."""
        with self._lock:
            self._waiting = [
                Spooled(file.stem.partition("-")[2], file, None)
                for file in sorted(self.folder.glob("*.json"))
                if not file.name.startswith(".")
            ]

    def add(self, report: protocol.ExecutionReport) -> None:
        """Keep a result durably. On a full disk it is kept in memory, with an error in the log: better than nowhere."""
        path = self.folder / f"{time.time_ns():020d}-{report.id}.json"
        file: Path | None = path
        try:
            write_durably(path, json.dumps(protocol.encode(report)).encode())
        except OSError as error:
            logger.error("The result of %s cannot be written to the spool: %s", report.id, error)
            file = None
        with self._lock:
            keeps = file is None or len(self._waiting) < KEPT_IN_MEMORY
            self._waiting.append(Spooled(report.id, file, report if keeps else None))

    def next(self, most: int, *, now: float) -> list[Spooled]:
        """Return up to `most` of the oldest results that are due."""
        with self._lock:
            return [item for item in self._waiting if item.not_before <= now][:most]

    def read(self, item: Spooled) -> protocol.ExecutionReport | None:
        """Return a result, or None for a file that cannot be read; that one is put aside, never deleted."""
        if item.report is not None or item.file is None:
            return item.report
        try:
            return protocol.decode(protocol.ExecutionReport, json.loads(item.file.read_bytes()))
        except (OSError, ValueError) as error:
            logger.error("The spooled result %s is damaged and put aside: %s", item.file, error)
            with contextlib.suppress(OSError):
                item.file.rename(item.file.with_suffix(".damaged"))
            self._forget([item])
            return None

    def acknowledge(self, items: Sequence[Spooled]) -> None:
        """Let results go: the server has them."""
        for item in items:
            if item.file is not None:
                item.file.unlink(missing_ok=True)
        self._forget(items)

    def ids(self) -> set[str]:
        """Return the sessions whose results wait here."""
        with self._lock:
            return {item.id for item in self._waiting}

    @property
    def depth(self) -> int:
        """Return how many results wait."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Return whether no more may be claimed: too many results wait, or the disk is nearly full."""
        if len(self._waiting) >= self.limit:
            return True
        try:
            info = os.statvfs(self.folder)
        except OSError:
            return True
        return info.f_bavail * info.f_frsize < LEAST_FREE_BYTES

    def _forget(self, items: Sequence[Spooled]) -> None:
        gone = set(map(id, items))
        with self._lock:
            self._waiting = [item for item in self._waiting if id(item) not in gone]


def report_without_run(
    entry: Entry, *, outcome: protocol.RunOutcome, reason: protocol.Reason, detail: str, start_key: str | None = None
) -> protocol.ExecutionReport:
    """Return the record of a session that the host did not run, or whose run it did not see end."""
    nothing = protocol.StreamTotal(0, EMPTY_SHA256, is_truncated=False)
    return protocol.ExecutionReport(
        id=entry.id,
        start_key=entry.start_key if start_key is None else start_key,
        digest=entry.digest,
        outcome=outcome,
        reason=reason,
        detail=detail,
        exit_codes=(),
        stdout=nothing,
        stderr=nothing,
        duration_us=0,
    )
