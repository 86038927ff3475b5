"""What a run of the benchmark may be told, as one frozen value."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_POSTGRES = "postgres://postgres@127.0.0.1:5432/postgres"

EPILOG = """examples:
  python -m bench                          the whole run, about ten minutes; writes docs/benchmarks.md
  python -m bench --rounds 5 --only ssh-master --only ours-sqlite --no-claim
  python -m bench --pages                  only the pages of who approves, by an agent with a million sessions
  python -m bench --trail                  only the audit trail: appending, verifying a million events, its cost
  python -m bench --quick                  a smoke run of about a minute: no gates, no report
  python -m bench --install-peers          first installs ssh and sudo with apt-get (as root, Debian and its kin)
"""


@dataclass(frozen=True, slots=True)
class Options:
    """The bounds of a run. A block ends at its count or at its seconds, whichever comes first."""

    rounds: int
    passes: int
    block_samples: int
    block_seconds: float
    many_seconds: float
    many_limit: int
    idle_seconds: float
    claim_rows: tuple[int, ...]
    host_concurrency: int
    postgres_url: str
    only: frozenset[str]
    has_gates: bool
    is_quick: bool
    install_peers: bool
    with_claim: bool
    with_trail: bool
    with_pages: bool
    waiting: int
    page_sessions: int
    page_rounds: int
    trail_events: int
    trail_seconds: float
    #: `trail` or `pages`, where nothing else is wanted.
    only_part: str
    report: Path | None
    json: Path | None

    def wants(self, key: str) -> bool:
        """Return whether the peer with this key was asked for; without `--only` all are."""
        return not self.only or key in self.only


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line. Exits with status 64 where it cannot be understood."""
    parser = _parser()
    try:
        found = parser.parse_args(arguments)
    except SystemExit as exit_:
        raise SystemExit(64 if exit_.code else 0) from None
    if found.rounds < 1 or found.concurrency < 1:
        parser.print_usage()
        raise SystemExit(64)
    quick: bool = found.quick
    part = "trail" if found.trail else "pages" if found.pages else ""
    report = found.report or (None if quick or found.only or part else REPOSITORY / "docs" / "benchmarks.md")
    return Options(
        rounds=1 if quick else found.rounds,
        passes=1 if quick else 4,
        block_samples=5 if quick else 15,
        block_seconds=2.0,
        many_seconds=0.5 if quick else 2.5,
        many_limit=50 if quick else 4_000,
        idle_seconds=2.0 if quick else 20.0,
        claim_rows=(1_000, 10_000) if quick else (10_000, 1_000_000),
        host_concurrency=found.concurrency,
        postgres_url=found.postgres_url,
        only=frozenset(found.only),
        has_gates=not (quick or found.no_gate),
        is_quick=quick,
        install_peers=found.install_peers,
        with_claim=not found.no_claim,
        with_trail=not found.no_trail,
        with_pages=not found.no_pages,
        waiting=50 if quick else 500,
        page_sessions=20_000 if quick else 1_000_000,
        page_rounds=3 if quick else 15,
        trail_events=20_000 if quick else found.trail_events,
        trail_seconds=2.0 if quick else 15.0,
        only_part=part,
        report=report,
        json=found.json,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the product and its peers in one run, alternating, and say what holds.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of every measurement (default 3)")
    parser.add_argument(
        "--concurrency", type=int, default=48, help="commands the product's host runs at once (default 48)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY", help="measure only this row; may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="few iterations, no gates, no report: does it work at all")
    parser.add_argument("--no-gate", action="store_true", help="report only; exit 0 whatever the figures are")
    parser.add_argument("--no-claim", action="store_true", help="leave out claiming from 10,000 and 1,000,000 sessions")
    parser.add_argument("--no-trail", action="store_true", help="leave out the audit trail's own figures")
    parser.add_argument("--no-pages", action="store_true", help="leave out the pages of who approves")
    parser.add_argument("--pages", action="store_true", help="only the pages of who approves, with their gates")
    parser.add_argument("--trail", action="store_true", help="only the audit trail's own figures, with their gates")
    parser.add_argument(
        "--trail-events", type=int, default=1_000_000, help="events that are verified (default %(default)s)"
    )
    parser.add_argument(
        "--install-peers", action="store_true", help="install openssh-server and sudo with apt-get first"
    )
    parser.add_argument("--report", type=Path, help="where the report goes (default docs/benchmarks.md)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as JSON")
    parser.add_argument(
        "--postgres-url",
        default=os.environ.get("TEST_DATABASE_URL") or DEFAULT_POSTGRES,
        help="a PostgreSQL server on which databases may be created (default TEST_DATABASE_URL, else %(default)s)",
    )
    return parser
