"""The SHA-256 of a stream. Of a long one it is taken beside the reading, on a thread of its own.

A program that prints as fast as a pipe goes is slowed by whoever reads it, and SHA-256 takes about as long as the
reading. `hashlib` lets go of the interpreter meanwhile, so that both go on at once.
"""

import hashlib
import queue
import threading
from typing import Final

#: Most streams are shorter, and not worth a thread.
LONG_BYTES: Final = 1024 * 1024
#: So many pieces wait at most; whoever has another one waits for room.
_WAITING: Final = 4


class Digest:
    """What `hashlib.sha256` is, for one thread that feeds it. `hexdigest` ends it."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._pieces: queue.Queue[bytes | bytearray | memoryview | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. They may not be changed afterwards."""
        self._size += len(data)
        if self._thread is None:
            if self._size <= LONG_BYTES:
                self._sha256.update(data)
                return
            self._thread = threading.Thread(target=self._work, name="digest", daemon=True)
            self._thread.start()
        self._pieces.put(data)

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
