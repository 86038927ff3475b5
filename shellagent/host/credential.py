"""The host's key while it runs. All connections share it, and take up a new one when its file has it."""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shellagent.client.credentials import read_secret, take_key
from shellagent.host.errors import StateError
from shellagent.host.state import KEY_VARIABLE, StateFolder, write_durably

logger = logging.getLogger(__name__)


@dataclass
class Credential:
    """A key. `file` is where it is from; None for one that was given for this run only."""

    key: str = field(repr=False)
    file: Path | None = None
    _seen: tuple[int, int, int] = field(default=(0, 0, 0), init=False, repr=False)

    def __post_init__(self) -> None:
        self._seen = self._look()

    def refresh(self) -> bool:
        """Take up the file's key where the file was replaced. Returns whether that is another key."""
        seen = self._look()
        if self.file is None or seen == self._seen:
            return False
        try:
            key = read_secret(self.file, missing=f"{self.file} is gone.")
        except StateError as error:
            logger.error("The new key cannot be read: %s", error)
            return False
        self._seen = seen
        is_new, self.key = key != self.key, key
        return is_new

    def _look(self) -> tuple[int, int, int]:
        try:
            info = os.stat(self.file) if self.file is not None else None
        except OSError:
            info = None
        return (info.st_ino, info.st_mtime_ns, info.st_size) if info is not None else (0, 0, 0)


def credential_of(state: StateFolder) -> Credential:
    """Return the host's key from ATOM_HOST_KEY or the state folder. Raises StateError with the next step."""
    key = take_key(KEY_VARIABLE)
    return Credential(key) if key else Credential(state.key(), state.key_file)


def renew(state: StateFolder, ask: Callable[[str], str]) -> None:
    """Replace the key in the state folder by the one that `ask` gets for it. Raises StateError, OSError, CallError.

    One process at a time: of two that asked at once, the first one's key would be void before it was used.
    """
    with _alone(state):
        key = read_secret(state.key_file, missing="This host is not enrolled: run `manage.py localagent enroll`.")
        write_durably(state.key_file, ask(key).encode() + b"\n")


@contextmanager
def _alone(state: StateFolder) -> Iterator[None]:
    descriptor = os.open(state.path / "key.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
