"""Exports over HTTP, piece by piece: a few at a time, because each holds a thread of a web process until it is over."""

import threading
from collections.abc import Callable, Iterator
from typing import Final

from django.http import StreamingHttpResponse

from shellagent.errors import TooManyError
from shellagent.exporting import Export

#: At once in one web process.
MOST_AT_ONCE: Final = 2
_places = threading.BoundedSemaphore(MOST_AT_ONCE)


class _Pieces:
    """The pieces of an export. Its place is free again when it is closed, whether or not it was begun."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._lock = threading.Lock()
        self._is_held = True

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        with self._lock:
            if self._is_held:
                self._is_held = False
                _places.release()


def download(make: Callable[[], Export]) -> StreamingHttpResponse:
    """Return the answer that hands an export over, which is made once there is a place for it.

    Raises TooManyError where others are being handed over already, and what `make` does.
    """
    if not _places.acquire(blocking=False):
        raise TooManyError("Other exports are being downloaded. Try again when they are done.")
    try:
        export = make()
    except BaseException:
        _places.release()
        raise
    headers = {
        "Content-Disposition": f'attachment; filename="{export.name}"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingHttpResponse(_Pieces(export.pieces), content_type=export.form.media_type, headers=headers)
