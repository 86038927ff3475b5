"""Messages between the local agent and its supervisors: JSON objects over a socket, each with its length before it."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

LENGTH: Final = struct.Struct("!I")
TIMEVAL: Final = struct.Struct("@ll")
READ_BYTES: Final = 256 * 1024

Message = dict[str, Any]


class ClosedError(Exception):
    """The other end is gone."""


@dataclass(slots=True, eq=False)
class Channel:
    """One end. Any thread may send; one at a time may read."""

    socket: socket.socket
    _read: bytearray = field(default_factory=bytearray, init=False, repr=False)
    _waiting: list[Message] = field(default_factory=list, init=False, repr=False)
    _sending: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def fileno(self) -> int:
        """Return the descriptor, which is readable when `take` has something to take."""
        return self.socket.fileno()

    @property
    def has_waiting(self) -> bool:
        """Return whether messages were read that nobody has taken."""
        return bool(self._waiting)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message. Raises ClosedError."""
        data = json.dumps(message, separators=(",", ":")).encode()
        try:
            with self._sending:
                self.socket.sendall(LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise ClosedError from error

    def limit(self, seconds: int) -> None:
        """Let no call wait longer for the other end: it counts as gone then."""
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, option, TIMEVAL.pack(seconds, 0))

    def receive(self) -> Message:
        """Wait for the next message. Raises ClosedError."""
        while not self._waiting:
            try:
                self._fill(0)
            except BlockingIOError as error:
                raise ClosedError from error
        return self._waiting.pop(0)

    def take(self) -> list[Message]:
        """Return the messages that are there, without waiting. Raises ClosedError at the end."""
        if not self._waiting:
            with contextlib.suppress(BlockingIOError):
                self._fill(socket.MSG_DONTWAIT)
        taken, self._waiting = self._waiting, []
        return taken

    def close(self) -> None:
        """Close this end, which tells the other."""
        self.socket.close()

    def _fill(self, flags: int) -> None:
        try:
            data = self.socket.recv(READ_BYTES, flags)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ClosedError from error
        if not data:
            raise ClosedError
        self._read += data
        while len(self._read) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._read)[0]
            if len(self._read) < end:
                return
            self._waiting.append(json.loads(self._read[LENGTH.size : end]))
            del self._read[:end]
