"""What survives a crash: what may be running, and results that the server has not acknowledged, in one appended file.

A session is open in the journal from before its start is asked for until its result is in the same journal, and its
result waits until the server acknowledges it. So after a crash the open ones are exactly the runs whose end nobody saw.
"""

import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shellagent import protocol
from shellagent.host.appended import AppendedFile, line
from shellagent.host.state import free_bytes

logger = logging.getLogger(__name__)

MEBIBYTE: Final = 1024 * 1024
WAITING_LIMIT: Final = 1000
#: What waits may take so much of the file before nothing more is claimed.
SPOOL_BYTES: Final = 50 * MEBIBYTE
LEAST_FREE_BYTES: Final = 64 * MEBIBYTE
#: Reports are also kept in memory up to this many bytes in all, so that the usual case sends without reading the file.
KEPT_BYTES: Final = MEBIBYTE
#: A file over this size is written anew when less than half of it is still needed.
COMPACT_BYTES: Final = 4 * MEBIBYTE
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


@dataclass(slots=True, eq=False)
class Spooled:
    """A result that waits to be acknowledged: in the file at `offset` (-1: in memory only), and in memory if that has
    room. `size` is in bytes, as it stands in the file.
    """

    id: str
    offset: int
    size: int
    report: protocol.ExecutionReport | None
    #: Monotonic time before which it is not sent again, after the server turned it away.
    not_before: float = 0.0


