"""The wire types between server and host, version 1. Standard library and pure modules only; no Django.

Every message is a frozen dataclass, which `shellagent.codec` writes and reads.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from audit import canonical
from governance.policy.plan import Plan
from shellagent.codec import ProtocolError, decode, encode
from shellagent.outcomes import Desired, GrantStatus, Reason, Rung, RunOutcome

__all__ = ["Desired", "GrantStatus", "ProtocolError", "Reason", "RunOutcome", "Rung", "decode", "encode"]

VERSION: Final = 1
#: A kept stream is its first and its last bytes; what lies between is counted and digested, not kept.
HEAD_BYTES: Final = 256 * 1024
TAIL_BYTES: Final = 256 * 1024
#: Output up to this size travels inside the record; more goes ahead of it through the output call, in parts.
INLINE_BYTES: Final = 64 * 1024
SEGMENT_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a host says of itself. `protected` are the absolute paths that no command there may reach.

    `limits` are what one session may take of it, and results that wait: numbers by name, whose end is their unit.
    """

    home: str
    user: str
    scratch: str
    hostname: str
    platform: str
    protected: tuple[str, ...] = ()
    is_root: bool = False
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PathGrant:
    """A path that the sandbox opens for the command: `access` is read or write."""

    path: str
    access: str


#: What stands in place of a script's digest where there was no such file.
ABSENT: Final = "absent"


@dataclass(frozen=True, slots=True)
class ScriptDigest:
    """A file of code that a plan runs, and the SHA-256 (hexadecimal) of its content, or `absent`, when a person was to
    decide. A file that could not be looked at has none of these.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """A claimed session: all the host needs to run it. An empty working directory is the scratch folder.

    `secrets` are names: the host knows the values, and its ceiling lists the names that it gives.
    """

    id: str
    digest: str
    plan: dict[str, Any]
    working_directory: str
    env: dict[str, str]
    timeout_seconds: int
    grants: tuple[PathGrant, ...]
    obligations: tuple[str, ...]
    protected: tuple[str, ...]
    secrets: tuple[str, ...] = ()
    scripts: tuple[ScriptDigest, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """A wish to know what these scripts hold: a person is about to decide on the session that runs them."""

    id: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Looked:
    """What a host found; a script that it could not look at is missing."""

    id: str
    scripts: tuple[ScriptDigest, ...]


@dataclass(frozen=True, slots=True)
class PollRequest:
    """Heartbeat, lease renewal and claim in one. `spool` counts the results that wait to be acknowledged.

    `time_us` is the host's clock as it sends, 0 where it does not say; `last_error` is the last thing that went wrong.
    """

    v: int
    instance_id: str
    boot_id: str
    claim_key: str
    free_slots: int
    running: tuple[str, ...]
    spool: int
    protections: tuple[str, ...]
    facts: HostFacts
    version: str
    #: How long the host will wait for the answer, in seconds; 0 asks for an answer at once.
    hold_seconds: int = 20
    time_us: int = 0
    last_error: str = ""
    #: What the last answer wished to know.
    looked: tuple[Looked, ...] = ()
    #: Where it is not empty, what is claimed is to be started at once, under this key.
    start_key: str = ""


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Stop a running session: TERM, then KILL after `grace_seconds`."""

    id: str
    reason: str
    grace_seconds: int


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A public key of the server's. `endorsement` is the signature by which the key before it says that it follows.

    The grants of the key before it count until `until`, in seconds since 1970. The first key has no endorsement.
    """

    key: str
    endorsed_by: str = ""
    until: int = 0
    endorsement: str = ""


@dataclass(frozen=True, slots=True)
class StartGrant:
    """The answer to one start. `deadline_seconds` is the server's: the timeout and the grace period together.

    A grant is signed (`signature`) with a key of the server's (`key`); `shellagent.signing` says over what.
    """

    id: str
    status: GrantStatus
    deadline_seconds: int = 0
    detail: str = ""
    key: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """What the host is to do. `audit` is `ok` or `failed`."""

    v: int
    desired_state: str
    audit: str
    cancel: tuple[CancelOrder, ...]
    sessions: tuple[Assignment, ...]
    hold_seconds: int
    #: Who the server takes the host for, so that one that was given only a URL and a key can recompute digests.
    host_id: str = ""
    #: The server's signing keys, oldest first.
    server_keys: tuple[ServerKey, ...] = ()
    look: tuple[Look, ...] = ()
    #: Whether the host is to ask for a new key.
    renew_key: bool = False
    #: Of `sessions`, where the poll had a start key: those without one here have to be asked for.
    grants: tuple[StartGrant, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """A wish to start a claimed session. The host makes `start_key` once and keeps it in its journal."""

    id: str
    start_key: str
    digest: str


@dataclass(frozen=True, slots=True)
class StartRequest:
    v: int
    instance_id: str
    starts: tuple[Start, ...]


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """`stopped` says which kill switch is on for this host and why, and is empty where none is."""

    v: int
    grants: tuple[StartGrant, ...]
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class OutputSegment:
    """Bytes of a stream (`stdout` or `stderr`) at an offset, base64. `is_tail` marks the part after a cut middle."""

    stream: str
    offset: int
    data: str
    is_tail: bool = False

    @classmethod
    def of(cls, stream: str, offset: int, data: bytes, *, is_tail: bool = False) -> "OutputSegment":
        """Return the segment that carries `data`."""
        return cls(stream, offset, base64.b64encode(data).decode(), is_tail)

    def content(self) -> bytes:
        """Return the bytes. Raises ProtocolError where `data` is not base64."""
        try:
            return base64.b64decode(self.data, validate=True)
        except ValueError as error:  # binascii.Error is one; text beyond ASCII is another
            raise ProtocolError("output data is not base64") from error


@dataclass(frozen=True, slots=True)
class OutputRequest:
    """Segments of one running session; the answer is `{"next_offset": {"stdout": int, "stderr": int}}`."""

    v: int
    start_key: str
    segments: tuple[OutputSegment, ...]


@dataclass(frozen=True, slots=True)
class StreamTotal:
    """A whole stream: its size in bytes, the SHA-256 of every byte, and whether its middle was cut."""

    total_bytes: int
    sha256: str
    is_truncated: bool


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """The write-once record of one session. Durations are integer microseconds.

    `exit_codes` has one entry a command of the plan in source order, 128 + n for a signal n, None for one that did not
    run to its end; `steps` the same for each pipeline, as `pipefail` and `!` have it. `start_key` is empty for a
    session that was refused before its start. `protections` are those that were active, `left_behind` the pids still
    alive, `rung` how far the ending had to go. `masked` says how many secrets each rule masked in the output that is
    kept.
    """

    id: str
    start_key: str
    digest: str
    outcome: RunOutcome
    reason: Reason
    detail: str
    exit_codes: tuple[int | None, ...]
    stdout: StreamTotal
    stderr: StreamTotal
    duration_us: int
    protections: tuple[str, ...] = ()
    left_behind: tuple[int, ...] = ()
    output: tuple[OutputSegment, ...] = ()
    steps: tuple[int | None, ...] = ()
    masked: dict[str, int] = field(default_factory=dict)
    rung: Rung = Rung.NONE

    @property
    def exit_code(self) -> int | None:
        """Return the plan's own exit code, which is that of the last step that ran; None where none did."""
        codes = self.steps or self.exit_codes
        return next((code for code in reversed(codes) if code is not None), None)


