"""The folder that a plan is in: open, so that it stays the same one, and with the name that the plan knows it by."""

import os
import posixpath
from dataclasses import dataclass

from shellagent.host.environment import open_directory


@dataclass(slots=True)
class Folder:
    """`path` is what `$PWD` says and may lead through links; `real` does not."""

    descriptor: int
    path: str
    real: str

    @classmethod
    def open(cls, path: str) -> "Folder":
        """Open an absolute path. Raises RefusedError where it is no folder that can be entered."""
        descriptor, real = open_directory(path)
        name = "/" + posixpath.normpath(path).lstrip("/")
        try:
            is_same = os.path.samestat(os.fstat(descriptor), os.stat(name))
        except OSError:
            is_same = False
        # `link/..` names another folder than the same text without links does.
        return cls(descriptor, name if is_same else real, real)

    def absolute(self, path: str) -> str:
        """Return a path that is meant from this folder as an absolute one."""
        return os.path.join(self.real, path)

    def close(self) -> None:
        """Let the folder go."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
