"""What `up` shows: its own words, and its children's lines with the child's name before each."""

import json
import sys
import threading
from collections import deque
from collections.abc import Mapping
from typing import Final, TextIO

from atomsite.terminal import is_coloured, paint, visible

HELD_LINES: Final = 1_000
COLOURS: Final[Mapping[str, str]] = {"web": "36", "worker": "35", "agent": "33"}


class Console:
    """Whole lines from several threads to one stream. `hold` keeps the children's lines back while a tour talks."""

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._as_json = as_json
        self._is_coloured = is_coloured(self._stream) and not as_json
        self._lock = threading.Lock()
        self._held: deque[str] | None = None

    def say(self, text: str) -> None:
        """Print a line of our own."""
        self._write(json.dumps({"message": text}) if self._as_json else text)

    def report(self, values: Mapping[str, object]) -> None:
        """Print an object, for programs; nothing where the output is for people."""
        if self._as_json:
            self._write(json.dumps(values))

    def relay(self, name: str, line: str) -> None:
        """Print a line that the child `name` wrote; control characters become escapes."""
        text = visible(line)
        if self._as_json:
            shown = json.dumps({"process": name, "line": text})
        else:
            shown = paint(f"{name:<6} |", COLOURS.get(name, "37"), on=self._is_coloured) + f" {text}"
        with self._lock:
            if self._held is None:
                self._print(shown)
            else:
                self._held.append(shown)

    def hold(self) -> None:
        """Keep the children's lines back, the last thousand of them."""
        with self._lock:
            self._held = deque(maxlen=HELD_LINES)

    def release(self) -> None:
        """Print what was held back, and hold back no more."""
        with self._lock:
            held, self._held = self._held or (), None
            for line in held:
                self._print(line)

    def _write(self, text: str) -> None:
        with self._lock:
            self._print(text)

    def _print(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            # Whoever read our output has gone; the children must still be stopped in order.
            return
