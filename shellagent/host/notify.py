"""Telling a service manager how it goes, by systemd's protocol of datagrams (`sd_notify(3)`). Without one: nothing."""

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import Final

#: As set by systemd for what it starts itself; what that starts in turn inherits them and is not meant.
SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE: Final = "WATCHDOG_USEC"
SEND_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Notifier:
    """Sends to one socket; every method does nothing where there is none. Never raises, never waits long."""

    address: str = ""
    #: A sign of life is due within this many seconds; 0 where none is wanted.
    watchdog_seconds: float = 0.0

    @classmethod
    def of_environment(cls) -> "Notifier":
        """Return the one that this process's service manager wishes for, and take it from the environment."""
        address = os.environ.pop(SOCKET_VARIABLE, "")
        wanted = os.environ.pop(WATCHDOG_VARIABLE, "")
        meant = os.environ.pop("WATCHDOG_PID", "")
        if meant not in ("", str(os.getpid())) or not wanted.isdigit():
            wanted = "0"
        return cls(address, int(wanted) / 1_000_000)

    def ready(self, status: str) -> None:
        """Say that it has come up."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say in a few words what it does, for `systemctl status`."""
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """Give the sign of life that the watchdog waits for."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        """Say that its end has begun."""
        self._send("STOPPING=1", f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if not self.address:
            return
        # An `@` stands for the byte with which an abstract address begins.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        message = "\n".join(line.replace("\n", " ") for line in lines)
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
        ):
            out.settimeout(SEND_SECONDS)
            out.sendto(message.encode(), address)
