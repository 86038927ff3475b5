"""The figures of a run as plain values, and the few statistics that are made of them."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Row:
    """What was measured of one peer. `one` holds the seconds of each sample, `many` (commands, seconds), by round."""

    key: str
    label: str
    at_once: str
    one: list[list[float]] = field(default_factory=list)
    many: list[tuple[int, float]] = field(default_factory=list)
    #: Why there is nothing, or nothing more, of it.
    missing: str | None = None
    failure: str | None = None

    def samples(self) -> list[float]:
        """Return the samples of all rounds, in seconds."""
        return [sample for one in self.one for sample in one]

    def medians(self) -> list[float]:
        """Return each round's median, in seconds."""
        return [statistics.median(one) for one in self.one if one]

    def rates(self) -> list[float]:
        """Return each round's commands a second."""
        return [count / seconds for count, seconds in self.many]


@dataclass(frozen=True, slots=True)
class Load:
    """The machine while a round ran: the load average at its begin, and shares of all processors' time."""

    load_average: float
    busy_percent: float
    steal_percent: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the product's processes held after the load, in MiB, and the idle host's share of one core, in percent."""

    key: str
    host_mib: float
    host_children_mib: tuple[float, ...]
    web_workers_mib: tuple[float, ...]
    others_mib: dict[str, float]
    idle_seconds: float
    idle_host_percent: float


@dataclass(frozen=True, slots=True)
class ClaimFigure:
    """Claiming from a table with `rows` sessions, in microseconds: the queue's query alone, and the whole claim."""

    rows: int
    query_us: float
    query_p95_us: float
    claim_us: float
    claim_p95_us: float
    #: What EXPLAIN says of the query.
    plan: str


@dataclass(frozen=True, slots=True)
class PolicyFigure:
    """What one piece of governance's work costs, in microseconds of one thread; a limit of 0 is none."""

    name: str
    median_us: float
    p95_us: float
    limit_us: float = 0


@dataclass(frozen=True, slots=True)
class OutputFigure:
    """How fast output is read, in megabytes a second by round: plainly, with its SHA-256, as the product keeps it."""

    printer: str
    megabytes: int
    plain: tuple[float, ...]
    digested: tuple[float, ...]
    kept: tuple[float, ...]
    #: How much more memory keeping takes than reading, at its peak.
    grown_mib: float


@dataclass(frozen=True, slots=True)
class HostFigure:
    """Medians by round, in milliseconds: a command that is run bare, the disk's part alone, one that the host runs."""

    command: str
    samples: int
    bare_ms: tuple[float, ...]
    disk_ms: tuple[float, ...]
    hosted_ms: tuple[float, ...]
    protections: tuple[str, ...]

    def added_ms(self) -> tuple[float, ...]:
        """Return what the host added in each round."""
        return tuple(hosted - bare for bare, hosted in zip(self.bare_ms, self.hosted_ms, strict=True))


@dataclass(frozen=True, slots=True)
class TrailFigure:
    """The audit trail on one database. `verify_seconds` is all of `auditverify`, its start included."""

    key: str
    #: Events a second of eight writers, one a transaction, and the longest that one took.
    append_rate: float
    append_longest_ms: float
    events: int
    fill_seconds: float
    verify_seconds: float
    #: At its peak, of both its processes.
    verify_mib: float
    last_ms: float
    #: The worker's look each minute, with 1,000 new events.
    look_ms: float
    entry_ms: float
    #: Of a governed command's round trip, in percent, by block.
    cost_percent: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DoorFigure:
    """Seconds of `true` over the API on a kept connection, of `atom run -- true`, and to `initialize`.

    Each call of `atom` has one over the API.
    """

    database: str
    api: tuple[float, ...]
    atom: tuple[float, ...]
    initialize: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PageFigure:
    """A page of who approves: the milliseconds of each time that it was asked for, and what it costs."""

    database: str
    waiting: int
    sessions: int
    name: str
    took_ms: tuple[float, ...]
    #: The median of what this process worked, whatever else the machine did.
    cpu_ms: float
    queries: int


@dataclass(slots=True)
class Run:
    """Everything that one run found."""

    started_at: str
    machine: dict[str, str]
    host_concurrency: int
    rows: list[Row] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    claims: dict[str, list[ClaimFigure]] = field(default_factory=dict)
    policy: list[PolicyFigure] = field(default_factory=list)
    output: list[OutputFigure] = field(default_factory=list)
    trail: list[TrailFigure] = field(default_factory=list)
    doors: list[DoorFigure] = field(default_factory=list)
    pages: list[PageFigure] = field(default_factory=list)
    host: HostFigure | None = None
    notes: list[str] = field(default_factory=list)
    #: What should have been measured besides the rows and could not be.
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def failures(self) -> list[str]:
        """Return, a line each, what is there and did not work; what is not installed is no failure."""
        found = [f"{row.label}: {row.failure}" for row in self.rows if row.failure] + self.broken
        return [
            " … ".join(dict.fromkeys((text.strip().splitlines()[0], text.strip().splitlines()[-1]))) for text in found
        ]

    def row(self, key: str) -> Row | None:
        """Return the row with this key where it has figures of every round, else None."""
        for row in self.rows:
            if row.key == key and row.one and row.many and not row.failure:
                return row
        return None


def p95(samples: Sequence[float]) -> float:
    """Return the 95th percentile (nearest rank) of at least one sample."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(0.95 * len(ordered)) - 1)]


def ratios(ours: Iterable[float], theirs: Iterable[float]) -> list[float]:
    """Return ours over theirs, round by round: two figures of one round saw the same machine."""
    return [mine / other for mine, other in zip(ours, theirs, strict=False)]
