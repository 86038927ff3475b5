"""The server's keys that this host pinned: a start runs only where one of them signed for it.

The first key comes with the enrolment, or from ATOM_SERVER_KEY; a host that was given only a URL and a key pins what
the server shows first. From then on a key counts only if a pinned one endorsed it.
"""

import functools
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shellagent import signing
from shellagent.host.errors import StateError
from shellagent.host.state import write_durably
from shellagent.protocol import Assignment, ServerKey, StartGrant

logger = logging.getLogger(__name__)

KEY_VARIABLE: Final = "ATOM_SERVER_KEY"
#: How many keys are kept; the oldest are past their time long before.
MOST_KEYS: Final = 8


#: Returns why a grant does not let an assignment run here under a start key, or an empty text where it does.
Judge = Callable[[Assignment, StartGrant, str], str]


@dataclass
class PinnedKeys:
    """The file at `path`: each public key, and until when its grants count (Unix time; None: no end is known)."""

    path: Path
    clock: Callable[[], float] = time.time
    _keys: dict[str, float | None] = field(default_factory=dict, init=False)
    _offered: tuple[ServerKey, ...] = field(default=(), init=False)

    def load(self) -> None:
        """Read the file, or take ATOM_SERVER_KEY. Raises StateError for a damaged one: nothing may run then."""
        wanted = os.environ.get(KEY_VARIABLE, "").strip().lower()
        try:
            stored = json.loads(self.path.read_text())["keys"]
            self._keys = {str(key): None if until is None else float(until) for key, until in stored.items()}
        except FileNotFoundError:
            self._keys = {}
        except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise StateError(f"{self.path} is damaged: {error}. Enrol this host again.") from error
        if not all(map(signing.is_key, [*self._keys, *([wanted] if wanted else [])])):
            raise StateError("A pinned key of the server is not 64 hexadecimal digits. Enrol this host again.")
        if wanted and not self._keys:
            self.pin(wanted)
        elif wanted and wanted not in self._keys:
            raise StateError(
                f"{KEY_VARIABLE} names another key than {self.path} has. Remove the one that is not the server's."
            )

    def pin(self, key: str) -> None:
        """Trust this key alone. Raises OSError, StateError for a text that is no key."""
        if not signing.is_key(key):
            raise StateError("The server's key is not 64 hexadecimal digits. Is it a server of this product?")
        self._write({key: None})

    @property
    def newest(self) -> str:
        """Return the key pinned last, or an empty text."""
        return next(reversed(self._keys), "")

    def learn(self, offered: Sequence[ServerKey]) -> str:
        """Take up the keys that a server shows, oldest first. Returns a sentence for the log, mostly empty."""
        seen = tuple(offered)
        if not seen or seen == self._offered:
            return ""
        self._offered = seen
        try:
            return self._learned(seen)
        except (OSError, StateError) as error:
            self._offered = ()
            return f"WARNING: the server's key cannot be kept, and nothing that it signs will run here: {error}"

    def _learned(self, offered: Sequence[ServerKey]) -> str:
        if not self._keys:
            self.pin(offered[-1].key)
            return f"pinned the key that the server shows first: {self.newest}"
        keys = dict(self._keys)
        for item in offered:
            if item.key in keys or item.endorsed_by not in keys:
                continue
            if signing.is_key(item.key) and signing.is_endorsed(item):
                keys[item.endorsed_by] = float(item.until)
                keys[item.key] = None
        if keys != self._keys:
            self._write(keys)
            return f"the server has a new key, endorsed by the one before it: {self.newest}"
        if offered[-1].key in keys:
            return ""
        return (
            "WARNING: the server shows a key that no pinned key endorsed. Nothing that it signs will run here. "
            "If its operators replaced the key, enrol this host again."
        )

    def judge(self, host_id: str, grants: Iterable[tuple[StartGrant, str, str]]) -> Judge:
        """Return what judges the grants of one answer, given each with the start key and the digest that it is for."""
        return functools.partial(self._refusal, signing.Granted(host_id, grants))

    def _refusal(self, granted: signing.Granted, assignment: Assignment, grant: StartGrant, start_key: str) -> str:
        if not grant.signature:
            return "The start was granted without a signature of the server."
        if grant.key not in self._keys:
            return "The start was signed with a key that this host has not pinned. Enrol the host again if it is right."
        until = self._keys[grant.key]
        if until is not None and self.clock() >= until:
            return "The start was signed with a key of the server whose time is over."
        # For what would run, which need not be what the answer says elsewhere of the same session.
        if grant.id != assignment.id or not granted.is_signed(grant, start_key=start_key, digest=assignment.digest):
            return "The server's signature is not over what this host would run."
        if grant.deadline_seconds < assignment.timeout_seconds:
            return "The start was granted for less time than the session may take."
        return ""

    def _write(self, keys: dict[str, float | None]) -> None:
        kept = dict(list(keys.items())[-MOST_KEYS:])
        write_durably(self.path, json.dumps({"keys": kept}, indent=2).encode() + b"\n")
        self._keys = kept