@dataclass
class Journal:
    """The file at `path`, and what it says. Safe to use from any thread; results leave it only by `acknowledge`.

    Two locks, so that who only asks does not wait for the disk: `_writing` for the file, and within it `_lock` for what
    is known.
    """

    path: Path
    boot_id: str = ""
    limit: int = WAITING_LIMIT
    spool_bytes: int = SPOOL_BYTES
    _open: dict[str, Entry] = field(default_factory=dict, init=False)
    _waiting: dict[str, Spooled] = field(default_factory=dict, init=False)
    #: Bytes of what waits, and of that what is in memory too.
    _waiting_bytes: int = field(default=0, init=False)
    _kept_bytes: int = field(default=0, init=False)
    _writing: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._file = AppendedFile(self.path)

    def load(self) -> None:
        """Take up what an earlier process left, and write it anew. Damaged lines are put aside, never deleted."""
        with self._writing, self._lock:
            damaged: list[bytes] = []
            for item in self._file.read():
                if isinstance(item, bytes):
                    damaged.append(item)
                    continue
                try:
                    self._apply(item.content, item.offset, item.size)
                except (LookupError, ValueError, TypeError) as error:
                    logger.error("A line of the journal %s cannot be understood: %s", self.path, error)
                    damaged.append(json.dumps(item.content).encode())
            if damaged:
                self._put_aside(damaged)
            try:
                self._compact()
            except OSError as error:
                logger.error("The journal %s cannot be written: %s", self.path, error)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def begin(self, entries: Iterable[Entry]) -> None:
        """Write entries durably, all at once. Raises OSError; then none of these sessions may start."""
        entries = list(entries)
        data = b"".join(line({"begin": [entry.id, entry.start_key, entry.digest]}) for entry in entries)
        with self._writing:
            self._append(data, is_synced=True)
            with self._lock:
                self._open.update((entry.id, entry) for entry in entries)

    def started(self, session_id: str, pid: int, create_time: float) -> None:
        """Note the process of a session. Not synced: after a power cut there is no process to find."""
        self._note({"started": [session_id, pid, create_time, self.boot_id]})

    def end(self, session_id: str) -> None:
        """Forget a session that was not started."""
        if session_id in self._open:
            self._note({"end": session_id})

    def add(self, reports: Sequence[protocol.ExecutionReport]) -> None:
        """Keep results durably, all at once, in place of their open entries.

        On a full disk they are kept in memory, with an error in the log: better than nowhere.
        """
        lines = [line({"result": protocol.encode(report)}) for report in reports]
        with self._writing:
            try:
                offset = self._append(b"".join(lines), is_synced=True)
            except OSError as error:
                names = ", ".join(report.id for report in reports)
                logger.error("The results of %s cannot be written to the journal: %s", names, error)
                offset = -1
            with self._lock:
                for report, data in zip(reports, lines, strict=True):
                    keeps = offset < 0 or self._kept_bytes + len(data) <= KEPT_BYTES
                    self._wait(Spooled(report.id, offset, len(data), report if keeps else None))
                    offset += len(data) if offset >= 0 else 0

    def acknowledge(self, items: Sequence[Spooled]) -> None:
        """Let results go: the server has them."""
        self._note({"acknowledged": [item.id for item in items]})
        with self._writing:
            if self._file.size > COMPACT_BYTES and self._needed() < self._file.size // 2:
                try:
                    with self._lock:
                        self._compact()
                except OSError as error:
                    logger.error("The journal %s cannot be written anew: %s", self.path, error)

    def entries(self) -> list[Entry]:
        """Return the sessions that are open."""
        with self._lock:
            return list(self._open.values())

    def next(self, most: int, *, now: float) -> list[Spooled]:
        """Return up to `most` of the oldest results that are due."""
        with self._lock:
            due = (item for item in self._waiting.values() if item.not_before <= now)
            return [item for item, _ in zip(due, range(most), strict=False)]

    def read(self, item: Spooled) -> protocol.ExecutionReport | None:
        """Return a result, or None for one that was damaged since it was written; that one is put aside."""
        if item.report is not None:
            return item.report
        with self._writing, self._lock:
            try:
                content = self._file.content(item.offset, item.size)
                if content is not None:
                    return protocol.decode(protocol.ExecutionReport, content["result"])
            except (OSError, LookupError, ValueError) as error:
                logger.error("The journal %s cannot be read: %s", self.path, error)
            logger.error("The result of %s is damaged in the journal and given up.", item.id)
            self._let_go(item.id)
        return None

    def ids(self) -> set[str]:
        """Return the sessions whose results wait here."""
        with self._lock:
            return set(self._waiting)

    @property
    def depth(self) -> int:
        """Return how many results wait."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Return how many bytes wait."""
        return self._waiting_bytes

    def fullness(self) -> str:
        """Return why nothing more may be claimed, as the beginning of a sentence; empty where there is room."""
        if self._waiting_bytes >= self.spool_bytes:
            most = self.spool_bytes // MEBIBYTE
            return f"{self._waiting_bytes // MEBIBYTE} MiB of results wait for the server, and {most} are allowed"
        if len(self._waiting) >= self.limit:
            return f"{len(self._waiting)} results wait for the server"
        try:
            if free_bytes(self.path.parent) >= LEAST_FREE_BYTES:
                return ""
        except OSError as error:
            return f"the disk of {self.path.parent} cannot be asked for its room ({error.strerror})"
        return f"the disk of {self.path.parent} has less than {LEAST_FREE_BYTES // MEBIBYTE} MiB free"

    def _wait(self, item: Spooled) -> None:
        self._open.pop(item.id, None)
        self._let_go(item.id)
        self._waiting[item.id] = item
        self._waiting_bytes += item.size
        self._kept_bytes += item.size if item.report is not None else 0

    def _let_go(self, session_id: str) -> None:
        item = self._waiting.pop(session_id, None)
        if item is not None:
            self._waiting_bytes -= item.size
            self._kept_bytes -= item.size if item.report is not None else 0

    def _note(self, content: dict[str, Any]) -> None:
        """Append a line that may be lost: what it says would only be done again."""
        with self._writing:
            with self._lock:
                self._apply(content, -1, 0)
            try:
                self._append(line(content), is_synced=False)
            except OSError as error:
                logger.error("The journal %s cannot be written: %s", self.path, error)

    def _apply(self, content: dict[str, Any], offset: int, size: int) -> None:
        ((kind, value),) = content.items()
        match kind:
            case "begin":
                session_id, start_key, digest = map(str, value)
                self._open[session_id] = Entry(session_id, start_key, digest)
            case "started":
                session_id, pid, create_time, boot_id = value
                if (known := self._open.get(session_id)) is not None:
                    entry = Entry(known.id, known.start_key, known.digest, int(pid), float(create_time), str(boot_id))
                    self._open[session_id] = entry
            case "end":
                self._open.pop(value, None)
            case "result":
                report = protocol.decode(protocol.ExecutionReport, value)
                self._wait(Spooled(report.id, offset, size, None))
            case "acknowledged":
                for session_id in value:
                    self._let_go(session_id)
            case _:
                raise ValueError(f"{kind!r} is no kind of line")

    def _append(self, data: bytes, *, is_synced: bool) -> int:
        if self._file.is_doubtful:
            with self._lock:
                self._compact()
        return self._file.append(data, is_synced=is_synced)

    def _needed(self) -> int:
        return self._waiting_bytes + 200 * len(self._open)

    def _compact(self) -> None:
        """Write the file anew with what is still needed. Raises OSError; then the file is as it was."""
        places: list[tuple[Spooled, int, int]] = []
        self._file.rewrite(self._needed_lines(places))
        for item, offset, size in places:
            item.offset, item.size = offset, size
        self._waiting_bytes = sum(item.size for item in self._waiting.values())
        self._kept_bytes = 0
        for item in self._waiting.values():
            # What a full disk kept in memory stands in the file now.
            if item.offset >= 0 and self._kept_bytes + item.size > KEPT_BYTES:
                item.report = None
            self._kept_bytes += item.size if item.report is not None else 0

    def _needed_lines(self, places: list[tuple[Spooled, int, int]]) -> Iterator[bytes]:
        offset = 0
        for entry in self._open.values():
            data = line({"begin": [entry.id, entry.start_key, entry.digest]})
            if entry.pid:
                data += line({"started": [entry.id, entry.pid, entry.create_time, entry.boot_id]})
            offset += len(data)
            yield data
        for item in self._waiting.values():
            content = {"result": protocol.encode(item.report)} if item.report else self._content(item)
            if content is None:
                logger.error("The result of %s is damaged in the journal.", item.id)
                continue
            data = line(content)
            places.append((item, offset, len(data)))
            offset += len(data)
            yield data

    def _content(self, item: Spooled) -> dict[str, Any] | None:
        return self._file.content(item.offset, item.size)

    def _put_aside(self, damaged: Sequence[bytes]) -> None:
        aside = self.path.with_suffix(".damaged")
        logger.error("The journal %s has %d damaged lines. They are put aside in %s.", self.path, len(damaged), aside)
        try:
            with open(os.open(aside, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(b"\n".join(damaged) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            logger.error("They could not be written there: %s", error)


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What a journal holds: how many sessions are open, how many results wait, and how many bytes these take."""

    open: int = 0
    waiting: int = 0
    waiting_bytes: int = 0


def outstanding(path: Path) -> Outstanding:
    """Look at a journal from outside."""
    journal = Journal(path)
    try:
        for item in AppendedFile(path).read():
            if not isinstance(item, bytes):
                journal._apply(item.content, item.offset, item.size)
    except (OSError, LookupError, ValueError, TypeError) as error:
        logger.info("The journal %s cannot be read: %s", path, error)
    return Outstanding(len(journal.entries()), journal.depth, journal.size)


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
