"""What a run may be told, as one frozen value."""

import argparse
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bench.options import DEFAULT_POSTGRES

DATABASES = ("sqlite", "postgres")

EPILOG = """examples:
  python -m faults                               the long form on both databases, about half an hour
  python -m faults --database sqlite --sessions 500 --minutes 4
  python -m faults --seed 7 --json figures.json  draws the same faults in the same order as another run with 7
  python -m faults --short                       less than a minute on each database
  python -m faults trail                         what the audit trail stands; has a --help of its own

exit codes: 0 all held, 1 something did not (the ids are printed), 64 usage, 70 the run itself failed, 130 Ctrl-C
"""


@dataclass(frozen=True, slots=True)
class Options:
    """The bounds of a run on one database. Times are in seconds."""

    databases: tuple[str, ...]
    sessions: int
    seed: int
    fault_seconds: float
    #: From the last fault until no session may be open any more.
    drain_seconds: float
    #: Between two things that go wrong, on average.
    gap_seconds: float
    #: The one long outage of the server, and the one host that is cut off until its sessions count as lost.
    outage_seconds: float
    cut_off_seconds: float
    is_short: bool
    postgres_url: str
    json: Path | None
    keep: bool


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line. Exits with status 64 where it cannot be understood."""
    parser = _parser()
    try:
        found = parser.parse_args(arguments)
    except SystemExit as exit_:
        raise SystemExit(64 if exit_.code else 0) from None
    short: bool = found.short
    minutes = found.minutes or (0.25 if short else 12)
    sessions = found.sessions or (60 if short else 2000)
    if minutes <= 0 or sessions < 1:
        parser.print_usage()
        raise SystemExit(64)
    seconds = minutes * 60
    return Options(
        databases=DATABASES if found.database == "both" else (found.database,),
        sessions=sessions,
        seed=found.seed if found.seed is not None else secrets.randbelow(1_000_000),
        fault_seconds=seconds,
        drain_seconds=60 if short else 600,
        gap_seconds=1.2 if short else 5.0,
        outage_seconds=4 if short else min(120, seconds / 4),
        cut_off_seconds=0 if short else min(260, seconds / 2.5),
        is_short=short,
        # The database that a test run is named after may not be there; this one is on every server.
        postgres_url=urlunsplit(urlsplit(found.postgres_url)._replace(path="/postgres")),
        json=found.json,
        keep=found.keep,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m faults",
        description="Run real sessions while everything goes wrong, and count what was run twice, lost or left behind.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sessions", type=int, metavar="N", help="on each database (default 2000; with --short 60)")
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="how long faults go on, on each database (default 12; --short 0.25)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="what draws the faults (default: any; it is printed)")
    parser.add_argument("--database", choices=(*DATABASES, "both"), default="both", help="default: one after the other")
    parser.add_argument("--short", action="store_true", help="less than a minute on each database")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as JSON")
    parser.add_argument(
        "--keep", action="store_true", help="keep the folder with logs and journals, and print its name"
    )
    parser.add_argument(
        "--postgres-url",
        default=os.environ.get("TEST_DATABASE_URL") or DEFAULT_POSTGRES,
        help="a PostgreSQL server on which databases may be created (default TEST_DATABASE_URL, else %(default)s)",
    )
    return parser
