"""The one file: the same bytes each time, and it needs nothing but Python."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from django.test import RequestFactory
from django.urls import resolve

from shellagent import client_file
from tests.client.conftest import EXECUTE, ONE, SESSION
from tests.host.server import StubServer


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "atom"
    client_file.main(str(path))
    return path


def test_it_is_made_the_same_again_and_served(file: Path) -> None:
    client_file.client_file.cache_clear()
    request = RequestFactory()
    assert resolve("/atom").func(request.get("/")).content == file.read_bytes()
    assert resolve("/atom.sha256").func(request.get("/")).content.decode() == f"{client_file.client_digest()}  atom\n"
    assert resolve("/atom").func(request.post("/")).status_code == 405


def test_it_runs_where_there_is_only_python_and_ctrl_c_cancels(file: Path, server: StubServer) -> None:
    is_waiting = threading.Event()

    def wait(_: object) -> tuple[int, object]:
        is_waiting.set()
        time.sleep(1.0)
        return 200, {**SESSION, "status": "queued"}

    server.bend(EXECUTE, lambda _: (202, {**SESSION, "status": "queued"}))
    server.bend(ONE, wait)
    server.bend(f"{ONE}/cancel", lambda _: (200, {**SESSION, "status": "cancelled"}))
    environment = {"ATOM_URL": server.url, "ATOM_KEY": "ata_x", "PYTHONPROFILEIMPORTTIME": "1", "HOME": os.devnull}
    # Without site-packages, and without this checkout. The profile needs the environment, which -I would leave out.
    argv = [sys.executable, "-S", "-P", str(file), "run", "--", "true"]
    process = subprocess.Popen(argv, env=environment, cwd="/", stderr=subprocess.PIPE, text=True)
    assert is_waiting.wait(20)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=20)
    assert process.returncode == 130, printed
    assert f"{ONE}/cancel" in server.calls
    assert "is cancelled" in printed
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in printed.splitlines()}
    assert {"shellagent", "http"} <= imported
    # Each of these takes as long to import as a short command may take in all.
    assert not {"django", "psutil", "requests", "dataclasses", "logging", "pathlib", "asyncio"} & imported
