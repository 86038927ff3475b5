"""The measuring itself: the peers take turns, in short blocks, so that each meets the same machine."""

import contextlib
import os
import random
import time
from collections.abc import Iterator

import psutil

from bench.figures import Load, Row, Run
from bench.options import Options
from bench.peers import Peer
from bench.workspace import PeerFailed, Workspace

#: Fewer commands than this say nothing of a rate.
MANY_LEAST = 40
WARM_SAMPLES = 5


class Rounds:
    """The peers that could be started, measured in turn."""

    def __init__(self, options: Options, run: Run) -> None:
        self.options = options
        self.run = run
        self._entries: list[tuple[Peer, Row]] = []
        self._counts: dict[str, int] = {}

    def start(self, workspace: Workspace, peers: list[Peer]) -> None:
        """Start and warm every peer that this machine can have; the rest become rows that say why not."""
        for peer in peers:
            row = Row(peer.key, peer.label, peer.at_once, missing=peer.missing())
            self.run.rows.append(row)
            if row.missing:
                say(f"{peer.label}: missing, {row.missing}")
                continue
            with self._taking_turn(peer, row):
                begun = time.monotonic()
                peer.start(workspace)
                self._warm(peer)
                say(f"{peer.label}: ready after {time.monotonic() - begun:.1f} s")
            if not row.failure:
                self._entries.append((peer, row))

    def measure(self) -> None:
        """Run all rounds."""
        for index in range(self.options.rounds):
            begun = time.monotonic()
            average, before = os.getloadavg()[0], psutil.cpu_times()
            for _peer, row in self._entries:
                row.one.append([])
            for turn in range(self.options.passes):
                for peer, row in self._in_turn(turn):
                    with self._taking_turn(peer, row):
                        self._block(peer, row)
            for peer, row in self._in_turn(index):
                with self._taking_turn(peer, row):
                    count = self._counts[peer.key]
                    row.many.append((count, peer.many(count)))
            self.run.loads.append(_load(average, before, psutil.cpu_times()))
            say(f"round {index + 1} of {self.options.rounds}: {time.monotonic() - begun:.0f} s")

    def _in_turn(self, shift: int) -> list[tuple[Peer, Row]]:
        """Return the peers that still work, each time from another one on, so that none always follows the same."""
        able = [entry for entry in self._entries if not entry[1].failure]
        shift %= max(1, len(able))
        return able[shift:] + able[:shift]

    def _warm(self, peer: Peer) -> None:
        for _sample in range(WARM_SAMPLES):
            peer.one()
        count = min(peer.warm_count, self.options.many_limit)
        rate = count / peer.many(count)
        self._counts[peer.key] = int(min(max(rate * self.options.many_seconds, MANY_LEAST), self.options.many_limit))

    def _block(self, peer: Peer, row: Row) -> None:
        deadline = time.monotonic() + self.options.block_seconds
        # The first after a change of turns finds cold caches; it would be the same for all and is not counted.
        peer.one()
        for _sample in range(self.options.block_samples):
            time.sleep(random.uniform(0, peer.pause_seconds))  # noqa: S311 - a pause, not a secret
            row.one[-1].append(peer.one())
            if time.monotonic() > deadline:
                return

    @contextlib.contextmanager
    def _taking_turn(self, peer: Peer, row: Row) -> Iterator[None]:
        """Let one peer run. One that fails is out of the run, with its reason in its row."""
        peer.resume()
        try:
            yield
        except PeerFailed as failure:
            row.failure = str(failure)
            say(f"{peer.label}: FAILED, {failure}")
        finally:
            peer.park()


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(text, flush=True)


def _load(average: float, before: "psutil._ntuples.scputimes", after: "psutil._ntuples.scputimes") -> Load:
    total = sum(after) - sum(before) or 1.0
    idle = (after.idle - before.idle) + (after.iowait - before.iowait)
    return Load(average, 100 * (1 - idle / total), 100 * (after.steal - before.steal) / total)
