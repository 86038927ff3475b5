"""Keeping what a command prints in flat memory: its first bytes, its last, the total and a digest of everything."""

import hashlib
from dataclasses import dataclass, field

from shellagent import protocol


@dataclass
class Capture:
    """One stream. `feed` is called by one thread; `head_from` may be called by another at any time."""

    stream: str
    head_bytes: int = protocol.HEAD_BYTES
    tail_bytes: int = protocol.TAIL_BYTES
    total: int = field(default=0, init=False)
    #: The head's next byte that the server has not acknowledged, moved on by whoever sends it.
    sent: int = field(default=0, init=False)
    _head: bytearray = field(default_factory=bytearray, init=False, repr=False)
    _ring: bytearray = field(default_factory=bytearray, init=False, repr=False)
    _at: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._digest.update(data)
        self.total += len(data)
        room = self.head_bytes - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._keep_last(data)

    def _keep_last(self, data: bytes) -> None:
        size = self.tail_bytes
        data = data[-size:]
        grow = min(size - len(self._ring), len(data))
        if grow > 0:
            self._ring += data[:grow]
            data = data[grow:]
        while data:
            part = data[: size - self._at]
            self._ring[self._at : self._at + len(part)] = part
            self._at = (self._at + len(part)) % size
            data = data[len(part) :]

    @property
    def is_truncated(self) -> bool:
        """Return whether bytes between head and tail were dropped."""
        return self.total > len(self._head) + len(self._ring)

    def head_from(self, offset: int) -> bytes:
        """Return the bytes of the head from `offset` on."""
        return bytes(self._head[offset:])

    def tail(self) -> bytes:
        """Return the last bytes, in order; empty while the head holds everything."""
        return bytes(self._ring[self._at :] + self._ring[: self._at])

    def totals(self) -> protocol.StreamTotal:
        """Return size, digest and whether the middle was cut."""
        return protocol.StreamTotal(self.total, self._digest.hexdigest(), self.is_truncated)

    def segments(self) -> list[protocol.OutputSegment]:
        """Return what is kept and not yet acknowledged, in parts of at most a segment."""
        tail = self.tail()
        found = self._parts(self.sent, self.head_from(self.sent), is_tail=False)
        return found + self._parts(self.total - len(tail), tail, is_tail=self.is_truncated)

    def _parts(self, offset: int, data: bytes, *, is_tail: bool) -> list[protocol.OutputSegment]:
        size = protocol.SEGMENT_BYTES
        return [
            protocol.OutputSegment.of(self.stream, offset + at, data[at : at + size], is_tail=is_tail)
            for at in range(0, len(data), size)
        ]
