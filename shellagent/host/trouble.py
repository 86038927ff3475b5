"""The last thing that went wrong on this host, for its next poll to tell."""

import logging
from dataclasses import dataclass, field
from typing import Final

from shellagent.masking import masked

MOST_CHARACTERS: Final = 300


class _Errors(logging.Handler):
    """Keeps the last error that the local agent logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


@dataclass
class Trouble:
    """Listens to the local agent's log from `watch` until `close`."""

    _errors: _Errors = field(default_factory=_Errors, init=False, repr=False)

    def watch(self) -> None:
        """Begin to listen."""
        logging.getLogger("shellagent.host").addHandler(self._errors)

    def close(self) -> None:
        """Listen no more."""
        logging.getLogger("shellagent.host").removeHandler(self._errors)

    def last(self) -> str:
        """Return the last error as one short line, with secrets masked; empty where there was none."""
        line = " ".join(self._errors.last.split())
        text = masked(line.encode(errors="replace")).decode(errors="replace").replace("\0", "")
        return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
