"""Keeping what a command prints in flat memory: its first bytes, its last, the total and a digest, secrets masked.

The masked bytes are as many as the printed ones, so that offsets and totals are those of both. Only what is kept is
masked; the middle is never stored. The digest is of the stream as it is kept: masked where it is kept, as printed in
between. So it can be checked against what is stored, equals that of the printed bytes where nothing was masked, and is
of no use for guessing a secret.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from shellagent import protocol
from shellagent.host.digest import Digest
from shellagent.masking import LINE_BYTES, NOTHING_KNOWN, Known, Masker

#: Pieces smaller than this are put together, so that a command that prints single bytes does not fill the memory.
_PIECE_BYTES: Final = 32 * 1024
#: Of a long stream so much is read at once.
WIDE_READ_BYTES: Final = 256 * 1024


@dataclass
class Capture:
    """One stream."""

    stream: str
    head_bytes: int = protocol.HEAD_BYTES
    tail_bytes: int = protocol.TAIL_BYTES
    known: Known = NOTHING_KNOWN
    total: int = field(default=0, init=False)
    #: The head's next byte that was not handed on while the command runs, moved on by whoever hands it on.
    told: int = field(default=0, init=False)
    #: How many secrets each rule masked in what is kept; whole once the stream is closed.
    masked: Counter[str] = field(default_factory=Counter, init=False)
    _head: bytearray = field(default_factory=bytearray, init=False, repr=False)
    _tail: bytes = field(default=b"", init=False, repr=False)
    _is_closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._digest = Digest(full_bytes=WIDE_READ_BYTES)
        self._sha256 = ""
        self._masker: Masker | None = Masker(self.known, on_found=self._found_in_head)
        self._lookahead = self._masker.lookahead
        #: The last bytes as printed: the tail, and enough before it to tell where a secret begins.
        self._recent: deque[bytes | bytearray] = deque()
        self._recent_bytes = 0
        self._wanted_bytes = self.tail_bytes + LINE_BYTES + self._lookahead

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        offset = self.total
        self.total += len(data)
        if self._masker is not None:
            # Some bytes past the head say whether a secret begins in it.
            self._settle(self._masker.feed(data[: self.head_bytes + self._lookahead - offset]))
            if self.total >= self.head_bytes + self._lookahead:
                self._close_head(self._masker)
        last = self._recent[-1] if self._recent else b""
        if isinstance(last, bytearray) and len(last) + len(data) <= 2 * _PIECE_BYTES:
            last += data
        else:
            self._recent.append(data if len(data) >= _PIECE_BYTES else bytearray(data))
        self._recent_bytes += len(data)
        while self._recent_bytes - len(self._recent[0]) >= self._wanted_bytes:
            self._digest_middle(self._recent.popleft())

    def close(self) -> None:
        """Settle all that was printed. Nothing is fed after it; the results below call it."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._masker is not None:
            self._close_head(self._masker)
        starts = max(self.head_bytes, self.total - self.tail_bytes)
        if starts < self.total:
            self._close_tail(starts)
        self._recent.clear()
        self._sha256 = self._digest.hexdigest()

    def _settle(self, data: bytes) -> None:
        self._head += data[: self.head_bytes - len(self._head)]

    def _close_head(self, masker: Masker) -> None:
        self._settle(masker.close())
        self._masker = None
        self._digest.update(bytes(self._head))

    def _close_tail(self, starts: int) -> None:
        recent = b"".join(self._recent)
        first = self.total - len(recent)
        context = max(first, starts - LINE_BYTES - self._lookahead)
        middle = max(first, self.head_bytes)
        self._digest.update(recent[middle - first : starts - first])

        def found(rule: str, start: int, end: int) -> None:
            # What begins before the tail was found in the head already, if the head goes that far.
            if start >= starts or (end > starts and self.is_truncated):
                self.masked[rule] += 1

        masker = Masker(self.known, start=context, on_found=found)
        kept = masker.feed(recent[context - first :]) + masker.close()
        self._tail = kept[starts - context :]
        self._digest.update(self._tail)

    def _digest_middle(self, data: bytes | bytearray) -> None:
        """Count bytes that leave the memory, but for those that the head has."""
        start = self.total - self._recent_bytes
        self._recent_bytes -= len(data)
        self._digest.update(memoryview(data)[max(0, self.head_bytes - start) :])

    def _found_in_head(self, rule: str, start: int, _end: int) -> None:
        if start < self.head_bytes:
            self.masked[rule] += 1

    @property
    def is_truncated(self) -> bool:
        """Return whether bytes between head and tail were dropped."""
        return self.total > self.head_bytes + self.tail_bytes

    def head_from(self, offset: int) -> bytes:
        """Return the bytes of the head from `offset` on, as far as they are settled."""
        return bytes(self._head[offset:])

    def tail(self) -> bytes:
        """Return the last bytes, in order; empty while the head holds everything."""
        self.close()
        return self._tail

    def totals(self) -> protocol.StreamTotal:
        """Return size, digest and whether the middle was cut."""
        self.close()
        return protocol.StreamTotal(self.total, self._sha256, self.is_truncated)

    def segments(self) -> list[protocol.OutputSegment]:
        """Return what is kept, in parts of at most a segment."""
        tail = self.tail()
        found = self._parts(0, self.head_from(0), is_tail=False)
        return found + self._parts(self.total - len(tail), tail, is_tail=self.is_truncated)

    def _parts(self, offset: int, data: bytes, *, is_tail: bool) -> list[protocol.OutputSegment]:
        size = protocol.SEGMENT_BYTES
        return [
            protocol.OutputSegment.of(self.stream, offset + at, data[at : at + size], is_tail=is_tail)
            for at in range(0, len(data), size)
        ]
