"""A PostgreSQL server whose files are all in one small folder, its log of changes too: to see it run out of room."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.workspace import PeerFailed

_SECONDS = 60


@dataclass(frozen=True, slots=True)
class SmallServer:
    """`url` is a DATABASE_URL; `start` starts the server again where it has ended, as a service manager does."""

    url: str
    start: tuple[str, ...]
    log: Path


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


@contextmanager
def small_server(folder: Path, logs: Path) -> Iterator[SmallServer | None]:
    """Start one in this folder, for the length of the block. It is PostgreSQL's user's, so only root can."""
    binaries = programs()
    if binaries is None:
        yield None
        return
    for place in (folder, logs):
        shutil.chown(place, "postgres")
        for parent in list(place.parents)[:-2]:
            parent.chmod(parent.stat().st_mode | 0o011)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, log = folder / "data", logs / "server.log"
    settings = (
        f"-p {port} -k {logs} -c listen_addresses=127.0.0.1 -c shared_buffers=8MB -c max_connections=20 "
        "-c min_wal_size=2MB -c max_wal_size=8MB"
    )
    control = ("runuser", "-u", "postgres", "--", str(binaries / "pg_ctl"), "-D", str(data), "-w")
    start = (*control, "-l", str(log), "-o", settings, "start")
    initialise = "-A trust -U postgres -E UTF8 --locale=C --wal-segsize=1 --no-sync"
    try:
        _run((*control, "-o", initialise, "init"))
        _run(start)
        yield SmallServer(f"postgresql://postgres@127.0.0.1:{port}/postgres", start, log)
    finally:
        subprocess.run((*control, "-m", "immediate", "stop"), check=False, capture_output=True, timeout=_SECONDS)


def _run(argv: tuple[str, ...]) -> None:
    # Its output goes nowhere: the server would hold a pipe open for as long as it runs.
    done = subprocess.run(argv, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_SECONDS)
    if done.returncode:
        raise PeerFailed(f"{argv[-1]} of a PostgreSQL server of its own ended with {done.returncode}")
