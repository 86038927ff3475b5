"""One pass over the log: each leaf, event and checkpoint, in order and in pieces, so that memory stays flat.

A checkpoint names the one before it by its digest, so a signature speaks for the whole run of checkpoints that leads to
it. Verifying a signature is what costs, so it is done where such a run ends, and at each of it where that one is wrong.
"""

# ruff: noqa: S608  (only names of this module are put into this SQL)
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from django.db import connection

from audit import driver
from audit.notes import FIRST, Checkpoint, NoteError, is_note_signed, note_digest, note_read
from audit.trail_keys import PublicKeys
from audit.tree import Frontier, leaf_hash
from audit.verifying_columns import TIMES
from audit.verifying_report import Report, Severity
from audit.verifying_rows import CHUNK, RowCheck, leaves_behind, leaves_from

#: So many linked checkpoints one signature speaks for, at most.
_RUN: Final = 256
Progress = Callable[[int, int], None]


def no_progress(_done: int, _size: int) -> None:
    """Tell nobody."""


class Verification:
    """One pass over the log from a checkpoint on, or over the whole log.

    With `only`, of all events just that leaf's is looked at; the others' leaves are still counted into the tree.
    """

    def __init__(
        self,
        keys: PublicKeys,
        *,
        progress: Progress = no_progress,
        only: int | None = None,
        report: Report | None = None,
    ) -> None:
        self.keys = keys
        self.report = report or Report()
        self._only = only
        self._progress = progress
        self._rows = RowCheck(keys, self._found)
        self._tree = Frontier()
        self._previous: Checkpoint | None = None
        self._previous_digest = FIRST
        self._cursor: Iterator[tuple[Any, ...]] = iter(())
        self._signatures = hashlib.sha256()
        #: Whether every leaf since the checkpoint before was there, and every event.
        self._is_whole = self._has_events = True
        self._unsettled: list[tuple[int, str, str]] = []

    def run(self, *, begin: Checkpoint | None = None, note: str = "", until: int | None = None) -> Report:
        """Verify what comes after the checkpoint `begin`, whose note is `note`, up to the checkpoint number `until`.

        Without either: the whole log.
        """
        if begin is not None:
            self._tree, self._previous, self._previous_digest = begin.tree(), begin, note_digest(note)
            self.report.first = self.report.size = begin.size
            self.report.checkpoint, self.report.digest = begin.number, self._previous_digest.hex()
        last, end = _last(until)
        # One entry's checkpoint is few rows, and reading a full piece would be most of the time.
        self._cursor = leaves_from(self._tree.size, at_a_time=min(CHUNK, max(1, end - self._tree.size)))
        for row in _checkpoints(begin.number if begin else 0, last):
            self._checkpoint(row, end)
        self._settle()
        self._rows.finish()
        if until is None and (behind := leaves_behind()):
            self.report.find(Severity.TAMPERED, "leaves stand behind the newest checkpoint", *behind)
        return self.report

    def _found(self, what: str, at: int) -> None:
        self.report.find(Severity.TAMPERED, what, at)

    def _checkpoint(self, row: tuple[Any, ...], end: int) -> None:
        number, _size, _sealed_at, note, column_digest, _before = row
        expected = self.report.checkpoint + 1
        if number != expected:
            self.report.find(Severity.TAMPERED, "checkpoints are missing", expected, number - 1)
        self.report.checkpoint, self.report.digest = number, column_digest
        try:
            checkpoint, digest = note_read(note), note_digest(note)
        except (NoteError, UnicodeEncodeError, AttributeError) as error:
            self._settle()
            self.report.find(Severity.TAMPERED, f"a checkpoint is damaged ({error})", number)
            return
        if checkpoint.previous != self._previous_digest:
            # Here a run of linked checkpoints ends.
            self._settle()
            if number == expected:
                self.report.find(Severity.TAMPERED, "a checkpoint does not follow the one before it", number)
        self._unsettled.append((number, note, checkpoint.log))
        if len(self._unsettled) >= _RUN:
            self._settle()
        self._compare(row, checkpoint, digest)
        before = self._previous
        if before and checkpoint.size < before.size:
            self.report.find(Severity.TAMPERED, "a checkpoint is smaller than the one before it", number)
            return
        if before and checkpoint.time_us < before.time_us:
            self.report.find(Severity.WARNING, "the clock stepped back before this checkpoint", number)
        self._leaves_to(checkpoint.size, end)
        self._grown(checkpoint, before)
        self._previous, self._previous_digest = checkpoint, digest
        self.report.size = checkpoint.size

    def _grown(self, checkpoint: Checkpoint, before: Checkpoint | None) -> None:
        """Compare the leaves up to here with what the checkpoint was signed over."""
        tree, number = self._tree, checkpoint.number
        first = before.size if before else 0
        is_same = tree.size == checkpoint.size and tree.root() == checkpoint.root
        if self._is_whole and not is_same:
            what = f"the leaves are not those that checkpoint {number} was signed over"
            self.report.find(Severity.TAMPERED, what, first, checkpoint.size - 1)
        elif self._has_events and is_same and checkpoint.signatures not in (None, self._signatures.digest()):
            what = f"the events' signatures are not those that checkpoint {number} was signed over"
            self.report.find(Severity.TAMPERED, what, first, checkpoint.size - 1)
        if not is_same or tuple(tree.hashes) != checkpoint.frontier:
            # The log goes on from what was signed, so that a bad range says nothing of those behind it.
            try:
                self._tree = checkpoint.tree()
            except NoteError as error:
                self.report.find(Severity.TAMPERED, f"a checkpoint is damaged ({error})", number)
                self._give_up(checkpoint.size)
        self._signatures, self._has_events = hashlib.sha256(), True
        self._is_whole = self._tree.size.bit_count() == len(self._tree.hashes)

    def _settle(self) -> None:
        """Verify the signature that speaks for all that are not settled, or each where that one does not hold."""
        unsettled, self._unsettled = self._unsettled, []
        if not unsettled or self._is_signed(unsettled[-1][1]):
            return
        for number, note, log in unsettled:
            signed = self._is_signed(note)
            if signed is None:
                whose = "another log" if log != self.keys.log else "a key that is not known"
                self.report.find(Severity.TAMPERED, f"a checkpoint is signed by {whose}", number)
            elif not signed:
                self.report.find(Severity.TAMPERED, "a checkpoint's signature is wrong", number)

    def _is_signed(self, note: str) -> bool | None:
        try:
            return is_note_signed(note, self.keys)
        except NoteError:
            return False

    def _compare(self, row: tuple[Any, ...], checkpoint: Checkpoint, digest: bytes) -> None:
        number, size, sealed_at, _note, column_digest, previous = row
        said = (checkpoint.number, checkpoint.size, self._rows.time(checkpoint.time_us), digest.hex())
        if (number, size, sealed_at, column_digest) != said or previous != checkpoint.previous.hex():
            self.report.find(Severity.TAMPERED, "a checkpoint's columns are not what its note says", number)
        if checkpoint.more:
            what = "a checkpoint says what only a later version of the product understands"
            self.report.find(Severity.INCOMPLETE, what, number)

    def _leaves_to(self, size: int, end: int) -> None:
        tree, check, signatures, only = self._tree, self._rows.check, self._signatures, self._only
        while tree.size < size:
            row = next(self._cursor, None)
            if row is None or row[0] >= size:
                self.report.find(Severity.TAMPERED, "leaves are missing", tree.size, size - 1)
                self._cursor = _again(row, self._cursor)
                self._give_up(size)
                return
            index = row[0]
            if index > tree.size:
                self.report.find(Severity.TAMPERED, "leaves are missing", tree.size, index - 1)
                # Without the missing ones the root cannot be found; what is there is looked at all the same.
                self._is_whole, tree.size = False, index
            leaf = bytes(row[1])
            if only is None or only == index:
                event_hash = check(row)
                if event_hash is None:
                    self._has_events = False
                elif leaf != leaf_hash(event_hash):
                    self._found("a leaf is not the hash of its event", index)
            signatures.update(f"{row[5] or ''}\n".encode(errors="replace"))
            if self._is_whole:
                tree.append(leaf)
            else:
                tree.size += 1
            if not index % CHUNK:
                self._progress(index, end)

    def _give_up(self, size: int) -> None:
        """Go on at a size whose root cannot be found any more."""
        self._is_whole, self._tree = False, Frontier()
        self._tree.size = size


def _again(row: tuple[Any, ...] | None, rest: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    if row is not None:
        yield row
    yield from rest


def _last(until: int | None) -> tuple[int, int]:
    """Return the number and the size of the checkpoint to end with; asked once, because sealing goes on."""
    rows = driver.fetch(
        "SELECT number, size FROM audit_auditcheckpoint WHERE number <= %s ORDER BY number DESC LIMIT 1",
        [2**63 - 1 if until is None else until],
    )
    return rows[0] if rows else (0, 0)


def _checkpoints(after: int, until: int) -> Iterator[tuple[Any, ...]]:
    sql = (
        f"SELECT number, size, {TIMES[connection.vendor].format('sealed_at')}, note, digest, previous "
        "FROM audit_auditcheckpoint WHERE number > %s AND number <= %s ORDER BY number LIMIT 500"
    )
    while rows := driver.fetch_any(sql, [after, until]):
        yield from rows
        after = rows[-1][0]
