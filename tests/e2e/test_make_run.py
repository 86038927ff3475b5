"""`make run` as a person would type it: in a folder of its own, on a free port, ended by Ctrl-C."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests

from tests.database import OwnDatabase
from tests.e2e.product import ROOT, eventually, free_port

pytestmark = pytest.mark.e2e

READY = "and stops with Ctrl-C"


class MakeRun:
    """`make run` with a session of its own, as in a terminal; `interrupt` is Ctrl-C there."""

    def __init__(self, database: OwnDatabase, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.output = folder / f"output-{time.monotonic_ns()}"
        self.environment = {
            **database.environment(folder / "home"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "NO_COLOR": "1",
        }
        # `make run PORT=…` is one way to say it, the environment the other; both are used here.
        with self.output.open("wb") as stream:
            self.make = subprocess.Popen(
                ["make", "-s", "run", f"PORT={port}"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.seen: set[psutil.Process] = set()

    def text(self) -> str:
        return self.output.read_text()

    def wait_until_ready(self, seconds: float = 90) -> None:
        def is_ready() -> bool:
            self.seen |= set(self.family())
            assert self.make.poll() is None, f"make run ended:\n{self.text()}"
            return READY in self.text()

        eventually(is_ready, seconds, "make run is not ready")

    def family(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.make.pid).children(recursive=True)
        return []

    def up(self) -> psutil.Process:
        """Return the supervising process."""
        return next(process for process in self.family() if process.cmdline()[-1:] == ["up"])

    def interrupt(self, seconds: float = 60) -> None:
        self.seen |= set(self.family())
        os.killpg(self.make.pid, signal.SIGINT)
        self.make.wait(timeout=seconds)

    def left(self, seconds: float = 15) -> list[str]:
        """Return what is still alive of all that was seen, after giving it some seconds."""
        _, alive = psutil.wait_procs(list(self.seen), timeout=seconds)
        return [repr(process) for process in alive if process.status() != psutil.STATUS_ZOMBIE]

    def end(self) -> None:
        for process in [*self.seen, *self.family()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.make.poll() is None:
            self.make.kill()
        self.make.wait(timeout=10)


@pytest.fixture
def run(own_database: OwnDatabase, tmp_path: Path) -> Iterator[MakeRun]:
    """`make run`, ready, in an empty ATOM_HOME."""
    made = MakeRun(own_database, tmp_path, free_port())
    try:
        made.wait_until_ready()
        yield made
    finally:
        made.end()


def test_the_first_start_tells_all_and_ctrl_c_ends_all(run: MakeRun, own_database: OwnDatabase) -> None:
    text = run.text()
    url = f"http://localhost:{run.port}"
    home = run.folder / "home"

    # The tour, in its order, with what came of each request.
    stops = re.split(r"\n\d\. ", text.split(READY)[0])[1:]
    assert len(stops) == 5, text
    assert "HTTP 200: succeeded, exit code 0" in stops[0]
    assert "demo-supervised" in stops[1]
    assert "| This folder belongs to the agent demo-supervised." in stops[1]
    assert "HTTP 202: pending" in stops[2]
    link = re.search(rf"{url}/\S+", stops[2])
    assert link is not None, stops[2]
    assert "HTTP 403" in stops[3]
    assert "why: " in stops[3]
    assert "HTTP 400" in stops[4]

    # What a script follows.
    file = home / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    credentials = json.loads(file.read_text())
    assert credentials["url"] == url
    assert set(credentials) == {"url", "admin", "agents", "host"}
    assert set(credentials["agents"]) == {"student", "intern", "supervised", "autonomous"}
    assert all(set(agent) == {"id", "key"} for agent in credentials["agents"].values())
    assert credentials["host"]["id"]
    assert text.count(credentials["admin"]["password"]) == 1
    readable = [path for path in home.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert [path.name for path in readable if not path.name.startswith("db.sqlite3")] == []

    # The curl line, in a shell, as it stands.
    [line] = [line.strip() for line in text.splitlines() if line.strip().startswith("curl ")]
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["status"] == "succeeded"

    run.interrupt()
    assert "Stopped." in run.text()
    assert run.left() == []
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)

    # The second start is quick, tells no secret, and makes nothing again.
    again = MakeRun(own_database, run.folder, run.port)
    started = time.monotonic()
    try:
        again.wait_until_ready(30)
        assert time.monotonic() - started < 15
        assert credentials["admin"]["password"] not in again.text()
        assert "tour" not in again.text()
        assert json.loads(file.read_text()) == credentials
        again.interrupt()
        assert again.left() == []
    finally:
        again.end()


def test_a_killed_supervisor_takes_all_with_it(run: MakeRun) -> None:
    run.seen |= set(run.family())
    run.up().kill()
    assert run.make.wait(timeout=20) != 0
    assert run.left(30) == []


def test_a_second_run_is_refused_and_a_killed_web_server_comes_back(run: MakeRun, own_database: OwnDatabase) -> None:
    second = MakeRun(own_database, run.folder, free_port())
    assert second.make.wait(timeout=60) != 0
    assert "already (process " in second.text()
    assert run.make.poll() is None
    assert _answers(run.port)
    masters = [process for process in run.up().children() if "gunicorn" in " ".join(process.cmdline())]
    masters[0].kill()
    eventually(lambda: "web died (signal KILL)" in run.text())
    eventually(lambda: _answers(run.port), 30, "the web server is not back")
    run.interrupt()
    assert run.left() == []


def test_a_taken_port_is_a_clear_error(own_database: OwnDatabase, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        made = MakeRun(own_database, tmp_path, taken.getsockname()[1])
        try:
            assert made.make.wait(timeout=90) != 0
            text = made.text()
            assert f"Port {made.port} on 127.0.0.1 is taken by another program." in text
            assert "Traceback" not in text
            assert "tour" not in text
            up = subprocess.run(
                [sys.executable, "manage.py", "up", "--port", str(made.port)],
                cwd=ROOT,
                env=made.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert up.returncode == 69
        finally:
            made.end()


def _answers(port: int) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"http://localhost:{port}/admin/login/", timeout=5).status_code == 200
    return False
