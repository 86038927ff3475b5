"""Waiting longer after each failure, at random, so that many hosts do not come back at the same moment."""

import random
from dataclasses import dataclass, field
from typing import Final

FIRST_SECONDS: Final = 0.5
MOST_SECONDS: Final = 30.0


@dataclass(slots=True)
class Backoff:
    """Exponential with full jitter: a wait is anything up to the bound, and the bound doubles up to 30 s."""

    failures: int = field(default=0, init=False)

    def next(self) -> float:
        """Return the next wait in seconds."""
        bound = min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(self.failures, 10))
        self.failures += 1
        return random.uniform(0.05, bound)  # noqa: S311 - jitter is no secret

    def reset(self) -> None:
        """Begin anew: it worked."""
        self.failures = 0
