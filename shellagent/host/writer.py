"""Bytes of the host's own on their way to a command's descriptor, without ever waiting for who reads them."""

import errno
import fcntl
import os
import stat
from dataclasses import dataclass


@dataclass(slots=True)
class Writer:
    """Takes a descriptor of its own for a pipe, because whether one waits belongs to the opening, which others share.

    A file or a device takes everything at once. `error` is the number of what went wrong, 0 as long as nothing did.
    """

    descriptor: int
    data: memoryview
    error: int = 0

    @classmethod
    def begin(cls, descriptor: int, data: bytes) -> "Writer":
        """Write what there is room for; the rest follows with `go_on` each time there is room again."""
        writer = cls(-1, memoryview(data))
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
            writer.descriptor = _another(descriptor) if is_pipe else os.dup(descriptor)
        except OSError as error:
            writer.error = error.errno or errno.EIO
        writer.go_on()
        return writer

    @property
    def is_done(self) -> bool:
        """Return whether nothing is left to be written, or nothing can be."""
        return self.descriptor < 0

    def go_on(self) -> None:
        """Write until there is no room. To be called when poll says that there is some, or that no one reads."""
        try:
            while self.data and not self.error:
                self.data = self.data[os.write(self.descriptor, self.data) :]
        except BlockingIOError:
            return
        except OSError as error:
            self.error = error.errno or errno.EIO
        self.close()

    def close(self) -> None:
        """Let the descriptor go."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _another(descriptor: int) -> int:
    """Open a pipe's end to write a second time, so that only this opening does not wait."""
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
