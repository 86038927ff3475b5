"""The web process does not carry what it has no use for."""

import subprocess
import sys
from pathlib import Path

LOOK = """
import sys
from atomsite.asgi import application
unused = {"requests", "psycopg", "coreapi", "jinja2", "segno"} & set(sys.modules)
import requests, segno
print(sorted(unused), requests.__name__, callable(application))
"""


def test_unused_packages_stay_out_and_can_be_imported_later(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOK],
        env={"PATH": "/usr/bin:/bin", "ATOM_HOME": str(tmp_path), "SECRET_KEY": "k"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "[] requests True", run.stderr
