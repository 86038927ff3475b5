"""The report: docs/benchmarks.md, and the same as JSON. Every figure of it comes from one run."""

import dataclasses
import json
import statistics
from collections.abc import Iterable

from bench.figures import ClaimFigure, Row, Run, p95, ratios
from bench.gates import gates

HEAD = """# Benchmarks

Written by `make bench` from one run; do not edit. Read the ratios, not the absolute figures: a machine is rarely alone,
and two figures of one round saw the same machine. The row of `subprocess.run` is the yardstick for the rest.
"""
HOW = """## How it is measured

- Every row runs `/bin/true` with its output captured and its exit code checked. All rows are up all the time and
  take turns in short blocks; the order shifts with each turn. Peers' workers that poll are stopped (SIGSTOP) while
  others are measured; the product never is.
- Latency is one request at a time on an otherwise idle row, from asking to holding the result, after a random pause
  that is not measured. Commands a second is a fixed number of commands from the first request to the last result,
  after a warm-up.
- ssh, asyncssh and sudo run as {account}: a shell's start-up files would slow them and flatter the product. sudo
  logs the command's output. ssh and sudo start one process of their client a command, {at_once} at once.
- django-q2 uses the same kind of database with the same settings as the product (on SQLite WAL, `synchronous=FULL`,
  immediate transactions). "Its defaults" has only the broker set, and is warmed until it holds the 250 results it
  keeps.
- Celery has a private Redis that keeps nothing on disk; its commands a second are read result by result, which is
  its quickest way here.
- The product runs with everything on, through its HTTP API with an agent's key: decided, audited, claimed, granted,
  run in the sandbox, recorded. Its rate counts until the server holds the last result.
"""

CLAIM = """## Claiming, as the table grows

Of a hundred sessions one is queued for the host that claims, one for another host, and 98 are history. The query is the
first 32 of the host's queue, read by the product's own code; a whole claim is one session with everything that belongs
to it: decided again where rules changed, moved, and its event written.

"""

HOST = """## The host

One `{command}` by the host's own parts, from the answer that brings it to its result on the disk, and beside it a bare
start with the same capture: medians of {samples} in ms, by round. In between are the check of digest and signature, the
supervisor, the sandbox with {protections}, and two writes to the journal with `fdatasync`; what the disk takes for two
such writes alone stands beside it. The server and HTTP are left out.

"""

OUTPUT = """## Output

{megabytes} MB through a pipe, in megabytes a second, and how much more memory keeping them takes at its peak. `yes` is
as fast as a pipe goes, and there the SHA-256 of every byte is what takes the time; `seq` makes what it prints, as most
programs do.

"""

PAGES = """## Deciding

Milliseconds of a page through the whole stack of Django in one process, of which it works itself so many; the browser's
part is not among them. {waiting} requests wait, and the agent has {sessions:,} sessions of a year.

"""

TRAIL = """## The audit trail

A writer is a process that commits one event a transaction, while another seals. The events that are verified are of
sessions, five each with three payloads, written by the product itself; verifying is all of `manage.py auditverify`,
memory is that of its processes together. A look is what the worker does each minute, with 1,000 new events. The share
of a round trip is from the product with its trail and, in turn, one whose `record` does nothing, which only this
benchmark can start.

"""

POLICY = """## Governance

In one process and one thread, with the shipped tables, matrix and directories; twelve everyday commands take turns.

"""


def to_json(run: Run) -> str:
    """Return every figure of the run as JSON."""
    document = dataclasses.asdict(run)
    document["gates"] = [{**dataclasses.asdict(gate), "verdict": gate.verdict} for gate in gates(run)]
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def to_markdown(run: Run, *, account: str, at_once: int) -> str:
    """Return the run as a page of the documentation."""
    parts = [
        HEAD,
        _table(("", ""), run.machine.items()),
        _gates(run),
        _latency(run),
        _rates(run),
        _ratios(run),
        _not_won(run),
        _footprints(run),
        _claims(run),
        trail_table(run),
        pages_table(run),
        _policy(run),
        _host(run),
        _output(run),
        _doors(run),
        _missing(run),
        _loads(run),
        HOW.format(account=account, at_once=at_once) + "".join(f"- {note}\n" for note in run.notes),
    ]
    return "\n".join(part for part in parts if part)


