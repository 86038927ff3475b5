"""The tutorial "connect your agent", word for word: on a machine with nothing but Python, in a checkout of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.test_docs import DOCS, ROOT, blocks
from tests.e2e.product import Person, eventually, free_port

pytestmark = pytest.mark.e2e

PAGE = DOCS / "tutorial" / "connect-your-agent.md"
READY = "and stops with Ctrl-C"
#: What the page promises.
MOST_SECONDS = 300
REASON = "Leave it where it is."


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that a clone has, and the virtual environment that `make` would install, here already."""
    made_later = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", *made_later))
    (folder / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.startswith("."):
            (folder / ".venv" / part.name).symlink_to(part)
    for stamp in (".made", ".run-stamp"):
        (folder / ".venv" / stamp).touch()
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a fresh login has."""
    (tmp_path / "home").mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "PORT": str(free_port()), "LANG": "C.UTF-8"}


@contextmanager
def running(script: str, checkout: Path, environment: dict[str, str]) -> Iterator[None]:
    """The first terminal: what is typed there goes on until Ctrl-C."""
    log = checkout.parent / "first-terminal.log"
    with log.open("wb") as stream:
        first = subprocess.Popen(
            ["bash", "-c", script], cwd=checkout, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        eventually(lambda: READY in log.read_text() or first.poll() is not None, MOST_SECONDS, log.read_text)
        assert first.poll() is None, log.read_text()
        yield
    finally:
        os.killpg(first.pid, signal.SIGINT)
        first.wait(timeout=60)


@contextmanager
def a_person(checkout: Path) -> Iterator[None]:
    """Who sits in front of the browser: approves the first command that waits, and rejects the second."""
    known = json.loads((checkout / "var" / "credentials.json").read_text())
    person = Person(known["url"], known["admin"]["username"], known["admin"]["password"])
    is_over = threading.Event()

    def decide() -> None:
        answers = [("approve", ""), ("reject", REASON)]
        while answers and not is_over.wait(0.3):
            found = person.get("/api/local-agent/sessions?status=pending").json()["results"]
            waiting = [session for session in found if session["agent"]["name"] == "demo-supervised"]
            if waiting:
                person.decide(waiting[0]["id"], *answers.pop(0))

    thread = threading.Thread(target=decide)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_it_works_word_for_word(checkout: Path, environment: dict[str, str]) -> None:
    (start,) = blocks(PAGE, "text")
    with running(start, checkout, environment), a_person(checkout):
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail"],
            input="\n".join(blocks(PAGE, "sh")),
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=MOST_SECONDS,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("hello.txt\nreadme.txt\n") == 2
    assert "agent:  demo-supervised (SUPERVISED)" in done.stdout
    assert re.findall(r"^exit code (\d+)$", done.stdout, re.MULTILINE) == ["75", "77", "77"]
    assert REASON in done.stderr
    assert "Written." in done.stdout
    assert not re.findall(r"^fail .*", done.stdout, re.MULTILINE)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"hookSpecificOutput')]
    assert [answer["hookSpecificOutput"]["permissionDecision"] for answer in answers] == ["deny", "allow"]
    assert "rejected" in done.stdout.rpartition("allow")[2]
