"""What another policy would have decided on what was asked before. The app that has the sessions gives the answers."""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from governance.policy.decide import Policy
from governance.policy.types import Outcome

#: How many sessions the admin looks back over.
LAST = 200


@dataclass(frozen=True, slots=True)
class Change:
    """One session whose decision would be another."""

    session_id: str
    agent: str
    host: str
    maturity: str
    command: str
    before: Outcome
    after: Outcome
    #: The ids of the rules that decide after, and the explanation.
    rules: tuple[str, ...]
    why: str

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "session_id": self.session_id,
            "agent": self.agent,
            "host": self.host,
            "maturity": self.maturity,
            "command": self.command,
            "before": str(self.before),
            "after": str(self.after),
            "rules": list(self.rules),
            "explanation": self.why,
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """The last sessions, decided twice. Those whose request was erased are counted apart."""

    total: int
    erased: int
    allowed_before: int
    allowed_after: int
    changes: tuple[Change, ...]

    def sentences(self) -> list[str]:
        """Return what would change, for people."""
        if not self.total:
            return ["No command has been asked for yet, so there is nothing to compare with."]
        text = f"Would have allowed {self.allowed_after} of the last {self.total} (before: {self.allowed_before})."
        said = [text, "No decision would be another."] if not self.changes else [text]
        counts = Counter((change.before, change.after) for change in self.changes)
        said += [
            f"{count} that {_WAS[before]} would be {_IS[after]}."
            for (before, after), count in sorted(counts.items(), key=lambda item: -item[1])
        ]
        if self.erased:
            said.append(f"Of {self.erased} more the request was erased: nothing can be said of them.")
        return said


_WAS = {Outcome.ALLOW: "were allowed", Outcome.ASK: "asked a person", Outcome.DENY: "were denied"}
_IS = {Outcome.ALLOW: "allowed", Outcome.ASK: "asked about", Outcome.DENY: "denied"}


class History(Protocol):
    """What an app that keeps sessions knows."""

    def replay(self, before: Policy, after: Policy, last: int) -> Replay:
        """Return the last sessions, decided by both policies."""
        ...

    def host_names(self) -> list[str]:
        """Return the names of all hosts."""
        ...


_histories: list[History] = []


def register(history: History) -> None:
    """Let the admin of rules ask this history."""
    _histories[:] = [history]


def history() -> History | None:
    """Return the history that was registered."""
    return _histories[0] if _histories else None
