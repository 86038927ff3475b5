"""What must hold, from the project's requirements. A gate whose figures are not there is not measured, not passed."""

import statistics
from dataclasses import dataclass
from enum import StrEnum

from bench.figures import Footprint, OutputFigure, Row, Run, TrailFigure, ratios

DATABASES = (("sqlite", "SQLite", 1.75), ("postgres", "PostgreSQL", 2.5))
TITLES = {database: title for database, title, _factor in DATABASES}
DJANGOQ_FACTOR = 2.5
CELERY_FACTOR = 0.7
CLAIM_FACTOR = 2.0
OUTPUT_FACTOR = 0.5
ATOM_MS = 120.0
INITIALIZE_SECONDS = 1.0
#: More than reading takes, at the peak: flat, whatever is printed.
OUTPUT_MIB = 4.0
HOST_ADDS_MS = 3.0
HOST_MIB = 60.0
WEB_WORKER_MIB = 110.0
IDLE_PERCENT = 0.5
#: Events a second at least, by database.
APPEND_RATES = {"sqlite": 300.0, "postgres": 1000.0}
#: Of any page of who approves, with 500 that wait and a million sessions of one agent.
PAGE_MS = 1000.0
#: For a million events.
VERIFY_SECONDS = 30.0
VERIFY_MIB = 190.0  # 200 MB


class Verdict(StrEnum):
    """How a gate came out."""

    PASS = "PASS"  # noqa: S105 - not a password
    FAIL = "FAIL"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Gate:
    """One requirement: a figure, the limit it has to keep, and the figure of each round where there are rounds."""

    name: str
    limit: float
    values: tuple[float, ...]
    is_ceiling: bool = True

    @property
    def value(self) -> float | None:
        """The median over the rounds."""
        return statistics.median(self.values) if self.values else None

    @property
    def verdict(self) -> Verdict:
        value = self.value
        if value is None:
            return Verdict.NOT_MEASURED
        holds = value <= self.limit if self.is_ceiling else value >= self.limit
        return Verdict.PASS if holds else Verdict.FAIL

    def line(self) -> str:
        """Return it in one line of text."""
        value = "-" if self.value is None else f"{self.value:.2f}"
        rounds = " ".join(f"{one:.2f}" for one in self.values)
        sign = "at most" if self.is_ceiling else "at least"
        return f"{self.verdict:12}  {self.name}: {value} ({sign} {self.limit:g}; {rounds or 'no figures'})"


def gates(run: Run) -> list[Gate]:
    """Return every gate with what this run found for it."""
    found: list[Gate] = []
    for database, title, factor in DATABASES:
        ours = run.row(f"ours-{database}")
        found += _against_peers(run, ours, database, title, factor)
        found += _footprint(next((one for one in run.footprints if one.key == f"ours-{database}"), None), title)
        found += _claims(run, database, title)
    found.append(Gate("what the host adds to a command, in ms", HOST_ADDS_MS, run.host.added_ms() if run.host else ()))
    found += [gate for one in run.trail for gate in _trail(one)]
    found += [gate for one in run.output for gate in _output(one)]
    found += [Gate(f"{one.name}, in ms, {TITLES[one.database]}", PAGE_MS, one.took_ms) for one in run.pages]
    for door in run.doors:
        more = tuple((mine - api) * 1000 for mine, api in zip(door.atom, door.api, strict=True))
        found.append(
            Gate(f"`atom run -- true` over the API's own round trip, in ms, on {door.database}", ATOM_MS, more)
        )
        found.append(Gate("`manage.py mcp` answers `initialize`, in s", INITIALIZE_SECONDS, door.initialize))
    found += [Gate(f"{one.name}, in µs", one.limit_us, (one.median_us,)) for one in run.policy if one.limit_us]
    return found


def _trail(one: TrailFigure) -> list[Gate]:
    title = TITLES[one.key]
    rate = APPEND_RATES[one.key]
    longest = (
        [Gate(f"the longest append in ms, {title}", 1000, (one.append_longest_ms,))] if one.key == "sqlite" else []
    )
    return [
        Gate(f"events a second of 8 writers, {title}", rate, (one.append_rate,), is_ceiling=False),
        *longest,
        Gate(f"seconds to verify {one.events:,} events, {title}", VERIFY_SECONDS, (one.verify_seconds,)),
        Gate(f"MiB to verify them, {title}", VERIFY_MIB, (one.verify_mib,)),
        Gate(f"ms to verify the newest checkpoint, {title}", 1000, (one.last_ms,)),
        Gate(f"ms of a look with 1,000 new events, {title}", 1000, (one.look_ms,)),
        Gate(f"ms to verify one entry, {title}", 50, (one.entry_ms,)),
        Gate(f"the trail's percent of a command's round trip, {title}", 15, one.cost_percent),
    ]


def _output(figure: OutputFigure) -> list[Gate]:
    values = tuple(ratios(figure.kept, figure.plain))
    name = f"{figure.megabytes} MB that `{figure.printer}` prints"
    return [
        Gate(f"{name}, kept over read plainly", OUTPUT_FACTOR, values, is_ceiling=False),
        Gate(f"{name}, MiB more than reading them", OUTPUT_MIB, (figure.grown_mib,)),
    ]


def _against_peers(run: Run, ours: Row | None, database: str, title: str, factor: float) -> list[Gate]:
    ssh, djangoq, celery = (run.row(key) for key in ("ssh-master", f"djangoq-{database}", "celery"))
    latency = ratios(ours.medians(), ssh.medians()) if ours and ssh else []
    faster = ratios(ours.rates(), djangoq.rates()) if ours and djangoq else []
    level = ratios(ours.rates(), celery.rates()) if ours and celery else []
    return [
        Gate(f"idle latency over ssh with ControlMaster, {title}", factor, tuple(latency)),
        Gate(
            f"commands a second over django-q2's at its defaults, {title}",
            DJANGOQ_FACTOR,
            tuple(faster),
            is_ceiling=False,
        ),
        Gate(f"commands a second over Celery's, {title}", CELERY_FACTOR, tuple(level), is_ceiling=False),
    ]


def _footprint(footprint: Footprint | None, title: str) -> list[Gate]:
    host = (footprint.host_mib,) if footprint else ()
    web = (max(footprint.web_workers_mib),) if footprint and footprint.web_workers_mib else ()
    idle = (footprint.idle_host_percent,) if footprint else ()
    return [
        Gate(f"the host process in MiB, {title}", HOST_MIB, host),
        Gate(f"the largest web worker in MiB, {title}", WEB_WORKER_MIB, web),
        Gate(f"the idle host in percent of a core, {title}", IDLE_PERCENT, idle),
    ]


def _claims(run: Run, database: str, title: str) -> list[Gate]:
    figures = run.claims.get(database, [])
    query: tuple[float, ...] = ()
    claim: tuple[float, ...] = ()
    if len(figures) > 1:
        few, many = figures[0], figures[-1]
        query, claim = (many.query_us / few.query_us,), (many.claim_us / few.claim_us,)
    return [
        Gate(f"the queue's query, most over fewest sessions, {title}", CLAIM_FACTOR, query),
        Gate(f"a whole claim, most over fewest sessions, {title}", CLAIM_FACTOR, claim),
    ]
