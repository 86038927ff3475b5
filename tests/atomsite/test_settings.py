"""What the environment says of an installation, as settings read it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOOK = "from atomsite import settings; print(settings.ATOM_URL, settings.ATOM_PUBLIC_URL)"


@pytest.mark.parametrize("name", ["ATOM_URL", "ATOM_PUBLIC_URL"])
def test_an_empty_address_counts_as_none(name: str, tmp_path: Path) -> None:
    known = {key: value for key, value in os.environ.items() if key not in ("ATOM_URL", "ATOM_PUBLIC_URL", "PORT")}
    environment = {**known, "ATOM_HOME": str(tmp_path), "SECRET_KEY": "s" * 50, name: ""}
    said = subprocess.run(
        [sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout == "http://localhost:8000 http://localhost:8000\n"
