"""The temporary folder of a run and all that is started or created for it: gone when the run ends, however it ends."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Final, Self

import psutil

from bench.options import REPOSITORY

TERM_SECONDS = 15.0
#: What the environment of a measured process must not inherit: it would change what is measured.
SCRUBBED = ("ATOM_", "DJANGO_", "CELERY", "Q_CLUSTER", "DATABASE_URL", "REDIS_URL", "SECRET_KEY", "PORT", "DEBUG")


class PeerFailed(Exception):  # noqa: N818 - it is an outcome of a row, not a fault of the program
    """A peer that is there does not do its work; the message says what was seen."""


#: Not below /tmp, which agents may read: a home in there is kept from their commands by opening all that is beside it,
#: one by one, and again whenever another process of the machine makes or removes a file there.
_PLACE: Final = "/var/tmp" if os.path.isdir("/var/tmp") else None  # noqa: S108 - a folder of its own is made in it


class Workspace(contextlib.ExitStack):
    """A folder, processes and clean-up. Used as a context; Ctrl-C and TERM unwind it like any other end."""

    def __init__(self, prefix: str = "atom-bench-") -> None:
        super().__init__()
        self._prefix = prefix
        self._is_kept = False

    def __enter__(self) -> Self:
        super().__enter__()
        self.path = Path(tempfile.mkdtemp(prefix=self._prefix, dir=_PLACE))
        # The temporary account must be able to pass through; what is secret lies deeper, in folders of its own.
        self.path.chmod(0o711)
        self.callback(self._remove)
        previous = signal.signal(signal.SIGTERM, _interrupt)
        self.callback(signal.signal, signal.SIGTERM, previous)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        # A second Ctrl-C must not leave half of it behind; each step below has its own time limit.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            super().__exit__(kind, error, trace)
        finally:
            signal.signal(signal.SIGINT, previous)

    def keep(self) -> Path:
        """Have the folder stay for a look at it afterwards; returns it."""
        self._is_kept = True
        return self.path

    def _remove(self) -> None:
        if not self._is_kept:
            shutil.rmtree(self.path, ignore_errors=True)

    def folder(self, name: str, mode: int = 0o700) -> Path:
        """Create and return a folder in the workspace."""
        path = self.path / name
        path.mkdir(mode=mode)
        path.chmod(mode)
        return path

    def spawn(
        self, argv: Sequence[str], *, name: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> "Spawned":
        """Start a process in a session of its own, its output in `<name>.log`; it is ended with the workspace."""
        log = self.path / f"{name}.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                argv,
                env=environment(env or {}),
                cwd=cwd or self.path,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        spawned = Spawned(process, log, name)
        self.callback(spawned.end)
        return spawned


class Spawned:
    """A started process, all it starts, and its log."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, name: str) -> None:
        self.process = process
        self.log = log
        self.name = name

    def tail(self, lines: int = 12) -> str:
        """Return the end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_for(self, is_ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until it is ready. Raises PeerFailed, with its log's end, where it ends first or takes too long."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self.process.poll() is not None:
                raise PeerFailed(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise PeerFailed(f"{self.name} was not ready after {seconds:.0f} s:\n{self.tail()}")
            time.sleep(0.05)

    def tree(self) -> list[psutil.Process]:
        """Return the process and all its descendants that are alive."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def park(self) -> None:
        """Stop it with SIGSTOP, so that its own polling takes nothing from whoever is measured now."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """TERM, wait, KILL what is left of the whole tree. May be called twice."""
        tree = self.tree()
        if self.process.poll() is None:
            self.resume()
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(TERM_SECONDS)
        for left in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        psutil.wait_procs(tree, timeout=5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)

    def _signal(self, number: signal.Signals) -> None:
        for one in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(number)


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what would change a measured program, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SCRUBBED)}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **extra}


def free_port() -> int:
    """Return a TCP port on the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, seconds: float = 120
) -> str:
    """Run a step of the set-up and return what it printed. Raises PeerFailed with that where it does not succeed."""
    try:
        done = subprocess.run(
            argv,
            env=environment(env or {}),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerFailed(f"{argv[0]}: {error}") from error
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise PeerFailed(f"{' '.join(argv)} exited with {done.returncode}:\n{text[-2000:]}")
    return text


@contextlib.contextmanager
def watchdog(process: "subprocess.Popen[bytes]", seconds: float) -> Iterator[None]:
    """Kill `process` if the block takes longer: a read from its pipe then ends instead of hanging for ever."""
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def readline(stream: IO[bytes]) -> str:
    """Return the next line of a driver. Raises PeerFailed at its end."""
    line = stream.readline()
    if not line:
        raise PeerFailed("the driver ended or did not answer in time")
    return line.decode().strip()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
