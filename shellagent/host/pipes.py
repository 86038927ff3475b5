"""Reading what a command prints."""

import contextlib
import fcntl
import os
from typing import Final

from shellagent.host.capture import WIDE_READ_BYTES, Capture

READ_BYTES: Final = 64 * 1024
#: A stream that has printed so much gets a pipe of this size, so that program and host take turns less often.
WIDE_BYTES: Final = 1024 * 1024


def read(descriptor: int, capture: Capture) -> bool:
    """Take what is there; returns False at the end."""
    try:
        data = os.read(descriptor, READ_BYTES if capture.total < WIDE_BYTES else WIDE_READ_BYTES)
    except OSError:
        return False
    if not data:
        return False
    before = capture.total
    capture.feed(data)
    if before < WIDE_BYTES <= capture.total:
        _widen(descriptor)
    return True


def drain(descriptor: int, capture: Capture) -> None:
    """Take what is left in a pipe without waiting for more."""
    os.set_blocking(descriptor, False)
    for _ in range(64):
        if not read(descriptor, capture):
            return


def _widen(descriptor: int) -> None:
    """Make a pipe larger, where the kernel lets this user."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, WIDE_BYTES)
