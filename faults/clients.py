"""Agents that ask for commands through the proxy, again and again with one Idempotency-Key until they are answered."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from faults.stack import HOSTS

LANES: Final = 4
CANCELLED_PERCENT: Final = 3
ANSWER_SECONDS: Final = 10.0
#: What a command does, and how often of a hundred; work.py says what each is.
MODES: Final = {"quick": 46, "sleep": 25, "loud": 8, "daemon": 8, "fail": 7, "stubborn": 2, "timeout": 4}


@dataclass(frozen=True, slots=True)
class Asked:
    """A session that the server acknowledged: its token, its id, and what its command does."""

    token: str
    id: str
    mode: str
    host: str


class Clients:
    """Asks for `count` sessions, spread evenly over `seconds`. `asked` is by token; `turned_down` are other answers."""

    def __init__(self, *, port: int, key: str, marker: str, seed: int, count: int, seconds: float) -> None:
        self.asked: dict[str, Asked] = {}
        self.turned_down: list[str] = []
        self.counts: Counter[str] = Counter()
        #: How many may be open at once; whoever asks waits meanwhile.
        self.may_ask = threading.Event()
        self.may_ask.set()
        self._port, self._key, self._marker, self._seed = port, key, marker, seed
        self._count, self._seconds = count, seconds
        self._is_over = threading.Event()
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._lane, args=(lane,), daemon=True) for lane in range(LANES)]

    def start(self) -> None:
        """Begin to ask."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    @property
    def is_done(self) -> bool:
        """Return whether each was asked for and answered."""
        return not any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Ask for nothing more, and wait for the threads."""
        self._is_over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(2 * ANSWER_SECONDS)

    def _lane(self, lane: int) -> None:
        drawn = random.Random(f"{self._seed}:client {lane}")  # noqa: S311 - no secret: the seed is to repeat it
        for number in range(lane, self._count, LANES):
            due = self._began + self._seconds * number / self._count
            while not self._is_over.is_set() and (time.monotonic() < due or not self.may_ask.is_set()):
                time.sleep(0.02)
            if self._is_over.is_set():
                return
            self._ask(f"{self._marker}-{number:05d}", drawn)

    def _ask(self, token: str, drawn: random.Random) -> None:
        (mode,) = drawn.choices(list(MODES), list(MODES.values()))
        host = drawn.choice(HOSTS)
        seconds = drawn.uniform(0.2, 3.0) if mode != "quick" and drawn.random() < 0.7 else 0.0
        timeout = 30
        if mode in ("stubborn", "timeout"):
            seconds, timeout = 60.0, 1
        body = {
            "argv": ["python3", "work.py", token, mode, f"{seconds:.2f}"],
            "host": host,
            "timeout_seconds": timeout,
            "reason": "fault run",
        }
        is_cancelled = drawn.random() * 100 < CANCELLED_PERCENT
        answer = self._until_answered("/execute", body, {"Idempotency-Key": token}, drawn)
        if answer is None:
            return
        if "id" not in answer:
            self.turned_down.append(f"{token}: {json.dumps(answer)[:300]}")
            return
        self.asked[token] = Asked(token, str(answer["id"]), mode, host)
        if is_cancelled:
            time.sleep(drawn.uniform(0.0, 1.0))
            self._until_answered(f"/sessions/{answer['id']}/cancel", {}, {}, drawn)
            self.counts["cancel asked for"] += 1

    def _until_answered(
        self, path: str, body: dict[str, Any], headers: dict[str, str], drawn: random.Random
    ) -> dict[str, Any] | None:
        """Return the first answer that is whole and no server error; None once the run is over."""
        while not self._is_over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
            try:
                fixed = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
                connection.request("POST", f"/api/local-agent{path}", json.dumps(body), {**fixed, **headers})
                response = connection.getresponse()
                content = response.read()
                if response.status < 500 and response.status != 429:
                    found: dict[str, Any] = json.loads(content)
                    return found
                self.counts[f"answer {response.status}"] += 1
            except (OSError, http.client.HTTPException, ValueError):
                self.counts["asked again"] += 1
            finally:
                connection.close()
            time.sleep(drawn.uniform(0.1, 0.6))
        return None