def _gates(run: Run) -> str:
    rows = [
        (
            gate.name,
            f"{'at most' if gate.is_ceiling else 'at least'} {gate.limit:g}",
            "-" if gate.value is None else f"{gate.value:.2f}",
            _join(gate.values),
            gate.verdict,
        )
        for gate in gates(run)
    ]
    return "## What must hold\n\n" + _table(("requirement", "limit", "median", "by round", "verdict"), rows)


def _latency(run: Run) -> str:
    rows = [
        (
            row.label,
            _ms(statistics.median(row.samples())),
            _ms(p95(row.samples())),
            str(len(row.samples())),
            " ".join(map(_ms, row.medians())),
        )
        for row in sorted(_measured(run), key=lambda row: statistics.median(row.samples()))
    ]
    return "## One `/bin/true`, idle, in ms\n\n" + _table(("row", "median", "p95", "samples", "median by round"), rows)


def _rates(run: Run) -> str:
    rows = [
        (
            row.label,
            f"{statistics.median(row.rates()):.0f}",
            row.at_once,
            str(row.many[0][0]),
            " ".join(f"{rate:.0f}" for rate in row.rates()),
        )
        for row in sorted((row for row in _measured(run) if row.many), key=lambda row: -statistics.median(row.rates()))
    ]
    return "## Commands a second\n\n" + _table(("row", "median", "at once", "commands a round", "by round"), rows)


def _ratios(run: Run) -> str:
    text = ""
    for ours in _ours(run):
        rows = [
            (
                row.label,
                _join(ratios(ours.medians(), row.medians())),
                _join(ratios(ours.rates(), row.rates())),
            )
            for row in _peers(run, ours)
        ]
        text += f"## {ours.label}, over each peer, by round\n\n"
        text += _table(("peer", "latency (below 1 is quicker)", "commands a second (above 1 is more)"), rows) + "\n"
    return text


def _not_won(run: Run) -> str:
    lines = []
    for ours in _ours(run):
        peers = _peers(run, ours)
        quicker = [row.label for row in peers if _median(ratios(ours.medians(), row.medians())) > 1]
        more = [row.label for row in peers if row.many and _median(ratios(ours.rates(), row.rates())) < 1]
        lines.append(
            f"- {ours.label}: quicker for one command: {', '.join(quicker) or 'none of these'};"
            f" more commands a second: {', '.join(more) or 'none of these'}.\n"
        )
    return "## What the product does not win\n\n" + "".join(lines) if lines else ""


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else 1.0


def _footprints(run: Run) -> str:
    rows = [
        (
            one.key.removeprefix("ours-"),
            f"{one.host_mib:.1f}",
            _join(one.host_children_mib, 1) or "none",
            _join(one.web_workers_mib, 1),
            ", ".join(f"{name} {mib:.1f}" for name, mib in one.others_mib.items()),
            f"{one.idle_host_percent:.2f} % over {one.idle_seconds:.0f} s",
        )
        for one in run.footprints
    ]
    head = ("database", "host", "its children", "web workers", "others", "idle host, of one core")
    return "## Memory after the load (RSS, MiB), and idle\n\n" + _table(head, rows) if rows else ""


def _claims(run: Run) -> str:
    text = ""
    for database, figures in run.claims.items():
        rows = [
            (
                f"{one.rows:,}",
                f"{one.query_us:.0f}",
                f"{one.query_p95_us:.0f}",
                f"{one.claim_us:.0f}",
                f"{one.claim_p95_us:.0f}",
            )
            for one in figures
        ]
        head = ("sessions", "the queue's query, median, µs", "p95", "a whole claim, median, µs", "p95")
        text += f"### On {database}\n\n" + _table(head, rows) + "\n" + "".join(map(_plan, figures))
    return CLAIM + text if text else ""


def _host(run: Run) -> str:
    figure = run.host
    if figure is None:
        return ""
    rows = [
        tuple(f"{one:.2f}" for one in (bare, disk, hosted, added, added - disk))
        for bare, disk, hosted, added in zip(
            figure.bare_ms, figure.disk_ms, figure.hosted_ms, figure.added_ms(), strict=True
        )
    ]
    about = HOST.format(
        command=figure.command, samples=figure.samples, protections=", ".join(figure.protections) or "none"
    )
    return about + _table(("bare", "by the host", "what it adds"), rows)


