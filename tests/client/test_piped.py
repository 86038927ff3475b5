"""How every command line of this product ends where what it prints has nowhere to go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ATOM = ("-m", "shellagent.client")
MANAGE = ("manage.py",)


def _environment(folder: Path) -> dict[str, str]:
    # Unbuffered, the last words of a program are written before its end.
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "DATABASE_URL")}
    return {**kept, "ATOM_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}


@pytest.fixture
def no_reader() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    "arguments",
    [
        (*ATOM, "--help"),
        (*ATOM, "connect", "cron"),
        (*MANAGE, "help"),
        (*MANAGE, "policy", "check", "--shipped", "--maturity", "INTERN", "--", "ls"),
        (*MANAGE, "localagent", "--help"),
        (*MANAGE, "runlocalagent", "--help"),
    ],
)
def test_it_ends_quietly_where_the_reader_has_gone(arguments: tuple[str, ...], no_reader: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=_environment(tmp_path),
        stdout=no_reader,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(no_reader)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_wrong_call_keeps_its_code_where_nobody_reads_the_error(no_reader: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *ATOM, "nonsense"], cwd=ROOT, env=_environment(tmp_path), stderr=no_reader, check=False
    )
    os.close(no_reader)
    assert done.returncode == 64


def test_a_terminal_of_few_characters_shows_the_others_as_escapes(tmp_path: Path) -> None:
    environment = {**_environment(tmp_path), "PYTHONIOENCODING": "ascii"}
    source = "from shellagent.client.arguments import piped; piped(lambda: print('\u2026'))"
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\u2026\n", b"")


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [(">&-", 0, ""), (">/dev/full", 70, "What was printed could not be written: No space left on device.\n")],
)
def test_it_says_what_could_not_be_written(target: str, code: int, said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {target}', "sh", sys.executable, *ATOM, "connect", "cron"],
        cwd=ROOT,
        env=_environment(tmp_path),
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (code, said)
