"""Files that hold keys: owner-only JSON, written whole, read again once they were replaced. No Django."""

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Final, Generic, TypeVar

Value = TypeVar("Value")
#: A file is looked at again after so long: asking the system costs more than all that is done with a key.
RECHECK_SECONDS: Final = 1.0


class KeyFileError(RuntimeError):
    """A file of keys is missing, damaged, or not the owner's alone. The text says which and what to do."""


def key_file_read(path: Path) -> Any:
    """Return the JSON of a file of keys. Raises KeyFileError where it cannot be read or others can read it."""
    try:
        with path.open() as stream:
            info = os.fstat(stream.fileno())
            if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeyFileError(f"{path} can be read by others. Run `chmod 600 {path}` and then rotate the key.")
            if info.st_uid not in (os.geteuid(), 0):
                raise KeyFileError(f"{path} belongs to another user. Make it the server's own.")
            return json.load(stream)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise damaged(path) from error


def unreadable(path: Path, error: OSError) -> KeyFileError:
    """Return the error for a file that is not there or cannot be opened."""
    return KeyFileError(f"{path} cannot be read: {error.strerror}. Run `manage.py init` on the server.")


def damaged(path: Path) -> KeyFileError:
    """Return the error for a file whose content is not what it should be."""
    return KeyFileError(f"{path} is damaged. Put back a copy of it, or remove it and run `init`.")


def key_file_write(path: Path, content: object) -> None:
    """Write a file of keys, owner-only, so that it is there whole or as it was. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, 0o600)
        json.dump(content, stream, indent=2)
        stream.write("\n")
        stream.flush()
        os.fsync(descriptor)
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Watched(Generic[Value]):
    """What was read of a file, read again within `RECHECK_SECONDS` where the file was replaced or its mode changed."""

    def __init__(self, read: Callable[[Path], Value]) -> None:
        self._read: Final = read
        self._lock: Final = Lock()
        self._kept: tuple[tuple[object, ...], Value] | None = None
        #: Until when the file is not looked at again, by `time.monotonic`.
        self._until = 0.0

    def get(self, path: str) -> Value:
        """Return the file's content. Raises what reading raises, and KeyFileError where the file is not there."""
        now, kept = time.monotonic(), self._kept
        if kept is not None and now < self._until and kept[0][0] == path:
            return kept[1]
        try:
            info = os.stat(path)
        except OSError as error:
            raise unreadable(Path(path), error) from error
        seen = (path, info.st_ino, info.st_mtime_ns, info.st_size, info.st_mode, info.st_uid)
        with self._lock:
            kept = self._kept
            if kept is None or kept[0] != seen:
                kept = self._kept = seen, self._read(Path(path))
            self._until = now + RECHECK_SECONDS
        return kept[1]

    def look_again(self) -> None:
        """Have the file looked at with the next question, because it was just replaced."""
        self._until = 0.0
