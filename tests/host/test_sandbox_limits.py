"""Limits of one session: real programs that take too much, and what the record says of it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from shellagent.host import capabilities, runlocalagent
from shellagent.host.denial import CERTAIN, POSSIBLE, hint
from shellagent.host.errors import StateError
from shellagent.host.limits import MEBIBYTE, Limits, excess, measure
from shellagent.host.run import Run
from shellagent.host.runner import Runner
from shellagent.host.sandbox import Sandbox
from shellagent.host.state import Enrolment, StateFolder
from shellagent.protocol import ExecutionReport, OutputSegment, PathGrant, Reason, RunOutcome
from tests.host.server import HOST_ID, KEY, assignment

#: A daemon is an orphan with a session of its own, and without the environment that it was given.
STARTS = pytest.mark.parametrize("start", ["{} &", "(setsid env -i setsid {} &);"], ids=["children", "daemons"])

Perform = Callable[..., ExecutionReport]


@pytest.fixture
def perform(runner: Runner, tmp_path: Path) -> Perform:
    """Run a program under limits, with a folder of its own to write in."""
    temporary = tmp_path / "own-tmp"
    temporary.mkdir()

    def run(limits: Limits, *argv: str) -> ExecutionReport:
        runner.limits = limits
        wanted = assignment(*argv, grants=(PathGrant(str(temporary), "write"),), directory=str(temporary))
        return Run(runner, runner.prepare(wanted, temporary), "k").finish()

    return run


def test_a_file_that_grows_too_large(perform: Perform, tmp_path: Path) -> None:
    report = perform(Limits(file_bytes=MEBIBYTE), "/bin/sh", "-c", "sleep 0.1; head -c 5000000 /dev/zero > big")
    assert report.exit_code == 128 + 25
    assert (tmp_path / "own-tmp/big").stat().st_size == MEBIBYTE
    report = perform(Limits(file_bytes=MEBIBYTE), "dd", "if=/dev/zero", "of=more", "bs=4k", "count=100000")
    assert report.detail == "dd was ended by SIGXFSZ. This host lets one file have 1 MiB."


@STARTS
def test_memory_of_the_whole_tree(perform: Perform, start: str) -> None:
    eat = "python3 -I -S -c 'import time; x = bytearray(120 << 20); time.sleep(60)'"
    report = perform(
        Limits(memory_bytes=200 * MEBIBYTE), "/bin/sh", "-c", f"{start.format(eat)} {start.format(eat)} sleep 60"
    )
    assert (report.outcome, report.reason) == (RunOutcome.ABORTED, Reason.MEMORY_LIMIT)
    assert "MiB of memory" in report.detail
    assert report.left_behind == ()


@STARTS
def test_a_bomb_of_processes(perform: Perform, start: str) -> None:
    script = f"i=0; while [ $i -lt 60 ]; do {start.format('sleep 60')} i=$((i+1)); done; sleep 60"
    report = perform(Limits(processes=40), "/bin/sh", "-c", script)
    assert (report.outcome, report.reason) == (RunOutcome.ABORTED, Reason.PROCESS_LIMIT)
    assert report.left_behind == ()


def test_limits_hold_what_is_started_later_and_cannot_be_raised(perform: Perform) -> None:
    script = "sleep 0.1; (ulimit -c; ulimit -n; ulimit -c unlimited)"
    report = perform(Limits(open_files=100), "/bin/sh", "-c", script)
    assert report.output[0].content() == b"0\n100\n"
    assert report.exit_code == 2


def test_memory_that_processes_share_is_counted_once() -> None:
    script = (
        "import os, time\nx = b'x' * (64 << 20)\n[os.fork() or time.sleep(60) for _ in range(3)]\n"
        "print(flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen(["python3", "-I", "-S", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as one:
        try:
            assert one.stdout is not None
            one.stdout.readline()
            assert measure([one.pid]).memory_bytes > 200 * MEBIBYTE
            assert measure([one.pid]).processes == 4
            assert excess(Limits(memory_bytes=150 * MEBIBYTE), [one.pid]) is None
        finally:
            os.killpg(one.pid, 9)


@pytest.mark.parametrize(
    ("exit_code", "said", "protections", "expected"),
    [
        (1, b"touch: cannot touch '/x': Permission denied\n", ("landlock-fs-v7",), POSSIBLE),
        (1, b"PermissionError: [Errno 1] Operation not permitted", ("seccomp",), POSSIBLE),
        (1, b"no such file", ("seccomp",), ""),
        (0, b"Permission denied", ("seccomp",), ""),
        (1, b"Permission denied", (), ""),
        (159, b"", ("seccomp",), CERTAIN),
    ],
)
def test_what_is_said_of_a_refusal(exit_code: int, said: bytes, protections: tuple[str, ...], expected: str) -> None:
    assert hint(exit_code, [OutputSegment.of("stderr", 0, said)], protections) == expected


def test_a_refusal_is_in_the_record(perform: Perform, probed: Sandbox) -> None:
    if not probed.is_active:
        pytest.skip("this kernel has no Landlock")
    report = perform(Limits(), "cat", "/root/.profile")
    assert report.detail == POSSIBLE


def test_a_start_that_demands_a_sandbox(
    state: StateFolder,
    scratch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(Sandbox, "probe", lambda *_: None)
    state.enrol(Enrolment("http://127.0.0.1:9", HOST_ID, "here"), KEY)
    code = runlocalagent.main(["--require-sandbox", "--state-dir", str(state.path), "--scratch", str(scratch)])
    assert code == 64
    assert "This machine lacks landlock-fs, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"), [("nobody-of-this-name", "There is no user"), ("root", "an unprivileged one")]
)
def test_a_user_that_commands_cannot_run_as(name: str, words: str) -> None:
    with pytest.raises(StateError, match=words):
        capabilities.find_account(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as another user")
def test_commands_run_as_another_user(probed: Sandbox, tmp_path: Path) -> None:
    account = capabilities.find_account("nobody")
    sandbox = Sandbox(account=account)
    sandbox.protections = probed.protections
    temporary = tmp_path / "own"
    temporary.mkdir()
    confinement = sandbox.confinement(grants=(), obligations=(), protected=(), temporary=temporary)
    script = "import os, resource; input(); print(os.getuid(), *resource.getrlimit(resource.RLIMIT_NPROC))"
    argv, pipe = ["python3", "-I", "-S", "-c", script], subprocess.PIPE
    with confinement.spawn(lambda: subprocess.Popen(argv, stdin=pipe, stdout=pipe)) as process:
        confinement.as_its_user(lambda: Limits(user_tasks=70).hold(process.pid))
        assert process.communicate(b"\n")[0] == f"{account.uid} 70 70\n".encode()
    assert os.geteuid() == 0
    assert temporary.stat().st_uid == account.uid
