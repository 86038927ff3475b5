"""The SHA-256 of a stream. Of one that comes faster than it can be taken, it is taken beside the reading, on a thread.

A program that prints as fast as a pipe goes is slowed by whoever reads it, and SHA-256 takes longer than the reading.
`hashlib` lets go of the interpreter meanwhile, so that both go on at once. A program that is the slower side would be
slowed by a thread more, so that has to be seen first: the pipe is full whenever it is read.
"""

import hashlib
import queue
import threading
from contextlib import suppress
from typing import Final

#: So many pieces in a row, each as large as a read can be, say that the program waits for the digest.
FULL_IN_A_ROW: Final = 48
#: So many pieces wait at most; whoever has another one waits for room.
_WAITING: Final = 4


class Digest:
    """What `hashlib.sha256` is, for one thread that feeds it. `hexdigest` ends it."""

    def __init__(self, *, full_bytes: int) -> None:
        self._sha256 = hashlib.sha256()
        self._full_bytes = full_bytes
        self._full = 0
        self._pieces: queue.Queue[bytes | bytearray | memoryview | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None

    def is_beside(self) -> bool:
        """Return whether a thread takes it."""
        return self._thread is not None

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. They may not be changed afterwards."""
        if self._thread is not None:
            self._pieces.put(data)
            return
        self._sha256.update(data)
        self._full = self._full + 1 if len(data) >= self._full_bytes else 0
        if self._full >= FULL_IN_A_ROW:
            self._full = 0
            thread = threading.Thread(target=self._work, name="digest", daemon=True)
            # What it watches over may have used up all the threads that there are for both.
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def hexdigest(self) -> str:
        """Return the digest of all that was fed; nothing may be fed after it."""
        if self._thread is not None:
            self._pieces.put(None)
            self._thread.join()
            self._thread = None
        return self._sha256.hexdigest()

    def _work(self) -> None:
        while (data := self._pieces.get()) is not None:
            self._sha256.update(data)
