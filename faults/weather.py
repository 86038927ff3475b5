"""What goes wrong besides the network, drawn by a seed: kills, outages, full disks, clock steps, hosts cut off."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from faults.disk import Disk
from faults.options import Options
from faults.stack import HOSTS, Stack

#: How often each happens, of a hundred.
WEIGHTS: Final = {
    "host killed": 26,
    "supervisor killed": 12,
    "zygote killed": 5,
    "server killed": 9,
    "server's worker process killed": 7,
    "task worker killed": 8,
    "server down for seconds": 6,
    "disk full": 6,
    "host's clock stepped": 8,
    "server's clock stepped": 6,
    "host cut off for seconds": 7,
}
#: A server that is stepped further than a lease is long would rightly take its hosts for dead.
SERVER_STEP_SECONDS: Final = 45
HOST_STEP_SECONDS: Final = 7200


class Weather:
    """One thread that draws what goes wrong next. `counts` is what was done."""

    def __init__(self, stack: Stack, disk: Disk, options: Options) -> None:
        self.counts: Counter[str] = Counter()
        self._stack, self._disk, self._options = stack, disk, options
        self._random = random.Random(f"{options.seed}:weather")  # noqa: S311 - no secret: the seed is to repeat it
        self._is_over = threading.Event()
        self._timers: list[threading.Timer] = []
        self._thread = threading.Thread(target=self._work, name="weather", daemon=True)
        self._deeds: dict[str, Callable[[], bool]] = {
            "host killed": lambda: stack.kill(self._host()),
            "supervisor killed": lambda: stack.kill(self._host(), "grandchild"),
            "zygote killed": lambda: stack.kill(self._host(), "child"),
            "server killed": lambda: stack.kill("web"),
            "server's worker process killed": lambda: stack.kill("web", "child"),
            "task worker killed": lambda: stack.kill("worker", self._random.choice(("main", "child"))),
            "server down for seconds": lambda: self._server_down(self._random.uniform(2, 4 if self._short else 15)),
            "disk full": self._disk_full,
            "host's clock stepped": self._step_host,
            "server's clock stepped": self._step_server,
            "host cut off for seconds": lambda: self._cut_off(self._random.uniform(1, 3 if self._short else 15)),
        }

    @property
    def _short(self) -> bool:
        return self._options.is_short

    def start(self) -> None:
        """Begin: the long outage and the long cut-off come at a quarter and at three fifths of the way."""
        seconds = self._options.fault_seconds
        self._later(seconds / 4, lambda: self._count(self._outage_name(), self._server_down(self._outage)))
        if self._options.cut_off_seconds:
            name = f"host cut off for {self._options.cut_off_seconds:.0f} s"
            self._later(seconds * 3 / 5, lambda: self._count(name, self._cut_off(self._options.cut_off_seconds)))
        self._thread.start()

    def close(self) -> None:
        """Let nothing more go wrong, and mend what is."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        for timer in self._timers:
            timer.cancel()
        self._disk.free()
        self._stack.proxies.calm()

    @property
    def _outage(self) -> float:
        return self._options.outage_seconds

    def _outage_name(self) -> str:
        return f"server down for {self._outage:.0f} s"

    def _work(self) -> None:
        names, weights = list(WEIGHTS), list(WEIGHTS.values())
        while not self._is_over.wait(self._random.uniform(0.2, 1.8) * self._options.gap_seconds):
            (name,) = self._random.choices(names, weights)
            self._count(name, self._deeds[name]())

    def _count(self, name: str, was_done: bool) -> None:
        if was_done:
            self.counts[name] += 1

    def _later(self, seconds: float, do: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, do)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _host(self) -> str:
        return self._random.choice(HOSTS)

    def _server_down(self, seconds: float) -> bool:
        return self._stack.kill("web", down_seconds=seconds)

    def _disk_full(self) -> bool:
        if not self._disk.fill():
            return False
        self._later(self._random.uniform(1, 3 if self._short else 10), self._disk.free)
        return True

    def _step_host(self) -> bool:
        clock = self._stack.clocks[self._host()]
        clock.step(self._random.randint(-HOST_STEP_SECONDS, HOST_STEP_SECONDS))
        return clock.library is not None

    def _step_server(self) -> bool:
        clock = self._stack.clocks["server"]
        clock.step(self._random.randint(-SERVER_STEP_SECONDS, SERVER_STEP_SECONDS))
        return clock.library is not None

    def _cut_off(self, seconds: float) -> bool:
        self._stack.proxies.cut_off(self._host(), seconds)
        return True