def _output(run: Run) -> str:
    if not run.output:
        return ""
    rows = [
        (
            f"`{one.printer}`",
            *(f"{statistics.median(rates):.0f}" for rates in (one.plain, one.digested, one.kept)),
            _join(ratios(one.kept, one.plain)),
            _join(ratios(one.kept, one.digested)),
            f"{one.grown_mib:.1f}",
        )
        for one in run.output
    ]
    head = ("prints", "read plainly", "read, with SHA-256", "kept", "kept over plain", "over SHA-256", "MiB more")
    return OUTPUT.format(megabytes=run.output[0].megabytes) + _table(head, rows)


def trail_table(run: Run) -> str:
    """Return the figures of the audit trail, as a section."""
    rows = [
        (
            one.key,
            f"{one.append_rate:.0f}",
            f"{one.append_longest_ms:.0f}",
            f"{one.events:,}",
            f"{one.verify_seconds:.1f}",
            f"{one.verify_mib:.0f}",
            f"{one.last_ms:.0f}",
            f"{one.look_ms:.0f}",
            f"{one.entry_ms:.1f}",
            f"{_median(list(one.cost_percent)):.1f}",
        )
        for one in run.trail
    ]
    head = (
        "database",
        "events a second of 8 writers",
        "longest, ms",
        "events",
        "verified in s",
        "MiB",
        "newest checkpoint, ms",
        "a look, ms",
        "one entry, ms",
        "of a command's round trip, %",
    )
    return TRAIL + _table(head, rows) if rows else ""


def pages_table(run: Run) -> str:
    """Return the figures of the pages of who approves, as a section."""
    if not run.pages:
        return ""
    rows = [
        (
            one.name,
            one.database,
            f"{statistics.median(one.took_ms):.0f}",
            f"{max(one.took_ms):.0f}",
            f"{one.cpu_ms:.0f}",
            str(one.queries),
        )
        for one in sorted(run.pages, key=lambda one: one.name)
    ]
    head = ("page", "database", "median, ms", "longest, ms", "its own work, ms", "queries")
    first = run.pages[0]
    return PAGES.format(waiting=first.waiting, sessions=first.sessions) + _table(head, rows)


def _doors(run: Run) -> str:
    rows = [
        (what, _ms(statistics.median(seconds)), _ms(p95(seconds)), str(len(seconds)))
        for one in run.doors
        for what, seconds in (
            (f"`true` over the API on a kept connection, on {one.database}", one.api),
            ("`atom run -- true`, a process of its own each", one.atom),
            ("`manage.py mcp`, from its start to its answer to `initialize`", one.initialize),
        )
    ]
    return "## The doors of agents\n\n" + _table(("what", "median, ms", "p95, ms", "samples"), rows) if rows else ""


def _policy(run: Run) -> str:
    if not run.policy:
        return ""
    yardstick = run.policy[0].median_us
    rows = [
        (one.name, f"{one.median_us:.0f}", f"{one.p95_us:.0f}", f"{one.median_us / yardstick:.1f}")
        for one in run.policy
    ]
    return POLICY + _table(("what", "median, µs", "p95, µs", "of the yardstick"), rows)


def _plan(figure: ClaimFigure) -> str:
    return f"The plan with {figure.rows:,} sessions:\n\n```\n{figure.plan}\n```\n\n"


def _missing(run: Run) -> str:
    lines = [f"- {row.label}: {row.missing}\n" for row in run.rows if row.missing]
    lines += [f"- Failed: {failure}\n" for failure in run.failures()]
    return "## Missing from this run\n\n" + "".join(lines) if lines else ""


def _loads(run: Run) -> str:
    rows = [
        (str(index), f"{load.load_average:.2f}", f"{load.busy_percent:.0f} %", f"{load.steal_percent:.1f} %")
        for index, load in enumerate(run.loads, start=1)
    ]
    head = ("round", "load average at its begin", "processors busy during it", "taken by other machines (steal)")
    return "## The machine, round by round\n\n" + _table(head, rows)


def _measured(run: Run) -> list[Row]:
    return [row for row in run.rows if row.samples()]


def _ours(run: Run) -> list[Row]:
    return [row for row in _measured(run) if row.key.startswith("ours-")]


def _peers(run: Run, ours: Row) -> list[Row]:
    """Return what ours is compared with: every peer, but of those that use a database only the ones on the same."""
    other = {"ours-sqlite": "djangoq-postgres", "ours-postgres": "djangoq-sqlite"}[ours.key]
    return [row for row in _measured(run) if not row.key.startswith(("ours-", other))]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def _join(values: Iterable[float], digits: int = 2) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _column in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
