"""What a verification says: a verdict, and every finding with the range it is of. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    SOUND = "sound"
    TAMPERED = "tampered"
    INCOMPLETE = "incomplete"


class Severity(StrEnum):
    TAMPERED = "tampered"
    INCOMPLETE = "incomplete"
    WARNING = "warning"


@dataclass(slots=True)
class Finding:
    """Something wrong with a range: leaves or checkpoints `first` to `last`, or one thing named in `what`."""

    severity: Severity
    what: str
    first: int | None = None
    last: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return {"severity": str(self.severity), "what": self.what, "first": self.first, "last": self.last}


@dataclass(slots=True)
class Report:
    """What was verified and found. `first` and `size` are leaves: from this one up to, not including, that one."""

    first: int = 0
    size: int = 0
    checkpoint: int = 0
    digest: str = ""
    #: Events of leaves below this one may be gone, by a signed statement.
    retired: int = 0
    findings: list[Finding] = field(default_factory=list)
    #: Findings beyond the first thousand are counted only.
    more: int = 0
    is_tampered: bool = False
    is_incomplete: bool = False

    @property
    def verdict(self) -> Verdict:
        """Return the worst of what was found."""
        if self.is_tampered:
            return Verdict.TAMPERED
        return Verdict.INCOMPLETE if self.is_incomplete else Verdict.SOUND

    def find(self, severity: Severity, what: str, at: int | None = None, last: int | None = None) -> None:
        """Add a finding; one that goes on where the last of its kind ended makes that one longer."""
        self.is_tampered = self.is_tampered or severity is Severity.TAMPERED
        self.is_incomplete = self.is_incomplete or severity is Severity.INCOMPLETE
        end = at if last is None else last
        for known in reversed(self.findings[-8:]):
            if at is not None and (known.severity, known.what) == (severity, what) and known.last in (at - 1, at):
                known.last = end
                return
        if len(self.findings) < 1000:
            self.findings.append(Finding(severity, what, at, end))
        else:
            self.more += 1

    def to_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return {
            "verdict": str(self.verdict),
            "first": self.first,
            "size": self.size,
            "checkpoint": self.checkpoint,
            "digest": self.digest,
            "retired": self.retired,
            "findings": [finding.to_json() for finding in self.findings],
            "findings_not_shown": self.more,
        }
