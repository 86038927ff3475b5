"""A session on this host between its claim and its result."""

import uuid
from dataclasses import dataclass, field
from typing import Final

from governance.policy.plan import Plan
from shellagent.host import console
from shellagent.host.channel import ClosedError
from shellagent.host.journal import Entry, report_without_run
from shellagent.host.slots import Slot
from shellagent.host.zygote import Supervisor
from shellagent.protocol import Assignment, ExecutionReport, Reason, RunOutcome, StartGrant

#: How many sessions that ran are remembered; a server does not let one run that was made over an hour ago.
MOST_REMEMBERED: Final = 10_000


@dataclass(slots=True, eq=False)
class Claimed:
    """A session from its claim to its result."""

    assignment: Assignment
    slot: Slot
    start_key: str = field(default_factory=lambda: str(uuid.uuid4()))
    #: What came with the claim where the start was asked for with it.
    grant: StartGrant | None = None
    is_running: bool = False
    order: tuple[Reason, float] | None = None

    @property
    def id(self) -> str:
        """Return the session's id."""
        return self.assignment.id

    @property
    def shown(self) -> str:
        """Return its command, for a line in the log."""
        try:
            return console.shown_command(Plan.from_json(self.assignment.plan).source())
        except ValueError:
            return "a command that cannot be read"

    @property
    def entry(self) -> Entry:
        """Return what the journal says of it."""
        return Entry(self.assignment.id, self.start_key, self.assignment.digest)

    @property
    def supervisor(self) -> Supervisor:
        """Return its supervisor. Raises ClosedError where it has none."""
        if self.slot.supervisor is None:
            raise ClosedError
        return self.slot.supervisor


class Ran:
    """What this process ran last, so that it runs none of it again, whatever a server may say."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def note(self, session_id: str) -> None:
        """Remember a session; the oldest of many is forgotten."""
        self._ids[session_id] = None
        if len(self._ids) > MOST_REMEMBERED:
            del self._ids[next(iter(self._ids))]

    def refusal(self, session_id: str) -> str:
        """Return why this session may not run, or an empty text."""
        return "This session ran here already; it is never run again." if session_id in self._ids else ""


def lost(entry: Entry, detail: str) -> ExecutionReport:
    """Return the record of a session whose end this host did not see."""
    return report_without_run(entry, outcome=RunOutcome.LOST, reason=Reason.AGENT_RESTART, detail=detail)
