"""Reading the hosts' journals from outside, all the time: which results a host kept, whatever became of it later."""

import contextlib
import threading
from pathlib import Path
from typing import Final

from shellagent.host.appended import parse

EVERY_SECONDS: Final = 0.1


class Journals:
    """Collects, from each journal, the sessions whose result was written there. A report of `lost` is no result."""

    def __init__(self, paths: list[Path]) -> None:
        self.results: dict[str, str] = {}
        self._paths = paths
        self._places: dict[Path, tuple[int, int]] = {}
        self._is_over = threading.Event()
        self._looking = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="journals", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Read what is left and end."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.look()

    def look(self) -> None:
        """Read what is new. A file that was written anew is read from its beginning."""
        with self._looking:
            for path in self._paths:
                with contextlib.suppress(OSError):
                    self._read(path)

    def _work(self) -> None:
        while not self._is_over.wait(EVERY_SECONDS):
            self.look()

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            inode = path.stat().st_ino
            known, offset = self._places.get(path, (0, 0))
            if inode != known:
                offset = 0
            file.seek(offset)
            data = file.read()
        # A line that is being written has no line feed at its end yet.
        whole = data[: data.rfind(b"\n") + 1]
        self._places[path] = (inode, offset + len(whole))
        for text in whole.split(b"\n"):
            content = parse(text) if b'{"result":' in text[:24] else None
            if content and content["result"]["outcome"] != "lost":
                self.results[content["result"]["id"]] = content["result"]["outcome"]
