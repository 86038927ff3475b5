"""A file of lines that is only appended to, each line with a checksum, made new when most of it is no longer needed."""

import contextlib
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shellagent.host.state import sync

logger = logging.getLogger(__name__)

CHECKSUM_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Line:
    """An entry and where it stands in the file; `size` counts what surrounds it too."""

    content: dict[str, Any]
    offset: int
    size: int


def line(content: object) -> bytes:
    """Return an entry as it stands in the file.

    A line feed stands on both sides, so that damage to one byte, whichever it is, damages one entry.
    """
    data = json.dumps(content, separators=(",", ":")).encode()
    return b"\n%08x %s\n" % (zlib.crc32(data), data)


def parse(data: bytes) -> dict[str, Any] | None:
    """Return the entry of one line without its line feeds, or None for a damaged one."""
    checksum, separator, text = data[:CHECKSUM_LENGTH], data[CHECKSUM_LENGTH : CHECKSUM_LENGTH + 1], data[9:]
    if separator != b" " or checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


@dataclass
class AppendedFile:
    """The file. One thread at a time may use it; `size` is up to where it is known to be whole."""

    path: Path
    size: int = field(default=0, init=False)
    _descriptor: int = field(default=-1, init=False, repr=False)
    #: After a failed write or sync nobody knows what is on the disk: only writing it all anew helps.
    is_doubtful: bool = field(default=False, init=False)

    def read(self) -> Iterator[Line | bytes]:
        """Go through the file one line at a time: its entries, and as bytes the damaged lines.

        A last line that was torn is neither: it was never confirmed.
        """
        offset = 0
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            for part in file:
                content = parse(part.rstrip(b"\n"))
                if content is not None:
                    yield Line(content, offset, len(part))
                elif part.strip(b"\n") and part.endswith(b"\n"):
                    yield part
                offset += len(part)

    def append(self, data: bytes, *, is_synced: bool) -> int:
        """Append lines and return the offset where they begin. Raises OSError; then none of them counts."""
        try:
            descriptor = self._opened()
            offset = self.size
            _write(descriptor, data, offset)
            if is_synced:
                os.fdatasync(descriptor)
        except OSError:
            self.is_doubtful = True
            if self._descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)
        return offset

    def content(self, offset: int, size: int) -> dict[str, Any] | None:
        """Return the entry that stands there, or None where it is damaged. Raises OSError."""
        return parse(os.pread(self._opened(), size, offset).strip(b"\n"))

    def rewrite(self, parts: Iterable[bytes]) -> None:
        """Put lines in place of all that is there, durably, or leave it as it was. Raises OSError."""
        partial = self.path.with_name(f".{self.path.name}.partial")
        descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            size = 0
            for part in parts:
                _write(descriptor, part, size)
                size += len(part)
            os.fsync(descriptor)
            partial.rename(self.path)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        self.close()
        self._descriptor, self.size = descriptor, size
        # Until this has worked, a power cut may bring the old file back: what is appended now could be lost.
        self.is_doubtful = True
        sync(self.path.parent)
        self.is_doubtful = False

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _opened(self) -> int:
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            self.size = os.fstat(self._descriptor).st_size
        return self._descriptor


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
