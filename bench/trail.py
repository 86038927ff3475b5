"""The trail's figures: appending, verifying a million events, parts of them, and what it costs a governed command."""

import json
import statistics
import subprocess
import sys
import threading
import time

import psutil

from bench.figures import TrailFigure
from bench.options import REPOSITORY
from bench.ours import MANAGE, Ours
from bench.services import Postgres
from bench.workspace import PeerFailed, Workspace, environment, run

#: Writing the million events takes minutes, and verifying them has to end some time.
FILL_SECONDS = 3600
MIB = 1024 * 1024
#: Commands in turn with the trail and without, in so many blocks.
BLOCKS, BLOCK_SAMPLES = 12, 15


def measure(workspace: Workspace, database: str, postgres: Postgres, events: int, seconds: float) -> TrailFigure:
    """Return the figures on a database of its own. Raises PeerFailed."""
    env = {"ATOM_HOME": str(workspace.folder("home")), "DJANGO_SETTINGS_MODULE": "atomsite.settings"}
    if database == "postgres":
        env["DATABASE_URL"] = postgres.create(workspace, "trail")
    run([sys.executable, MANAGE, "init"], env=env, cwd=REPOSITORY)

    def probe(**asked: object) -> dict[str, float]:
        argv = [sys.executable, "-m", "bench.projects.trail_probe", json.dumps(asked)]
        printed = run(argv, env=env, cwd=REPOSITORY, seconds=FILL_SECONDS)
        found: dict[str, float] = json.loads(printed.splitlines()[-1])
        return found

    appended = probe(ask="append", seconds=seconds)
    filled = probe(ask="fill", events=events)
    verified, peak = _verified(env, events)
    looked = probe(ask="look")
    return TrailFigure(
        key=database,
        append_rate=appended["rate"],
        append_longest_ms=appended["longest_ms"],
        events=events,
        fill_seconds=filled["seconds"],
        verify_seconds=verified,
        verify_mib=peak,
        last_ms=looked["last_ms"],
        look_ms=looked["look_ms"],
        entry_ms=looked["entry_ms"],
        cost_percent=tuple(_cost(database, postgres)),
    )


def _verified(env: dict[str, str], events: int) -> tuple[float, float]:
    """Run `auditverify` as a person does. Returns its seconds, start included, and its processes' peak in MiB."""
    argv = [sys.executable, MANAGE, "auditverify", "--json"]
    began = time.perf_counter()
    process = subprocess.Popen(argv, env=environment(env), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    peak, is_over = [0.0], threading.Event()
    watching = threading.Thread(target=_watch, args=(psutil.Process(process.pid), peak, is_over))
    watching.start()
    printed, _ = process.communicate(timeout=FILL_SECONDS)
    seconds = time.perf_counter() - began
    is_over.set()
    watching.join()
    report = json.loads(printed)
    if process.returncode or report["size"] < events:
        raise PeerFailed(f"auditverify: {printed[:500]}")
    return seconds, peak[0]


def _watch(process: psutil.Process, peak: list[float], is_over: threading.Event) -> None:
    """Keep the most memory that a process and its children have, each shared page counted once."""
    while not is_over.wait(0.2):
        total = 0
        try:
            for one in [process, *process.children()]:
                total += one.memory_full_info().pss
        except psutil.Error:
            continue
        peak[0] = max(peak[0], total / MIB)


def _cost(database: str, postgres: Postgres) -> list[float]:
    """Return how much of a command's round trip the trail takes, in percent, block by block."""
    found = []
    with Workspace() as workspace:
        peers = [Ours(database, postgres, concurrency=2), Ours(database, postgres, concurrency=2, has_trail=False)]
        for peer in peers:
            peer.start(workspace)
            for _ in range(BLOCK_SAMPLES):
                peer.one()
        for _ in range(BLOCKS):
            trailed, plain = map(_block, peers)
            found.append(100 * (1 - plain / trailed))
    return found


def _block(peer: Ours) -> float:
    peer.rest()
    peer.one()
    return statistics.median(peer.one() for _ in range(BLOCK_SAMPLES))
