"""Real processes: their output, their end on every rung, and nothing left behind."""

import hashlib
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from shellagent.host import run as run_module
from shellagent.host.channel import Channel
from shellagent.host.errors import RefusedError
from shellagent.host.run import Run
from shellagent.host.runner import Runner
from shellagent.protocol import Assignment, ExecutionReport, PathGrant, Reason, RunOutcome
from tests.host.server import assignment

SH = "/bin/sh"


@dataclass
class Orders:
    """The overseer of a run in a test: what it is told, and orders that another thread gives."""

    told: list[tuple[object, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channel, self.other = (Channel(end) for end in socket.socketpair())

    def fileno(self) -> int:
        return self.channel.fileno()

    def obey(self, run: Run) -> None:
        for message in self.channel.take():
            run.abort(Reason(message["reason"]), message["grace_seconds"])

    def started(self, pid: int) -> None:
        self.told.append(("started", pid))

    def output(self, stream: str, offset: int, data: bytes) -> None:
        self.told.append((stream, offset, data))

    def abort(self, reason: Reason, grace_seconds: float) -> None:
        self.other.send({"reason": reason, "grace_seconds": grace_seconds})


@pytest.fixture
def perform(runner: Runner, tmp_path: Path) -> Iterator[Callable[..., ExecutionReport]]:
    """Run an assignment to its end, as a supervisor does."""
    temporary = tmp_path / "own-tmp"
    temporary.mkdir()
    orders = Orders()

    def run(wanted: Assignment, *, during: Callable[[Run, Orders], None] | None = None) -> ExecutionReport:
        started = Run(runner, runner.prepare(wanted, temporary), "start-key", overseer=orders)
        helper = threading.Thread(target=during, args=(started, orders)) if during else None
        if helper:
            helper.start()
        report = started.finish()
        if helper:
            helper.join()
        return report

    yield run
    orders.channel.close()
    orders.other.close()


def text(report: ExecutionReport, stream: str = "stdout") -> str:
    return b"".join(item.content() for item in report.output if item.stream == stream).decode()


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_output_and_exit_code(perform: Callable[..., ExecutionReport], scratch: Path) -> None:
    report = perform(assignment(SH, "-c", "pwd; echo err >&2; cat; umask; exit 3"))
    assert text(report) == f"{scratch}\n0077\n"
    assert text(report, "stderr") == "err\n"
    assert (report.outcome, report.reason, report.exit_codes) == (RunOutcome.FAILED, Reason.EXIT, (3,))
    assert report.stdout.sha256 == hashlib.sha256(text(report).encode()).hexdigest()
    assert report.left_behind == ()
    assert report.start_key == "start-key"


def test_a_signal_is_128_and_its_number(perform: Callable[..., ExecutionReport]) -> None:
    report = perform(assignment(SH, "-c", "kill -USR1 $$"))
    assert (report.outcome, report.reason, report.exit_codes) == (RunOutcome.FAILED, Reason.SIGNAL, (138,))
    assert "SIGUSR1" in report.detail


def test_arguments_are_no_shell(perform: Callable[..., ExecutionReport]) -> None:
    report = perform(assignment("/bin/echo", "$HOME", "*", "`id`", "a b"))
    assert text(report) == "$HOME * `id` a b\n"


def test_the_program_leads_its_own_session_with_few_descriptors(perform: Callable[..., ExecutionReport]) -> None:
    code = (
        "import os;"
        "print(os.getsid(0) == os.getpid() == os.getpgid(0), sorted(map(int, os.listdir('/proc/self/fd')))[:3],"
        "len(os.listdir('/proc/self/fd')))"
    )
    report = perform(assignment("python3", "-I", "-S", "-c", f"import time; time.sleep(0.05); {code}"))
    # The fourth descriptor is the one that lists them.
    assert text(report) == "True [0, 1, 2] 4\n"


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        (("no-such-program",), 127, Reason.NOT_FOUND),
        (("./none",), 127, Reason.NOT_FOUND),
        (("./plain",), 126, Reason.NOT_EXECUTABLE),
        (("./badly-made",), 127, Reason.NOT_FOUND),
        (("./empty",), 126, Reason.NOT_EXECUTABLE),
    ],
)
def test_a_program_that_cannot_be_started(
    perform: Callable[..., ExecutionReport], scratch: Path, argv: tuple[str, ...], code: int, reason: Reason
) -> None:
    for name, content, mode in (
        ("plain", "", 0o600),
        ("badly-made", "#!/no/such/interpreter\n", 0o700),
        ("empty", "", 0o700),
    ):
        (scratch / name).write_text(content)
        (scratch / name).chmod(mode)
    grants = (PathGrant(str(scratch), "read"),)
    report = perform(assignment(*argv, grants=grants))
    assert (report.outcome, report.exit_codes, report.reason) == (RunOutcome.FAILED, (code,), reason)
    assert report.detail
    assert report.stdout.total_bytes == 0


