"""`python -m faults trail`: what the audit trail stands, on each database, with figures.

Exit status as of `python -m faults`. Each stage has a database of its own and is a process of its own.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from bench.options import DEFAULT_POSTGRES, REPOSITORY
from bench.services import Postgres
from bench.workspace import PeerFailed, Workspace, run
from faults.clocks import Clock, build
from faults.options import DATABASES
from faults.report import say
from faults.small_server import small_server
from faults.stack import MANAGE

SIZE_MIB = 48
#: For a server of its own: what it begins with takes two thirds of it.
SERVER_MIB = 96
STAGE_SECONDS = 3600
STAGES = ("kills", "writers", "disk", "server", "clock", "attacks", "flips")
EPILOG = """examples:
  python -m faults trail                              the long form on both databases, about half an hour
  python -m faults trail --short                      the same with small numbers, about half a minute a database
  python -m faults trail --stage kills --database sqlite --seed 7

exit codes: 0 all held, 1 something did not, 64 usage, 70 the run itself failed, 130 Ctrl-C
"""


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each there is."""

    kills: int
    seconds: float
    flips: int


LONG = Amounts(kills=1000, seconds=60, flips=10_000)
SHORT = Amounts(kills=25, seconds=2, flips=150)


def main(arguments: list[str]) -> int:
    """Run the stages on each database and return the exit status."""
    asked = _parsed(arguments)
    postgres = Postgres(urlunsplit(urlsplit(asked.postgres_url)._replace(path="/postgres")))
    found: dict[str, dict[str, Any]] = {}
    try:
        for database in DATABASES if asked.database == "both" else (asked.database,):
            if database == "postgres" and (reason := postgres.missing()):
                raise PeerFailed(reason)
            found[database] = _run_on(database, postgres, asked)
    except KeyboardInterrupt:
        say("stopped; everything that was started is gone")
        return 130
    except PeerFailed as failure:
        say(f"the run itself failed: {failure}")
        return 70
    finally:
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=2))
    return 1 if any(stage["wrong"] for stages in found.values() for stage in stages.values()) else 0


def _run_on(database: str, postgres: Postgres, asked: argparse.Namespace) -> dict[str, Any]:
    amounts, stages = SHORT if asked.short else LONG, asked.stage or STAGES
    found: dict[str, Any] = {}
    say(f"--- the trail on {database}: seed {asked.seed}, {datetime.now(UTC).isoformat(timespec='seconds')}")
    wanted = {"seed": asked.seed, **asdict(amounts)}
    with Workspace(prefix="atom-trail-") as workspace:
        env = {
            "ATOM_HOME": str(workspace.folder("home")),
            "DJANGO_SETTINGS_MODULE": "atomsite.settings",
            "LOG_LEVEL": "ERROR",
        }
        if database == "postgres":
            env["DATABASE_URL"] = postgres.create(workspace, "trail")
        run([sys.executable, MANAGE, "init"], env=env, cwd=REPOSITORY)
        for stage in stages:
            if stage == "server" and database != "postgres":
                continue
            began = time.monotonic()
            with _place(database, postgres, workspace, stage, env) as (own, said):
                argv = [sys.executable, "-m", "faults.trail_inside", json.dumps({"stage": stage, **wanted, **said})]
                printed = run(argv, env=own, cwd=REPOSITORY, seconds=STAGE_SECONDS)
            found[stage] = json.loads(printed.splitlines()[-1])
            _tell(database, stage, found[stage], time.monotonic() - began)
    return found


@contextmanager
def _place(
    database: str, postgres: Postgres, workspace: Workspace, stage: str, env: dict[str, str]
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Make what only this stage needs. Yields its environment, and what the stage has to know of it."""
    said: dict[str, Any] = {"room": "", "page": ""}
    with ExitStack() as stack:
        if stage == "clock" and (library := build(workspace.path)):
            page = workspace.path / "clock"
            env, said["page"] = {**env, **Clock(page, library).environment()}, str(page)
        if stage == "disk" and (folder := stack.enter_context(_small_file_system(workspace, stage))):
            said["room"] = str(folder)
            url = f"sqlite:///{folder}/trail.sqlite3"
            if database == "postgres":
                url = stack.enter_context(_small_database(postgres, folder))
            env = {**env, "DATABASE_URL": url}
            run([sys.executable, MANAGE, "migrate", "-v", "0"], env=env, cwd=REPOSITORY)
        if stage == "server" and (folder := stack.enter_context(_small_file_system(workspace, stage, SERVER_MIB))):
            server = stack.enter_context(small_server(folder, workspace.folder("logs")))
            if server:
                said |= {"room": str(folder), "start": server.start, "log": str(server.log)}
                env = {**env, "DATABASE_URL": server.url}
                run([sys.executable, MANAGE, "migrate", "-v", "0"], env=env, cwd=REPOSITORY)
        yield env, said


@contextmanager
def _small_file_system(workspace: Workspace, stage: str, size_mib: int = SIZE_MIB) -> Iterator[Path | None]:
    folder = workspace.folder(f"small-{stage}")
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "atom-trail", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(argv, check=False, capture_output=True).returncode == 0
    try:
        yield folder if is_mounted else None
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


@contextmanager
def _small_database(postgres: Postgres, folder: Path) -> Iterator[str]:
    """Make a database whose tables are in this folder. Raises PeerFailed where the server is on another machine."""
    name, place = f"atom_trail_full_{os.getpid()}", folder / "tables"
    place.mkdir(mode=0o700)
    for parent in list(place.parents)[:-2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    shutil.chown(place, "postgres")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        try:
            connection.execute(
                sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(sql.Identifier(name), sql.Literal(str(place)))
            )
            connection.execute(sql.SQL("CREATE DATABASE {} TABLESPACE {}").format(*[sql.Identifier(name)] * 2))
        except psycopg.Error as error:
            raise PeerFailed(f"PostgreSQL: {error}") from error
        try:
            yield urlunsplit(urlsplit(postgres.url)._replace(path=f"/{name}"))
        finally:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP TABLESPACE IF EXISTS {}").format(sql.Identifier(name)))


def _tell(database: str, stage: str, found: dict[str, Any], seconds: float) -> None:
    say(f"{database}, {stage}: {'DOES NOT HOLD' if found['wrong'] else 'holds'} ({seconds:.0f} s)")
    for name, value in found.items():
        if name == "verdicts":
            for attack, (without, with_anchor) in value.items():
                say(f"    {attack}: {without} without an anchor, {with_anchor} with one")
        elif name != "wrong":
            say(f"    {name}: {value}")
    for wrong in found["wrong"]:
        say(f"    WRONG: {wrong}")


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m faults trail",
        description="Kill, fill up, attack and damage the audit trail, and count what was lost or not noticed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--database", choices=(*DATABASES, "both"), default="both", help="default: one after the other")
    parser.add_argument("--stage", choices=STAGES, action="append", help="only this one; may be repeated")
    parser.add_argument("--short", action="store_true", help="small numbers, for every change")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="what draws (default: any)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as JSON")
    parser.add_argument(
        "--postgres-url",
        default=os.environ.get("TEST_DATABASE_URL") or DEFAULT_POSTGRES,
        help="a PostgreSQL server on which databases may be created (default TEST_DATABASE_URL, else %(default)s)",
    )
    try:
        return parser.parse_args(arguments)
    except SystemExit as exit_:
        raise SystemExit(64 if exit_.code else 0) from None
