"""The pages of who approves, with 500 requests that wait, and the record of an agent with a million sessions."""

import json
import sys

from bench.figures import PageFigure
from bench.options import REPOSITORY, Options
from bench.ours import MANAGE
from bench.services import Postgres
from bench.workspace import Workspace, run

#: Filling a million rows with all their indexes, and counting them, is most of it.
FILL_SECONDS = 1800


def measure(workspace: Workspace, database: str, postgres: Postgres, options: Options) -> list[PageFigure]:
    """Return a figure for each page, on a database of its own. Raises PeerFailed."""
    env = {
        "ATOM_HOME": str(workspace.folder("home")),
        "ATOM_PENDING_PER_AGENT": str(options.waiting),
        "DJANGO_SETTINGS_MODULE": "atomsite.settings",
    }
    if database == "postgres":
        env["DATABASE_URL"] = postgres.create(workspace, "pages")
    run([sys.executable, MANAGE, "init"], env=env, cwd=REPOSITORY)
    asked = (options.waiting, options.page_sessions, options.page_rounds)
    probe = [sys.executable, "-m", "bench.projects.pages_probe", *map(str, asked)]
    printed = run(probe, env=env, cwd=REPOSITORY, seconds=FILL_SECONDS)
    found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return [PageFigure(database, *asked[:2], one.pop("name"), tuple(one.pop("took_ms")), **one) for one in found]
