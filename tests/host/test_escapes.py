"""Every way out of the sandbox that we know, tried by real programs, and what stops each.

`python -m tests.host.test_escapes` prints the table that is in the documentation. It tries each way with one layer
after the other, so what only a later one stops is done: run it on a machine of no importance.
"""

import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shellagent.host.limits import Limits
from shellagent.host.sandbox import Confinement, Sandbox
from shellagent.protocol import PathGrant
from tests.host.ways_out import OPEN, REFUSALS, WAYS

SOURCE = Path(__file__).with_name("ways_out.py").read_text()
STOPPED = {errno.errorcode[number] for number in REFUSALS} | {"SIGSYS"}
DOCUMENT = Path(__file__).parents[2] / "docs/explanation/what-is-promised.md"


@dataclass(frozen=True)
class Place:
    """Where the attempts are made."""

    folder: Path
    environment: dict[str, str]

    def furnish(self) -> None:
        """Put everything back."""
        for name in ("outside", "state/journal", "granted", "own"):
            shutil.rmtree(self.folder / name.partition("/")[0], ignore_errors=True)
            (self.folder / name).mkdir(parents=True)
        (self.folder / "outside/file").write_text("outside\n")
        (self.folder / "granted/file").write_text("granted\n")
        (self.folder / "state/key").write_text("ath_secret")

    def attempt(self, confinement: Confinement) -> dict[str, str]:
        """Try all ways in a confinement; returns how each ended."""
        self.furnish()
        process = confinement.spawn(
            lambda: subprocess.Popen(
                [os.path.realpath(sys.executable), "-I", "-S", "-c", SOURCE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self.environment,
                cwd="/",
                start_new_session=True,
            )
        )
        Limits().hold(process.pid)
        result: dict[str, str] = json.loads(process.communicate(timeout=60)[0])
        return result


@contextlib.contextmanager
def place_in(folder: Path) -> Iterator[Place]:
    """Make a place, and what there is around it to be reached."""
    abstract = f"atom-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as by_path,
        socket.socket(socket.AF_UNIX) as by_name,
    ):
        by_path.bind(str(folder / "daemon"))
        by_path.listen()
        by_name.bind(f"\0{abstract}")
        by_name.listen()
        # It stands for the host's process: a way that is open must not stop the tests.
        # Without capabilities, as that of an ordinary user: those alone would keep the confined ones off.
        victim = Confinement().spawn(lambda: subprocess.Popen(["sleep", "600"]))
        yield Place(
            folder,
            {
                "OUTSIDE": str(folder / "outside"),
                "STATE": str(folder / "state"),
                "GRANTED": str(folder / "granted"),
                "OWN": str(folder / "own"),
                "HOST": str(victim.pid),
                "PORT": str(server.getsockname()[1]),
                "SOCKET": str(folder / "daemon"),
                "ABSTRACT": abstract,
            },
        )
        victim.kill()
        victim.wait()


def confinement_of(sandbox: Sandbox, place: Place) -> Confinement:
    """Return that of a command which may read one folder and reach no network."""
    place.furnish()
    return sandbox.confinement(
        grants=(PathGrant(str(place.folder / "granted"), "read"),),
        obligations=("read-only",),
        protected=(str(place.folder / "state"),),
        temporary=place.folder / "own",
    )


def table() -> str:
    """Return what stops each way, as a Markdown table: the first layer with which it is refused."""
    sandbox = Sandbox()
    with tempfile.TemporaryDirectory() as folder, place_in(Path(folder)) as place:
        sandbox.probe(Path(folder))

        def tried(ruleset: bool, program: bool) -> dict[str, str]:
            whole = confinement_of(sandbox, place)
            return place.attempt(
                Confinement((), whole.ruleset if ruleset else None, whole.program if program else None)
            )

        layers = {
            "no capabilities": tried(ruleset=False, program=False),
            "Landlock": tried(ruleset=True, program=False),
            "seccomp": tried(ruleset=True, program=True),
        }
    rows = [("way", "stopped by", "what the program sees"), ("---", "---", "---")]
    for title in WAYS:
        by = next((name for name, results in layers.items() if results[title] in STOPPED), "")
        if by == "no capabilities" and layers[by][title] == "ENOSYS":
            by = "the kernel, which has no such call"
        rows.append((title, by or "**nothing**", layers["seccomp"][title]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_in(tmp_path_factory.mktemp("ways")) as made:
        yield made


@pytest.fixture(scope="module")
def confinement(probed: Sandbox, place: Place) -> Confinement:
    """That of a command which may read one folder and reach no network."""
    if probed.missing:
        pytest.skip(f"this machine has no {', '.join(probed.missing)}")
    return confinement_of(probed, place)


@pytest.fixture(scope="module")
def results(place: Place, confinement: Confinement) -> dict[str, str]:
    return place.attempt(confinement)


@pytest.mark.parametrize("title", WAYS)
def test_a_way_out_is_closed(results: dict[str, str], title: str) -> None:
    assert results[title] in STOPPED


@pytest.mark.parametrize("title", OPEN)
def test_what_is_said_to_be_open_is(results: dict[str, str], title: str) -> None:
    assert results[title] == "out"


@pytest.mark.parametrize("title", [*WAYS, *OPEN])
def test_the_documentation_has_it(title: str) -> None:
    assert title in DOCUMENT.read_text()


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