def test_a_folder_that_commands_may_not_enter(perform: Callable[..., ExecutionReport], scratch: Path) -> None:
    closed = scratch / "closed"
    closed.mkdir(mode=0)
    report = perform(assignment("ls", directory=str(closed)))
    assert (report.outcome, report.exit_codes, report.reason) == (RunOutcome.FAILED, (126,), Reason.NO_FOLDER)
    assert f"may not enter the working directory {closed}. Open it" in report.detail


def test_a_timeout_that_term_ends(perform: Callable[..., ExecutionReport]) -> None:
    begun = time.monotonic()
    report = perform(assignment(SH, "-c", "echo before; sleep 60", timeout=1))
    assert (report.outcome, report.reason, report.exit_codes) == (RunOutcome.TIMED_OUT, Reason.TIMEOUT, (143,))
    assert text(report) == "before\n"
    assert 1.0 <= report.duration_us / 1e6 < 2.5
    assert time.monotonic() - begun < 2.5


def test_a_program_that_ignores_term_is_killed_after_the_grace(perform: Callable[..., ExecutionReport]) -> None:
    report = perform(assignment(SH, "-c", "trap '' TERM; while :; do sleep 0.05; done", timeout=1))
    assert (report.outcome, report.exit_codes) == (RunOutcome.TIMED_OUT, (137,))
    assert 1.3 <= report.duration_us / 1e6 < 3
    assert report.left_behind == ()


def test_a_childs_child_in_its_own_session_dies_too(perform: Callable[..., ExecutionReport], scratch: Path) -> None:
    script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ > pid; exec sleep 60' & while :; do sleep 0.05; done"
    grants = (PathGrant(str(scratch), "write"),)
    report = perform(assignment(SH, "-c", script, timeout=1, grants=grants))
    assert report.outcome == RunOutcome.TIMED_OUT
    assert report.left_behind == ()
    assert is_gone(int((scratch / "pid").read_text()))


