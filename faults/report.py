"""What a run prints: one line while it goes on, every figure at the end."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from faults.verdict import Verdict

MOST_IDS = 20


def say(text: str) -> None:
    """Print one line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run on one database."""

    database: str
    seed: int
    started_at: str
    sessions: int
    #: How many were asked for and acknowledged before the last fault.
    amid_faults: int
    fault_seconds: float
    drain_seconds: float
    disk: str
    clock: str
    deeds: Mapping[str, int]
    network: Mapping[str, int]
    ends: Mapping[str, int]
    clients: Mapping[str, int]
    turned_down: tuple[str, ...]
    verdict: Verdict

    @property
    def holds(self) -> bool:
        """Return whether all held."""
        return self.verdict.holds

    def lines(self) -> list[str]:
        """Return the figures as text."""
        verdict = self.verdict
        found = [
            f"--- {self.database}: seed {self.seed}, {self.sessions} sessions, {self.started_at}",
            f"faults for {self.fault_seconds:.0f} s, in which {self.amid_faults} were asked for; settled"
            f" {self.drain_seconds:.0f} s later",
            f"full disk by {self.disk}; clocks by {self.clock}",
            *_table("what was done", self.deeds),
            *_table("what the network did", self.network),
            *_table("how processes ended", self.ends),
            *_table("what clients met", self.clients),
            *_table("how sessions ended", verdict.ended),
            f"  commands that began {verdict.begun}, came to their end {verdict.came_to_end},"
            f" results kept by a host {verdict.kept}, late results {verdict.late},"
            f" ended as if nothing had happened {verdict.undisturbed}",
            "what must be 0",
        ]
        for rule, who in verdict.broken.items():
            found.append(f"  {len(who):6d}  {rule}")
            found += [f"          {one}" for one in who[:MOST_IDS]]
            if len(who) > MOST_IDS:
                found.append(f"          and {len(who) - MOST_IDS} more")
        found += [f"  turned down: {text}" for text in self.turned_down[:MOST_IDS]]
        found.append(f"{self.database}: {'HOLDS' if self.holds else 'DOES NOT HOLD'}")
        return found


def to_json(outcomes: list[Outcome]) -> str:
    """Return every figure."""
    content: list[dict[str, Any]] = [{**asdict(outcome), "holds": outcome.holds} for outcome in outcomes]
    return json.dumps(content, indent=2)


def _table(title: str, counts: Mapping[str, int]) -> list[str]:
    return [title, *(f"  {count:6d}  {name}" for name, count in sorted(counts.items()))]
