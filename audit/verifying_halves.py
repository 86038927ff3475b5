"""A long log verified by two processes, each its half: from the first checkpoint and from the one in the middle.

The one in the middle has to be signed by itself, as any that a verification begins from.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

from django.db import DatabaseError, connections

from audit import driver
from audit.notes import Checkpoint, NoteError, is_note_signed, note_read
from audit.trail_keys import PublicKeys
from audit.verifying_log import Progress, Verification
from audit.verifying_report import Report

#: From so many leaves on a second process is worth its start.
WORTH_IT: Final = 50_000


def begin_of(note: str, keys: PublicKeys) -> Checkpoint:
    """Return the checkpoint to begin a verification from. Raises NoteError where it is not signed and whole."""
    checkpoint = note_read(note)
    checkpoint.tree()
    if not is_note_signed(note, keys):
        raise NoteError("no known key signed it")
    return checkpoint


def log_verify(keys: PublicKeys, *, progress: Progress, processes: int, worth_it: int = WORTH_IT) -> Report:
    """Verify the whole log, with two processes where that is allowed and worth it.

    The caller's connections are closed then, and must not be in a transaction. Raises DatabaseError.
    """
    middle = _middle(worth_it) if processes > 1 else None
    if middle is None:
        return Verification(keys, progress=progress).run()
    number, note = middle
    try:
        begin = begin_of(note, keys)
    except NoteError:
        return Verification(keys, progress=progress).run()
    connections.close_all()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    done = context.Value("Q", 0, lock=False)
    first = context.Process(target=_first_half, args=(theirs, keys, number, done), daemon=True)
    first.start()
    theirs.close()
    try:
        second = Verification(keys, progress=_both(progress, done, begin.size)).run(begin=begin, note=note)
        report = _received(ours)
    finally:
        first.kill()
        first.join()
    for finding in second.findings:
        report.find(finding.severity, finding.what, finding.first, finding.last)
    report.more += second.more
    report.is_tampered, report.is_incomplete = (
        report.is_tampered or second.is_tampered,
        report.is_incomplete or second.is_incomplete,
    )
    report.size, report.checkpoint, report.digest = second.size, second.checkpoint, second.digest
    return report


def _middle(worth_it: int) -> tuple[int, str] | None:
    ((size,),) = driver.fetch("SELECT coalesce(max(size), 0) FROM audit_auditcheckpoint", [])
    if size < worth_it:
        return None
    rows = driver.fetch_any(
        "SELECT number, note FROM audit_auditcheckpoint WHERE size >= %s ORDER BY size, number LIMIT 1", [size // 2]
    )
    return rows[0] if rows else None


def _first_half(pipe: "Connection[Any, Any]", keys: PublicKeys, until: int, done: Any) -> None:
    def progress(leaf: int, _size: int) -> None:
        done.value = leaf

    try:
        pipe.send(Verification(keys, progress=progress).run(until=until))
    except DatabaseError as error:
        pipe.send(error)
    finally:
        pipe.close()


def _received(pipe: "Connection[Any, Any]") -> Report:
    try:
        found = pipe.recv()
    except EOFError:
        raise RuntimeError("the process that verified the first half has ended") from None
    if isinstance(found, Report):
        return found
    raise found


def _both(progress: Progress, done: Any, middle: int) -> Callable[[int, int], None]:
    return lambda leaf, size: progress(done.value + leaf - middle, size)
