"""Claiming from few and from very many sessions, on the product's own tables and through its own service."""

import json
import sys

from bench.figures import ClaimFigure
from bench.options import REPOSITORY
from bench.ours import MANAGE
from bench.services import Postgres
from bench.workspace import Workspace, run

SAMPLES = 200
#: Filling a million rows with all their indexes is most of it.
FILL_SECONDS = 600


def measure(workspace: Workspace, database: str, postgres: Postgres, rows: tuple[int, ...]) -> list[ClaimFigure]:
    """Return a figure for each number of sessions. Raises PeerFailed where that does not work."""
    env = {"ATOM_HOME": str(workspace.path / "home"), "DJANGO_SETTINGS_MODULE": "atomsite.settings"}
    if database == "postgres":
        env["DATABASE_URL"] = postgres.create(workspace, "claim")
    run([sys.executable, MANAGE, "migrate", "-v", "0"], env=env, cwd=REPOSITORY)
    run([sys.executable, MANAGE, "init"], env=env, cwd=REPOSITORY)
    probe = [sys.executable, "-m", "bench.projects.claim_probe", str(SAMPLES), *map(str, rows)]
    printed = run(probe, env=env, cwd=REPOSITORY, seconds=FILL_SECONDS)
    return [ClaimFigure(**json.loads(line)) for line in printed.splitlines() if line.startswith("{")]
