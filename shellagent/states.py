"""A session's life: its states, and the lettered arrows between them. docs/reference/states.md draws it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from audit.tags import Tag


class AuditMode(StrEnum):
    """What is done on a host where the audit trail cannot be kept."""

    #: Nothing new runs, and what runs is stopped.
    STRICT = "strict"
    #: Commands run all the same; what could not be written is counted.
    BEST_EFFORT = "best_effort"


AUDIT_MODES: Final = [(mode.value, mode.value) for mode in AuditMode]


class Status(StrEnum):
    """Where a session is. Terminal states never change."""

    DENIED = "denied"
    PENDING = "pending"
    QUEUED = "queued"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    CLAIMED = "claimed"
    RUNNING = "running"
    REFUSED = "refused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    ABORTED = "aborted"
    LOST = "lost"

    @property
    def tag(self) -> Tag:
        """Return the tag of the event that tells of arriving here."""
        return Tag(f"session:{self.value}")

    @property
    def is_terminal(self) -> bool:
        """Return whether nothing can follow."""
        return self not in ACTIVE


#: Where a session may begin, and by which arrow.
BEGINNINGS: Final[Mapping[Status, str]] = {Status.DENIED: "a", Status.PENDING: "b", Status.QUEUED: "c"}

#: Every arrow between two states, by its letter. Whatever is not here cannot happen.
TRANSITIONS: Final[Mapping[tuple[Status, Status], str]] = {
    (Status.PENDING, Status.QUEUED): "d",
    (Status.PENDING, Status.REJECTED): "e",
    (Status.PENDING, Status.EXPIRED): "f",
    (Status.PENDING, Status.CANCELLED): "g",
    (Status.QUEUED, Status.CANCELLED): "g",
    (Status.CLAIMED, Status.CANCELLED): "g",
    (Status.QUEUED, Status.CLAIMED): "h",
    (Status.QUEUED, Status.EXPIRED): "i",
    (Status.CLAIMED, Status.RUNNING): "j",
    (Status.RUNNING, Status.SUCCEEDED): "k",
    (Status.RUNNING, Status.FAILED): "k",
    (Status.RUNNING, Status.TIMED_OUT): "k",
    (Status.RUNNING, Status.ABORTED): "l",
    (Status.RUNNING, Status.LOST): "m",
    (Status.CLAIMED, Status.REFUSED): "n",
    (Status.RUNNING, Status.REFUSED): "n",
    (Status.CLAIMED, Status.QUEUED): "o",
    # A stricter decision, taken again at the approval or at the claim.
    (Status.PENDING, Status.DENIED): "p",
    (Status.QUEUED, Status.DENIED): "p",
    (Status.QUEUED, Status.PENDING): "q",
}

ACTIVE: Final = frozenset(source for source, _target in TRANSITIONS)
TERMINAL: Final = frozenset(Status) - ACTIVE


def sources_of(target: Status) -> frozenset[Status]:
    """Return the states from which `target` can be reached."""
    return frozenset(source for source, reached in TRANSITIONS if reached == target)


class Numbered(NamedTuple):
    """A session that took its next event number, and what its events are about."""

    session_id: UUID
    event_seq: int
    agent_id: int
    host_id: int
    category: str
