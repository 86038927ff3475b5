"""What the server answers, as frozen values. A field that an older server does not send has its default.

Named tuples: they are as frozen as dataclasses, and cost `atom` a third of the time at its start.
"""

import base64
from typing import Any, NamedTuple

#: What `status` says of a session that nobody waits for any more.
ENDED = frozenset(
    ("denied", "rejected", "expired", "cancelled", "refused", "succeeded", "failed", "timed_out", "aborted", "lost")
)
STREAMS = ("stdout", "stderr")


class AgentName(NamedTuple):
    """An agent as it was when it asked."""

    id: int
    name: str
    maturity: str = ""


class HostName(NamedTuple):
    """A host by its id and name."""

    id: int
    name: str


class Agent(NamedTuple):
    """An agent as it is now."""

    id: int
    name: str
    maturity: str = ""
    is_suspended: bool = False
    owner: str = ""


class Approval(NamedTuple):
    """What a person decided: `decision` is `approve` or `reject`, None where nobody has."""

    required: bool = False
    by: str | None = None
    decision: str | None = None
    reason: str | None = None
    decided_at: str | None = None


class Decision(NamedTuple):
    """What governance says of a command: `outcome` is `allow`, `ask` or `deny`.

    `rules` are those that decided, each with `id`, `outcome` and `justification`; `grants` the paths that the sandbox
    opens, each with `path` and `access`.
    """

    outcome: str
    category: str = ""
    explanation: str = ""
    would_allow: str = ""
    rules: tuple[dict[str, Any], ...] = ()
    plan: dict[str, Any] | None = None
    tokens: tuple[dict[str, Any], ...] = ()
    grants: tuple[dict[str, Any], ...] = ()
    obligations: tuple[str, ...] = ()
    policy_version: str = ""
    raw: dict[str, Any] = {}


class Session(NamedTuple):
    """A command that was asked for. Times are ISO 8601 texts. `raw` is the whole answer, with what is not here."""

    id: str
    status: str
    agent: AgentName | None = None
    host: HostName | None = None
    host_online: bool | None = None
    command: str | None = None
    argv: tuple[str, ...] | None = None
    reason: str | None = None
    working_directory: str | None = None
    timeout_seconds: int | None = None
    category: str = ""
    decision: Decision | None = None
    requester: str = ""
    approval: Approval | None = None
    approval_required: bool = False
    approve_url: str | None = None
    exit_code: int | None = None
    exit_codes: tuple[int | None, ...] = ()
    stdout: str = ""
    stderr: str = ""
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    truncated: bool = False
    duration_seconds: float | None = None
    termination_reason: str | None = None
    termination_detail: str | None = None
    created_at: str = ""
    expires_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    next_action: str = ""
    raw: dict[str, Any] = {}

    def __repr__(self) -> str:
        code = f", exit_code={self.exit_code}" if self.exit_code is not None else ""
        return f"Session(id={self.id!r}, status={self.status!r}{code})"

    @property
    def is_over(self) -> bool:
        """Whether nothing follows."""
        return self.status in ENDED

    @property
    def is_started(self) -> bool:
        """Whether a host has it."""
        return self.status in ("claimed", "running")

    @property
    def has_run(self) -> bool:
        """Whether it ran to its own end, so that `exit_code` is the command's."""
        return self.status in ("succeeded", "failed") and self.exit_code is not None

    @property
    def why(self) -> str:
        """Why it ended as it did, or waits: a person's reason before governance's explanation; empty where unknown."""
        reasons = (
            self.termination_detail,
            self.approval.reason if self.approval else None,
            self.decision.explanation if self.decision else None,
            self.termination_reason,
        )
        return next((reason for reason in reasons if reason), "")

    @property
    def shown_command(self) -> str:
        """What was asked for, in one line; empty where it was removed."""
        import shlex  # noqa: PLC0415 - only a person asks

        return self.command or shlex.join(self.argv or ())


class OutputPart(NamedTuple):
    """Bytes of a stream that follow each other, at `offset`."""

    offset: int
    text: str

    @property
    def data(self) -> bytes:
        """The bytes. Raises ValueError where the server sent none."""
        return base64.b64decode(self.text, validate=True)


class Offsets(NamedTuple):
    """How far each stream was read."""

    stdout: int = 0
    stderr: int = 0


class Output(NamedTuple):
    """What a session's streams hold after the offsets that were asked for; `next` are those to ask for next.

    A part that does not begin where the one before it ended follows a middle that was cut.
    """

    status: str
    finished: bool = False
    next: Offsets = Offsets()
    stdout: tuple[OutputPart, ...] = ()
    stderr: tuple[OutputPart, ...] = ()


class HostStatus(NamedTuple):
    """A host that the agent may use."""

    name: str
    online: bool = False
    enabled: bool = True
    desired_state: str = ""
    running: int = 0
    queued: int = 0
    last_seen_at: str | None = None
    last_error: str | None = None


class Stop(NamedTuple):
    """A kill switch that is on. `scope` is `everything`, `host` or `agent`, `subject` the name of which."""

    scope: str
    subject: str = ""
    reason: str = ""
    by: str = ""
    since: str = ""


class Status(NamedTuple):
    """Whether commands can run. `sessions` counts the agent's own by `pending`, `queued`, `claimed` and `running`."""

    hosts: tuple[HostStatus, ...]
    sessions: dict[str, int]
    worker: str = ""
    audit: str = ""
    time: str = ""
    kill_switch: tuple[Stop, ...] = ()
    raw: dict[str, Any] = {}

    @property
    def can_run(self) -> bool:
        """Whether a host is there and no kill switch is in the way of all of them."""
        stopped = {stop.subject for stop in self.kill_switch if stop.scope == "host"}
        is_stopped = any(stop.scope != "host" for stop in self.kill_switch)
        return not is_stopped and any(host.online and host.enabled and host.name not in stopped for host in self.hosts)
