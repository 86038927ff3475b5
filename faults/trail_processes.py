"""Processes that write to the trail and seal it, forked from one that is set up, to be killed at any instant.

A writer notes each event in a file of its own once its transaction is committed: that is an acknowledgement.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from audit.sealing import seal
from audit.tags import Tag
from audit.trail import SYSTEM, Event, record

#: Of so many transactions a writer rolls one back.
ROLLED_BACK_EVERY = 10


def write_always(acknowledged: Path, until: float) -> None:
    """Write events until it is over; some transactions are rolled back."""
    descriptor = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    count, longest = 0, 0.0
    while time.monotonic() < until:
        count += 1
        began = time.monotonic()
        with suppress(DatabaseError, _UndoneError), transaction.atomic():
            receipts = record(*(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM, data={"number": count}) for _ in range(2)))
            if count % ROLLED_BACK_EVERY == 0:
                raise _UndoneError
            lines = "".join(f"{one.uid}\n" for one in receipts if one)
            transaction.on_commit(partial(os.write, descriptor, lines.encode()))
        longest = max(longest, time.monotonic() - began)
    acknowledged.with_suffix(".longest").write_text(str(longest))


def seal_always(until: float) -> None:
    """Seal again and again."""
    while time.monotonic() < until:
        with suppress(DatabaseError):
            seal(timezone.now())
        time.sleep(0.02)


class _UndoneError(Exception):
    """A transaction that is not to be."""


@dataclass
class Pack:
    """Writers and sealers, started again when they were killed."""

    folder: Path
    seconds: float
    seed: int
    killed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - to repeat it
        self._until = time.monotonic() + self.seconds
        self._running: dict[int, tuple[str, Callable[[], object]]] = {}
        self._number = 0

    def add(self, writers: int, sealers: int) -> None:
        """Start so many of each."""
        for _ in range(writers):
            self._number += 1
            file = self.folder / f"writer-{self._number}"
            self._start("writer", partial(write_always, file, self._until))
        for _ in range(sealers):
            self._start("sealer", partial(seal_always, self._until))

    def _start(self, kind: str, work: Callable[[], object]) -> None:
        connections.close_all()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        self._running[pid] = kind, work

    def kill(self) -> None:
        """Kill one of them after a while in which it may be anywhere, and start it again."""
        time.sleep(self._chance.uniform(0, 0.05))
        pid = self._chance.choice(list(self._running))
        kind, work = self._running.pop(pid)
        os.kill(pid, signal.SIGKILL)
        _pid, status = os.waitpid(pid, 0)
        self.killed[kind] += os.WIFSIGNALED(status)
        self._start(kind, work)

    def end(self) -> list[str]:
        """Let them come to their end. Returns who did not."""
        wrong = []
        for pid, (kind, _work) in self._running.items():
            _pid, status = os.waitpid(pid, 0)
            if status:
                wrong.append(f"{kind} ended with {status}")
        self._running.clear()
        return wrong

    def stop(self) -> None:
        """Kill all; they are not counted."""
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._running.clear()

    def acknowledged(self) -> set[str]:
        """Return the uid of every event that a writer knows to be committed."""
        lines = (line for file in self.folder.glob("writer-?*") if not file.suffix for line in file.open())
        return {line.strip() for line in lines if line.endswith("\n")}

    def longest(self) -> float:
        """Return the longest that one transaction took, in seconds, of writers that came to their end."""
        return max((float(file.read_text()) for file in self.folder.glob("*.longest")), default=0.0)
