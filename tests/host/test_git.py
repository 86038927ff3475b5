"""The obligation `git-hardened`, held against a real git in a hostile repository: no mark may appear."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shellagent.host.errors import RefusedError
from shellagent.host.git import harden
from shellagent.protocol import Reason
from tests.host.hostile import OVERRULED, REFUSED, Hostile, git, make, plain_environment, plant_bare

#: The reading commands that governance allows, one of each kind.
READING = """
status|status -sb --ignored|status --porcelain=2|log|log -p -3|log --all --graph --oneline --decorate|log -p -m main
log --format=%G?%GS main|log --stat --follow file|log -S one|log --show-signature -1|show|show main|show HEAD:file
show v1|show side|show --stat|diff|diff HEAD~1|diff --cached|diff --stat main side|diff main...side|diff --submodule=log
diff --word-diff|diff-tree -p HEAD~1 HEAD|diff-index -p HEAD|diff-files -p|blame file|blame -w main -- file
annotate file|shortlog -sn HEAD|describe --tags --always|rev-parse HEAD|rev-list --count HEAD|ls-files|ls-files -m -o
ls-tree -r HEAD|cat-file -p HEAD|cat-file -t v1|grep -n one|grep one main|remote -v|branch -avv|branch --contains HEAD
tag -l -n|config --list|config --get user.name|config core.pager|worktree list|merge-base main side
name-rev HEAD|count-objects -v|for-each-ref|show-ref|var GIT_EDITOR|cherry main side|fsck
check-attr -a file|check-ignore file|symbolic-ref HEAD|show-branch
"""
READING_COMMANDS = READING.replace("\n", "|").strip("|").split("|")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    return make(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def hostile(made: Hostile) -> Iterator[Hostile]:
    made.configure(OVERRULED)
    made.touch()
    made.was_run()
    yield made
    (made.folder / ".git/config.worktree").unlink(missing_ok=True)


def run(hostile: Hostile, *arguments: str, folder: Path | None = None) -> "subprocess.CompletedProcess[bytes]":
    """Run git as the host does: hardened, or refused with RefusedError."""
    where = folder or hostile.folder
    argv, env = harden(["git", *arguments], plain_environment(hostile.folder), str(where))
    return subprocess.run(argv, cwd=where, env=env, capture_output=True, check=False, timeout=20)


@pytest.mark.parametrize("command", READING_COMMANDS)
def test_what_can_be_overruled_is_overruled(hostile: Hostile, command: str) -> None:
    done = run(hostile, *command.split())
    assert not hostile.was_run()
    assert done.returncode <= 1, done.stderr.decode()


@pytest.mark.parametrize("command", [*READING_COMMANDS, "stash list", "stash show", "reflog"])
def test_a_repository_with_filters_too_runs_nothing(hostile: Hostile, command: str) -> None:
    hostile.configure("".join(REFUSED[name] for name in ("clean", "smudge", "process")), more=True)
    with contextlib.suppress(RefusedError):
        run(hostile, *command.split())
    assert not hostile.was_run()


@pytest.mark.parametrize(
    ("setting", "command"),
    [
        ("core.fsmonitor", "status"),
        ("diff.external", "diff"),
        ("diff.evil.textconv", "blame file"),
        ("diff.evil.command", "diff"),
        ("merge.evil.driver", "log --remerge-diff"),
        ("filter.evil.clean", "status"),
        ("filter.evil.clean", "ls-files -m"),
        ("filter.evil.process", "diff --stat"),
        ("gpg.program", "log --show-signature -1"),
        ("alias.frob", "frob"),
        ("submodule", "status"),
        ("hooks", "status"),
        ("partial clone", "cat-file -p 1234567890123456789012345678901234567890"),
    ],
)
def test_without_hardening_each_of_them_runs(hostile: Hostile, setting: str, command: str) -> None:
    sections = {
        "alias.frob": "[alias]\n frob = !{evil}\n",
        "submodule": "",
        "hooks": "[core]\n hooksPath = {hooks}\n",
        "partial clone": OVERRULED[OVERRULED.index("[protocol]") : OVERRULED.index(" uploadpack")],
    }
    hostile.configure(sections.get(setting, ""))
    if setting not in sections:
        git(hostile.folder, "config", setting, str(hostile.evil))
    if setting == "hooks":
        os.utime(hostile.folder / "file")
        git(hostile.folder, "checkout", "-q", "--", "file")
        hostile.was_run()
        os.utime(hostile.folder / "file")
    git(hostile.folder, *command.split())
    assert hostile.was_run()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_switched_off_is_refused_by_name(hostile: Hostile, name: str) -> None:
    hostile.configure(REFUSED[name], more=True)
    with pytest.raises(RefusedError) as caught:
        run(hostile, "status")
    assert caught.value.reason == Reason.HOST_CEILING
    key = {"hook": "hook.evil.command", "trailer": "trailer.evil.command"}.get(name, "filter.evil.")
    assert key in str(caught.value)


def test_the_configuration_of_a_worktree_counts(hostile: Hostile) -> None:
    hostile.configure("[extensions]\n worktreeConfig = true\n", more=True)
    (hostile.folder / ".git/config.worktree").write_text(f'[filter "evil"]\n clean = {hostile.evil}\n')
    with pytest.raises(RefusedError, match=r"filter\.evil\.clean"):
        run(hostile, "diff")


@pytest.mark.parametrize(
    "command",
    [
        "diff --ext-diff",
        "log -p --textconv",
        "log --remerge-diff",
        "log --diff-merges=remerge -p",
        "show --ext-diff main",
        "grep --textconv one",
        "cat-file --textconv HEAD:file",
        "status -v",
        "status -sv",
        "stash show -p",
        "describe --dirty",
        "diff --submodule=diff",
        "diff --ignore-submodules=none",
        "status --ignore-submodules=untracked",
        "ls-files --recurse-submodules",
        "rm -n sub",
        "frob",
        "difftool-of-tomorrow",
        "log --help",
        "--exec-path=x log",
        "-C nowhere status",
    ],
)
def test_what_would_undo_it_is_refused(hostile: Hostile, command: str) -> None:
    hostile.configure("[alias]\n frob = !{evil}\n", more=True)
    with pytest.raises(RefusedError):
        run(hostile, *command.split())
    assert not hostile.was_run()


def test_a_bare_repository_that_nobody_named_is_left_alone(hostile: Hostile) -> None:
    planted = hostile.folder / "planted"
    plant_bare(planted, hostile.evil)
    (planted / "file").write_text("x\n")
    git(planted, "status")
    assert hostile.was_run()
    assert run(hostile, "status", folder=planted).returncode == 128
    assert run(hostile, "-C", "planted", "status").returncode == 128
    assert not hostile.was_run()


def test_the_environment_names_no_program(hostile: Hostile) -> None:
    names = "GIT_EXTERNAL_DIFF GIT_PAGER PAGER GIT_SSH GIT_SSH_COMMAND GIT_EDITOR EDITOR VISUAL GIT_ASKPASS LESSOPEN"
    env = plain_environment(hostile.folder) | dict.fromkeys(names.split(), str(hostile.evil))
    env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": str(hostile.evil)}
    env |= {"GIT_DIR": "/nowhere", "GIT_CONFIG_PARAMETERS": "'x.y=z'", "GIT_TRACE": str(hostile.marker)}
    argv, hardened = harden(["git", "diff"], env, str(hostile.folder))
    subprocess.run(argv, cwd=hostile.folder, env=hardened, capture_output=True, check=True)
    assert not hostile.was_run()
    assert str(hostile.evil) not in hardened.values()


@pytest.mark.parametrize(
    "command", ["branch new", "tag v2", "mv file other", "notes add -m x", "update-ref refs/x HEAD"]
)
def test_what_writes_references_runs_no_hook(hostile: Hostile, command: str) -> None:
    hostile.configure("[core]\n hooksPath = {hooks}\n[user]\n name = a\n email = a@b\n")
    assert run(hostile, *command.split()).returncode == 0
    assert not hostile.was_run()
    git(hostile.folder, "branch", "newer")
    assert hostile.was_run()
    git(hostile.folder, "reset", "-q", "--hard")
    for name in ("refs/heads/new", "refs/heads/newer", "refs/tags/v2", "refs/x", "refs/notes/commits"):
        git(hostile.folder, "update-ref", "-d", name)


@pytest.mark.parametrize(
    "setting",
    [
        '[http "https://x.org/"]\n extraheader = AUTHORIZATION: basic eDp5\n',
        '[remote "other"]\n url = https://ada:hunter2@x.org/y\n',
        '[url "https://ada:hunter2@x.org/"]\n insteadOf = x:\n',
        "[github]\n token = x\n",
    ],
)
def test_credentials_are_not_printed(hostile: Hostile, setting: str) -> None:
    hostile.configure(setting, more=True)
    with pytest.raises(RefusedError, match="credential") as caught:
        run(hostile, "config", "--list")
    assert "hunter2" not in str(caught.value)
    assert run(hostile, "log", "-1").returncode == 0


@pytest.mark.parametrize(
    ("command", "is_hardened"),
    [
        ("git log", True),
        ("/usr/bin/git log", True),
        ("git -C . -c color.ui=false --no-pager log", True),
        ("timeout 5 git log", True),
        ("timeout -s KILL -k 5 --foreground 5 nice -n 5 git log", True),
        ("nice -5 nohup stdbuf -oL git log", True),
        ("ionice -c2 -n7 -- git log", True),
        ("git stash list", True),
        ("git remote -v", True),
        ("git worktree list", True),
        ("git commit -m x", False),
        ("git stash", False),
        ("git stash -q list", False),
        ("git worktree add x", False),
        ("git remote show origin", False),
        ("git fetch", False),
        ("git --version", False),
    ],
)
def test_which_git_commands_are_hardened(tmp_path: Path, command: str, is_hardened: bool) -> None:
    argv, env = harden(command.split(), {"PATH": os.environ["PATH"], "GIT_DIR": "x", "PAGER": "x"}, str(tmp_path))
    assert ("core.fsmonitor=false" in argv) == is_hardened
    assert (argv == command.split()) != is_hardened
    assert (env["GIT_TERMINAL_PROMPT"], "GIT_DIR" in env, "PAGER" in env) == ("0", False, False)
    # The words of the agent are all there, in their order.
    rest = iter(argv)
    assert all(word in rest for word in command.split())


@pytest.mark.parametrize(
    "command", ["ls git", "timeout 5 grep git log", "nice -n 5 echo git status", "timeout --odd 5 ls", ""]
)
def test_other_commands_are_left_as_they_are(command: str) -> None:
    env = {"GIT_DIR": "x"}
    assert harden(command.split(), env, "/") == (command.split(), env)


def test_a_wrapper_that_is_not_understood_is_refused() -> None:
    with pytest.raises(RefusedError, match="--odd"):
        harden(["timeout", "--odd", "5", "git", "log"], {}, "/")


def test_a_configuration_that_does_not_end_is_refused(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellagent.host.git.READING_SECONDS", 0.2)
    pipe = hostile.folder.parent / "pipe"
    os.mkfifo(pipe)
    hostile.configure(f"[include]\n path = {pipe}\n", more=True)
    started = time.monotonic()
    with pytest.raises(RefusedError):
        run(hostile, "status")
    assert time.monotonic() - started < 5


def test_an_old_git_is_refused(hostile: Hostile, tmp_path: Path) -> None:
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.30.2\n")
    old.chmod(0o755)
    with pytest.raises(RefusedError, match=r"2\.38"):
        harden(["git", "log"], {"PATH": str(tmp_path)}, str(hostile.folder))
