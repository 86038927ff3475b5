"""The host's list of git's subcommands, held against the table by which governance decides; and git in a sandbox."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from governance.policy.entries import Entry
from governance.policy.tables import load_tables
from governance.policy.types import Category
from shellagent.host.git import OBLIGATION_GIT_HARDENED, harden
from shellagent.host.git_programs import GitCommand
from shellagent.host.run import Run
from shellagent.host.runner import Runner
from shellagent.protocol import ExecutionReport, PathGrant
from tests.host.hostile import OVERRULED, REFUSED, make, plain_environment
from tests.host.server import assignment


def subcommands(entry: Entry, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Entry]]:
    """Yield every subcommand of the table that does something itself, with its words."""
    for name, found in entry.subcommands.items():
        if not found.subcommands or name in ("reflog", "remote"):
            yield (*words, name), found
        yield from subcommands(found, (*words, name))


def test_what_governance_calls_reading_or_writing_is_hardened_and_only_what_runs_code_is_not() -> None:
    entry = load_tables().programs["git"]
    assert set(entry.obligations) == {"sandbox", "git-hardened"}
    listed = list(subcommands(entry))
    assert len(listed) > 80
    for words, found in listed:
        if found.category is Category.BLOCKED:
            continue
        does_run = found.category in (Category.BUILD, Category.NETWORK)
        assert GitCommand(("git",), words[0], words[1:]).runs_code == does_run, words


@pytest.mark.parametrize(
    "command", ["git status", "git log -p --stat", "timeout 5 git diff", "git describe --tags --always"]
)
def test_a_hostile_repository_is_read_in_the_sandbox(runner: Runner, tmp_path: Path, command: str) -> None:
    if not runner.sandbox.is_active:
        pytest.skip("this kernel has no Landlock")
    hostile = make(tmp_path)
    hostile.configure(OVERRULED)
    hostile.touch()
    done = perform(runner, tmp_path, hostile.folder, command)
    assert done.exit_codes == (0,), b"".join(item.content() for item in done.output)
    assert not hostile.was_run()
    hostile.configure(REFUSED["clean"])
    done = perform(runner, tmp_path, hostile.folder, command)
    is_refused = "log" not in command
    assert done.exit_codes == (126 if is_refused else 0,)
    assert (b"filter.evil.clean" in b"".join(item.content() for item in done.output)) == is_refused
    assert not hostile.was_run()


def perform(runner: Runner, tmp_path: Path, folder: Path, command: str) -> ExecutionReport:
    temporary = tmp_path / "own-tmp"
    temporary.mkdir(exist_ok=True)
    wanted = assignment(
        *command.split(),
        directory=str(folder),
        grants=(PathGrant(str(folder), "read"),),
        obligations=("sandbox", OBLIGATION_GIT_HARDENED),
    )
    return Run(runner, runner.prepare(wanted, temporary), "k").finish()


def test_what_runs_code_keeps_its_arguments(tmp_path: Path) -> None:
    argv, env = harden(["git", "commit", "-m", "x"], plain_environment(tmp_path), str(tmp_path))
    assert argv == ["git", "commit", "-m", "x"]
    assert env["GIT_EDITOR"] == ":"