@dataclass(frozen=True, slots=True)
class RecordRequest:
    v: int
    instance_id: str
    records: tuple[ExecutionReport, ...]


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """One status a record: `recorded`, `known` (the same again), `late`, `conflict` (another one stands) or `unknown`.

    All but a failed call acknowledge: the host drops the record from its spool.
    """

    v: int
    statuses: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EnrolRequest:
    """The one-use code travels as the Bearer key, not here. It names the host."""

    v: int
    facts: HostFacts


@dataclass(frozen=True, slots=True)
class EnrolAnswer:
    """`key` is shown this once. The host pins the newest of the server's keys."""

    v: int
    host_id: str
    name: str
    key: str
    server_keys: tuple[ServerKey, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """The host's key travels as the Bearer key, as ever."""

    v: int


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """`key` is shown this once. The one that was shown works until this one is used, and a minute longer."""

    v: int
    key: str


def session_digest(
    *,
    plan: Plan,
    working_directory: str,
    host_id: str,
    env: Mapping[str, str],
    timeout_seconds: int,
    grants: tuple[PathGrant, ...],
    obligations: tuple[str, ...],
    secrets: tuple[str, ...] = (),
    scripts: tuple[ScriptDigest, ...] = (),
) -> str:
    """Return the SHA-256 (hexadecimal) of exactly what will run: an approval is bound to it and the host checks it."""
    return canonical.sha256(
        {
            "v": VERSION,
            "plan": plan.to_json(),
            "working_directory": working_directory,
            "host": host_id,
            "env": sorted([name, value] for name, value in env.items()),
            "timeout_seconds": timeout_seconds,
            "grants": [encode(grant) for grant in grants],
            "obligations": list(obligations),
            "secrets": list(secrets),
            "scripts": [encode(script) for script in scripts],
        }
    )


def assignment_digest(assignment: Assignment, *, plan: Plan, host_id: str) -> str:
    """Return the digest of an assignment as it stands; `plan` is the one it carries, read."""
    return session_digest(
        plan=plan,
        working_directory=assignment.working_directory,
        host_id=host_id,
        env=assignment.env,
        timeout_seconds=assignment.timeout_seconds,
        grants=assignment.grants,
        obligations=assignment.obligations,
        secrets=assignment.secrets,
        scripts=assignment.scripts,
    )


def session_ids(texts: Iterable[str]) -> list[UUID]:
    """Return those of `texts` that are session ids; another text names no session."""
    found = []
    for text in texts:
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    return found
