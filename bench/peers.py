"""What every row of the report can do: run one command, run many, start, be parked, stop. And the plainest of them."""

import abc
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.workspace import PeerFailed, Spawned, Workspace

#: Commands in flight at once where the client decides it.
AT_ONCE = 8
COMMAND_SECONDS = 30.0
#: What every row runs: a program by its path, because shells and the product have a `true` of their own.
COMMAND = "/bin/true"


class Peer(abc.ABC):
    """One way to run a command on this machine. `key` names the row, `label` is what a reader sees."""

    key: str
    label: str
    #: What runs at once while `many` is measured, in words.
    at_once: str = f"{AT_ONCE} at once"
    #: The longest pause before a request when idle, in seconds. The pause is random and not measured; for a row that
    #: polls it is the poll's interval, so that requests do not fall in step with it.
    pause_seconds: float = 0.01
    #: Commands that bring it to its steady state before anything counts.
    warm_count: int = 60
    #: A process that polls while nothing is asked of it, and is therefore stopped while others are measured.
    worker: Spawned | None = None

    def missing(self) -> str | None:
        """Return why this machine cannot have this row, or None where it can."""
        return None

    @abc.abstractmethod
    def start(self, workspace: Workspace) -> None:
        """Set it up and start it. Raises PeerFailed where that does not work."""

    @abc.abstractmethod
    def one(self) -> float:
        """Run one `/bin/true` and return the seconds from asking to having its result. Raises PeerFailed."""

    @abc.abstractmethod
    def many(self, count: int) -> float:
        """Run it `count` times; return the seconds from the first request to the last result. Raises PeerFailed."""

    def park(self) -> None:
        """Take no time while another row is measured."""
        if self.worker:
            self.worker.park()

    def resume(self) -> None:
        """Undo `park`."""
        if self.worker:
            self.worker.resume()


class CommandPeer(Peer):
    """A row that is one process a command: `argv` gives it."""

    @abc.abstractmethod
    def argv(self) -> Sequence[str]:
        """Return the command line that runs it."""

    def one(self) -> float:
        return timed(self._call)

    def many(self, count: int) -> float:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return timed(lambda: list(pool.map(lambda _index: self._call(), range(count))))

    def _call(self) -> None:
        done = subprocess.run(
            self.argv(), stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=False
        )
        if done.returncode:
            raise PeerFailed(f"{self.key} exited with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")


class BareSpawn(CommandPeer):
    """The floor: what starting the process and reading its output costs when nothing else is done."""

    key = "bare"
    label = "bare subprocess.run"
    at_once = f"{AT_ONCE} threads"

    def start(self, workspace: Workspace) -> None:
        """Need nothing."""

    def argv(self) -> Sequence[str]:
        return (COMMAND,)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