def test_a_background_child_that_holds_the_pipe_does_not_hang(
    perform: Callable[..., ExecutionReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "DRAIN_SECONDS", 0.3)
    report = perform(assignment(SH, "-c", "sleep 60 & echo $!"))
    assert (report.outcome, report.exit_codes) == (RunOutcome.SUCCEEDED, (0,))
    assert report.duration_us < 3_000_000
    assert is_gone(int(text(report)))
    assert report.left_behind == ()


def test_a_background_child_without_the_pipe_is_ended_at_once(perform: Callable[..., ExecutionReport]) -> None:
    report = perform(assignment(SH, "-c", "sleep 60 >/dev/null 2>&1 & echo $!"))
    assert report.duration_us < 1_500_000
    assert is_gone(int(text(report)))


@pytest.mark.parametrize("reason", [Reason.CANCEL, Reason.AGENT_STOP, Reason.KILL_SWITCH])
def test_abort_from_another_thread(perform: Callable[..., ExecutionReport], reason: Reason) -> None:
    report = perform(assignment("sleep", "60"), during=lambda _run, orders: orders.abort(reason, 1))
    assert (report.outcome, report.reason, report.exit_codes) == (RunOutcome.ABORTED, reason, (143,))


def test_a_second_abort_with_less_grace_shortens_it(perform: Callable[..., ExecutionReport]) -> None:
    def twice(run: Run, orders: Orders) -> None:
        wait_until(lambda: run.stdout.total)
        orders.abort(Reason.CANCEL, 60)
        time.sleep(0.1)
        orders.abort(Reason.AGENT_STOP, 0)

    report = perform(assignment(SH, "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"), during=twice)
    assert (report.reason, report.exit_codes) == (Reason.CANCEL, (137,))


def test_fifty_megabytes_in_flat_memory(perform: Callable[..., ExecutionReport]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = 50 * 1024 * 1024
    report = perform(assignment("head", "-c", str(size), "/dev/zero"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert report.stdout.total_bytes == size
    assert report.stdout.is_truncated
    digest = hashlib.sha256()
    for _ in range(50):
        digest.update(bytes(1024 * 1024))
    assert report.stdout.sha256 == digest.hexdigest()
    assert [(item.offset, item.is_tail) for item in report.output] == [(0, False), (size - 256 * 1024, True)]
    assert grown < 16 * 1024


def test_head_and_tail_hold_the_verdict(perform: Callable[..., ExecutionReport]) -> None:
    report = perform(assignment(SH, "-c", "echo first; head -c 2000000 /dev/zero; echo last"))
    head, tail = (item for item in report.output)
    assert head.content().startswith(b"first\n\0")
    assert tail.content().endswith(b"\0last\n")
    assert tail.offset + len(tail.content()) == report.stdout.total_bytes == 2_000_011


def test_another_digest_is_a_mismatch(runner: Runner, tmp_path: Path) -> None:
    good = assignment("true")
    changed = Assignment(**{name: getattr(good, name) for name in good.__slots__} | {"env": {"A": "1"}})
    with pytest.raises(RefusedError) as caught:
        runner.prepare(changed, tmp_path)
    assert caught.value.reason == Reason.SPEC_MISMATCH


@pytest.mark.parametrize("timeout", [0, 301])
def test_a_timeout_out_of_bounds_is_not_run(runner: Runner, tmp_path: Path, timeout: int) -> None:
    with pytest.raises(RefusedError, match="timeout"):
        runner.prepare(assignment("true", timeout=timeout), tmp_path)


def test_directories_outside_the_grants_are_refused(runner: Runner, tmp_path: Path, scratch: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (scratch / "link").symlink_to(outside)
    for directory in (str(outside), str(scratch / "link"), f"{scratch}/../outside"):
        with pytest.raises(RefusedError, match="outside the folders") as caught:
            runner.prepare(assignment("true", directory=directory), tmp_path)
        assert caught.value.reason == Reason.HOST_CEILING


def test_a_protected_directory_is_refused_whatever_was_granted(runner: Runner, tmp_path: Path) -> None:
    state = runner.protected[0]
    grants = (PathGrant(str(tmp_path), "write"),)
    with pytest.raises(RefusedError, match="protected"):
        runner.prepare(assignment("true", directory=state, grants=grants), tmp_path)


def test_no_descriptor_is_left_open(perform: Callable[..., ExecutionReport]) -> None:
    perform(assignment("/bin/true"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        perform(assignment("/bin/true"))
        perform(assignment("no-such-program"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fake_spawner_and_clock_can_be_swapped_in(runner: Runner, tmp_path: Path) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(7, "Argument list too long")

    runner.spawn = refuse  # type: ignore[assignment]
    runner.clock = lambda: 100.0
    report = Run(runner, runner.prepare(assignment("sleep", "9"), tmp_path), "k").finish()
    assert (report.exit_codes, report.duration_us) == ((126,), 0)
    assert "Argument list too long" in report.detail


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's own interface")
def test_a_run_without_pidfds(perform: Callable[..., ExecutionReport], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    report = perform(assignment(SH, "-c", "echo hello; exit 4"))
    assert (text(report), report.exit_codes) == ("hello\n", (4,))


def test_an_agents_scratch_folder_is_its_own(perform: Callable[..., ExecutionReport], scratch: Path) -> None:
    own, outside = scratch / "ada", scratch / "bob"
    grants = (PathGrant(str(own), "write"), PathGrant(str(outside), "read"))
    report = perform(assignment(SH, "-c", "pwd; echo $HOME; echo kept > $HOME/file; stat -c %a .", grants=grants))
    assert text(report) == f"{own}\n{own}\n700\n"
    assert (own / "file").read_text() == "kept\n"
    assert text(perform(assignment("cat", "file", grants=grants))) == "kept\n"
    assert not outside.exists()


def test_what_only_reads_finds_no_start_up_file(
    perform: Callable[..., ExecutionReport], scratch: Path, tmp_path: Path
) -> None:
    (scratch / "ada").mkdir()
    grants = (PathGrant(str(scratch / "ada"), "read"),)
    report = perform(assignment("printenv", "HOME", grants=grants, obligations=("read-only",)))
    assert text(report) == f"{tmp_path}/own-tmp\n"


def test_a_link_in_place_of_an_agents_scratch_folder_is_refused(
    perform: Callable[..., ExecutionReport], scratch: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (scratch / "ada").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="scratch folder"):
        perform(assignment("pwd", grants=(PathGrant(str(scratch / "ada"), "write"),)))
