"""What must hold at the end, from what was asked, what commands wrote down, what hosts kept, and what the server says.

Everything here is a plain value, so that each rule can be shown to fail.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

OPEN: Final = frozenset({"pending", "queued", "claimed", "running"})
#: A session in one of these never began to run.
NEVER_RAN: Final = frozenset({"denied", "rejected", "expired", "cancelled", "pending", "queued", "claimed"})
#: By what its command does, how a session ends that nothing disturbed.
UNDISTURBED: Final = {
    "quick": ("succeeded", 0),
    "sleep": ("succeeded", 0),
    "loud": ("succeeded", 0),
    "daemon": ("succeeded", 0),
    "fail": ("failed", 3),
}


@dataclass(frozen=True, slots=True)
class Effect:
    """What a session's command wrote down: how often it began, and how often it came to its end."""

    begun: int = 0
    ended: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known at the end. `asked` is by id, as (token, mode); `effects` by token."""

    count: int
    asked: Mapping[str, tuple[str, str]]
    effects: Mapping[str, Effect]
    #: Sessions whose result a host wrote to its journal.
    kept: Iterable[str]
    #: Each as `faults.inside` gives it.
    sessions: Sequence[Mapping[str, Any]]
    processes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Each rule and who breaks it; the run holds where nobody does."""

    broken: Mapping[str, tuple[str, ...]]
    ended: Mapping[str, int]
    begun: int
    came_to_end: int
    late: int
    kept: int
    undisturbed: int
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Return whether no rule is broken."""
        return not any(self.broken.values())


def judge(facts: Facts) -> Verdict:
    """Apply every rule."""
    rows = {str(row["id"]): row for row in facts.sessions}
    effects = {i: facts.effects.get(token, Effect()) for i, (token, _mode) in facts.asked.items()}
    kept = frozenset(facts.kept)
    tokens = {token for token, _mode in facts.asked.values()}
    broken = {
        "run twice": [i for i, effect in effects.items() if effect.begun > 1],
        "results lost": [
            i for i in facts.asked if effects[i].ended and i in kept and not rows.get(i, {}).get("records")
        ],
        "left open": [i for i, row in rows.items() if row["status"] in OPEN],
        "processes left behind": list(facts.processes),
        "acknowledged and unknown to the server": [i for i in facts.asked if i not in rows],
        "made twice for one Idempotency-Key": [i for i in rows if i not in facts.asked],
        "not asked for to the end": [f"{facts.count - len(facts.asked)} sessions"] * (len(facts.asked) < facts.count),
        "ran, and the record says that it did not": [
            *(i for i, effect in effects.items() if effect.begun and i in rows and rows[i]["status"] in NEVER_RAN),
            *(token for token in facts.effects if token not in tokens),
        ],
        "ended well by the record, and not by its effect": [
            i for i, row in rows.items() if row["status"] == "succeeded" and i in effects and effects[i].ended != 1
        ],
        "another result than the command's": [
            i for i, row in rows.items() if i in facts.asked and _is_wrong(row, facts.asked[i][1])
        ],
        "reported as left behind by a host": [
            i for i, row in rows.items() if any(record["left_behind"] for record in row["records"])
        ],
        "events missing": [i for i, row in rows.items() if row["has_gap"]],
        "denied, or a person asked, though nobody changed a rule": [
            i for i, row in rows.items() if row["status"] in ("denied", "rejected", "pending")
        ],
        "lost or refused without a reason": [
            i for i, row in rows.items() if row["status"] in ("lost", "refused") and not row["reason"]
        ],
    }
    return Verdict(
        broken={rule: tuple(who) for rule, who in broken.items()},
        ended=dict(sorted(Counter(_outcome(row) for row in rows.values()).items())),
        begun=sum(1 for effect in effects.values() if effect.begun),
        came_to_end=sum(1 for effect in effects.values() if effect.ended),
        late=sum(1 for row in rows.values() if any(record["is_late"] for record in row["records"])),
        kept=len(kept & facts.asked.keys()),
        undisturbed=sum(1 for i, row in rows.items() if i in facts.asked and _is_undisturbed(row, facts.asked[i][1])),
    )


def effects_of(folders: Iterable[Path]) -> dict[str, Effect]:
    """Read what commands wrote below these folders."""
    found: dict[str, Effect] = {}
    for folder in folders:
        for file in folder.iterdir():
            words = [line.split(" ")[0] for line in file.read_text().splitlines()]
            # Two folders with one token are two runs too.
            known = found.get(file.name, Effect())
            found[file.name] = Effect(known.begun + words.count("begin"), known.ended + words.count("end"))
    return found


def _outcome(row: Mapping[str, Any]) -> str:
    reason = row["reason"]
    return f"{row['status']} ({reason})" if row["status"] in ("lost", "refused", "aborted") else str(row["status"])


def _is_undisturbed(row: Mapping[str, Any], mode: str) -> bool:
    wanted = UNDISTURBED.get(mode, ("timed_out", row["exit_code"]))
    return (row["status"], row["exit_code"]) == wanted


def _is_wrong(row: Mapping[str, Any], mode: str) -> bool:
    """Return whether a result is none that this command can have."""
    if row["status"] == "succeeded":
        return UNDISTURBED.get(mode) != ("succeeded", row["exit_code"])
    return row["status"] == "failed" and mode != "fail"
