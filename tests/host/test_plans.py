"""Plans on the host: what each step and command reports, what no redirect, pattern or `cd` reaches, and their end."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from governance.policy.parse import parse_text
from governance.policy.plan import Command, Mode, Plan, Redirect, Step, Word
from shellagent.host import globbing, redirects
from shellagent.host.errors import RefusedError
from shellagent.host.folder import Folder
from shellagent.host.pipeline import Pipeline
from shellagent.host.run import Run
from shellagent.host.runner import Runner
from shellagent.protocol import ExecutionReport, PathGrant, Reason, RunOutcome
from tests.host.hostile import git
from tests.host.server import assignment

Perform = Callable[..., ExecutionReport]


@pytest.fixture
def perform(runner: Runner, scratch: Path, tmp_path: Path) -> Perform:
    """Run a line in the scratch folder, which may be written, to its end."""
    temporary = tmp_path / "own-tmp"
    temporary.mkdir()

    def run(
        line: str,
        *,
        timeout: int = 20,
        access: str = "write",
        obligations: tuple[str, ...] = (),
        during: Callable[[Run], None] | None = None,
    ) -> ExecutionReport:
        grants = (PathGrant(str(scratch), access),)
        wanted = assignment(plan=parse_text(line), grants=grants, timeout=timeout, obligations=obligations)
        started = Run(runner, runner.prepare(wanted, temporary), "start-key")
        helper = threading.Thread(target=during, args=(started,)) if during else None
        if helper:
            helper.start()
        report = started.finish()
        if helper:
            helper.join()
        return report

    return run


def text(report: ExecutionReport, stream: str = "stdout") -> str:
    return b"".join(item.content() for item in report.output if item.stream == stream).decode()


def test_every_command_and_every_step_reports(perform: Perform) -> None:
    report = perform(
        "sh -c 'exit 3' | true | sh -c 'exit 5' | cat && echo skipped | cat || sh -c 'echo rescued; kill -9 $$';"
        " ! /bin/false"
    )
    assert report.exit_codes == (3, 0, 5, 0, None, None, 137, 1)
    assert report.steps == (5, None, 137, 0)
    assert (report.outcome, report.reason, report.exit_code) == (RunOutcome.SUCCEEDED, Reason.EXIT, 0)
    assert text(report) == "rescued\n"


@pytest.mark.parametrize(
    ("line", "code", "reason", "detail"),
    [
        ("yes | head -n 1", 141, Reason.SIGNAL, "yes was ended by SIGPIPE"),
        ("nosuch | cat", 127, Reason.NOT_FOUND, "nosuch was not found"),
        ("nosuch || false", 1, Reason.EXIT, ""),
        ("! nosuch", 0, Reason.EXIT, ""),
        ("cat < nofile", 1, Reason.EXIT, "nofile: No such file"),
    ],
)
def test_the_plan_fails_by_the_command_that_failed_it(
    perform: Perform, line: str, code: int, reason: Reason, detail: str
) -> None:
    report = perform(line)
    assert (report.exit_code, report.reason) == (code, reason)
    assert report.outcome == (RunOutcome.FAILED if code else RunOutcome.SUCCEEDED)
    assert detail in report.detail


def test_what_goes_to_a_file_is_not_captured(perform: Perform, scratch: Path) -> None:
    report = perform("echo kept > out; echo shown")
    assert (text(report), report.stdout.total_bytes) == ("shown\n", 6)
    assert (scratch / "out").read_text() == "kept\n"
    assert (scratch / "out").stat().st_mode & 0o777 == 0o600


def test_a_long_echo_waits_for_no_reader(perform: Perform, scratch: Path) -> None:
    (scratch / "folder").mkdir()
    for number in range(600):
        (scratch / "folder" / f"{number:0240}").write_text("")
    length = 600 * len(f"folder/{0:0240} ")
    assert len(text(perform("echo folder/*"))) == length
    assert perform("echo folder/* | sleep 0.05").exit_codes == (141, 0)
    report = perform("echo folder/* | sh -c 'sleep 0.05; wc -c'")
    assert (text(report).strip(), report.exit_codes) == (str(length), (0, 0))


def test_no_thread_and_no_descriptor_stays(perform: Perform, scratch: Path) -> None:
    (scratch / "sub").mkdir()
    line = "seq 20000 | cat | cat > out; cat < nofile | true; cd sub && /bin/echo * | echo *"
    perform(line)
    before, threads = sorted(os.listdir("/proc/self/fd")), threading.active_count()
    perform(line)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


def test_a_run_that_cannot_begin_leaves_nothing(perform: Perform, monkeypatch: pytest.MonkeyPatch) -> None:
    perform("true")
    before = sorted(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(Pipeline, "_connect", fail)
    with pytest.raises(OSError, match="Too many open files"):
        perform("/bin/true")
    assert sorted(os.listdir("/proc/self/fd")) == before


def fail(*_arguments: object) -> None:
    raise OSError(24, "Too many open files")


def test_every_command_has_three_descriptors(perform: Perform) -> None:
    listing = "python3 -I -S -c 'import os; print([n for n in range(99) if os.path.exists(f\"/proc/self/fd/{n}\")])'"
    report = perform(f"{listing} >&2 | {listing} >&2 | {listing}")
    assert text(report, "stderr") + text(report) == "[0, 1, 2]\n" * 3


# The end


def test_the_timeout_ends_every_command(perform: Perform) -> None:
    stubborn = "sh -c 'trap \"\" TERM; echo $$ >&2; while :; do sleep 0.05; done'"
    report = perform(f"{stubborn} | {stubborn} | sleep 60; echo", timeout=1)
    assert (report.outcome, report.exit_codes) == (RunOutcome.TIMED_OUT, (137, 137, 143, None))
    assert report.steps == (143, None)
    assert report.left_behind == ()
    assert not any(psutil.pid_exists(int(pid)) for pid in text(report, "stderr").split())


@pytest.mark.parametrize("reason", [Reason.CANCEL, Reason.AGENT_STOP])
def test_an_abort_ends_every_command_and_starts_no_more(perform: Perform, reason: Reason) -> None:
    def abort(run: Run) -> None:
        while not run.stderr.total:
            time.sleep(0.01)
        run.abort(reason, 1)

    report = perform("true && sleep 60 | sh -c 'echo ready >&2; exec sleep 60' || echo never", during=abort)
    assert (report.outcome, report.reason) == (RunOutcome.ABORTED, reason)
    assert (report.exit_codes, report.steps) == ((0, 143, 143, None), (0, 143, None))


def test_what_an_earlier_step_left_is_ended_too(perform: Perform) -> None:
    leaving = "sh -c 'sleep 60 >/dev/null 2>&1 & echo $!'"
    report = perform(f"{leaving}; {leaving} | cat; echo 0")
    first, second, _ = (int(word) for word in text(report).split())
    assert report.left_behind == ()
    assert report.duration_us < 2_000_000
    for pid in (first, second):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# What is out of reach


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("outside\n")
    return folder


@pytest.fixture(params=["openat2", "a walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open files with what the kernel has for it, and without."""
    monkeypatch.setattr(redirects, "has_openat2", lambda: request.param == "openat2")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("{outside}/file", "outside the folders"),
        ("../outside/file", "outside the folders"),
        ("link", "outside the folders"),
        ("folder/file", "outside the folders"),
        ("/proc/self/root{outside}/file", "outside the folders"),
        (".env", "protected"),
        ("alias", "protected"),
        ("deploy.key", "protected"),
        ("{state}/key", "protected"),
        ("fifo", "not a regular file|No such device"),
        ("sub", "is a directory|Is a directory"),
        ("/dev/tty", "protected"),
        ("/etc/shadow", "protected"),
    ],
)
def test_no_redirect_leads_out(perform: Perform, runner: Runner, outside: Path, target: str, said: str) -> None:
    scratch = Path(runner.scratch)
    for name in (".env", "deploy.key"):
        (scratch / name).write_text("SECRET")
    (scratch / "sub").mkdir()
    (scratch / "link").symlink_to(outside / "file")
    (scratch / "folder").symlink_to(outside)
    (scratch / "alias").symlink_to(".env")
    os.mkfifo(scratch / "fifo")
    for mode in ("<", ">", ">>"):
        report = perform(f"cat {mode} {target.format(outside=outside, state=runner.protected[0])}")
        assert (report.exit_codes, text(report)) == ((1,), "")
        assert any(words in report.detail for words in said.split("|")), report.detail
    assert (outside / "file").read_text() == "outside\n"
    assert (scratch / ".env").read_text() == "SECRET"


def test_a_second_name_of_a_file_is_read_and_not_written(perform: Perform, scratch: Path, outside: Path) -> None:
    (scratch / "hard").hardlink_to(outside / "file")
    assert text(perform("cat < hard")) == "outside\n"
    assert "hard link" in perform("echo x > hard").detail
    assert (outside / "file").read_text() == "outside\n"


def test_a_read_grant_writes_nothing(perform: Perform, scratch: Path) -> None:
    (scratch / "file").write_text("as it was")
    report = perform("echo x > file; echo x > new", access="read")
    assert report.exit_codes == (1, 1)
    assert (scratch / "file").read_text() == "as it was"
    assert not (scratch / "new").exists()


@pytest.mark.usefixtures("way")
def test_a_link_that_comes_after_the_check_is_not_followed(
    perform: Perform, scratch: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = redirects._resolve

    def swapped(target: str, folder: Folder) -> str:
        path = resolve(target, folder)
        (scratch / "sub").rename(scratch / "moved")
        (scratch / "sub").symlink_to(outside)
        return path

    monkeypatch.setattr(redirects, "_resolve", swapped)
    (scratch / "sub").mkdir()
    assert perform("echo x > sub/file").exit_codes == (1,)
    assert (outside / "file").read_text() == "outside\n"


def test_a_pattern_that_meets_something_protected_is_refused(perform: Perform, scratch: Path) -> None:
    (scratch / "a.txt").write_text("a")
    (scratch / "server.key").write_text("SECRET")
    (scratch / "alias.pub").symlink_to("server.key")
    for name in (".git", "sub"):
        (scratch / name).mkdir()
    for pattern in ("*", "*.pub", "s*/../*.key", "[s]*"):
        report = perform(f"cat {pattern}")
        assert (report.exit_codes, text(report)) == ((1,), ""), pattern
        assert "server.key is protected" in report.detail
    # What is only protected from writing is not in the way of a plan that only reads.
    assert perform("ls .g*").exit_code == 1
    assert perform("ls .g*", access="read").exit_code == 0
    assert text(perform("cat *.txt")) == "a"


def test_an_argument_that_leads_over_a_link_to_something_protected_is_refused(perform: Perform, scratch: Path) -> None:
    (scratch / ".env").write_text("SECRET")
    (scratch / "settings").symlink_to(".env")
    (scratch / "here").symlink_to(".")
    (scratch / "plain").write_text("plain")
    glued = ("date -fsettings", "grep -vfsettings plain", "grep -fhere/settings plain")
    for line in ("cat settings", "cat < plain - here/settings", "sort --files0-from=settings", *glued):
        report = perform(line)
        assert (report.exit_codes, text(report)) == ((1,), "")
        assert ".env is protected" in report.detail
    assert text(perform("cat here/plain")) == "plain"
    assert text(perform("grep -c plain plain")) == "1\n"


def test_a_folder_that_was_not_granted_is_not_listed(perform: Perform, scratch: Path, outside: Path) -> None:
    (scratch / "folder").symlink_to(outside)
    for place in (str(outside), "../outside", "folder"):
        assert text(perform(f"echo {place}/*")) == f"{place}/*\n"


def test_a_name_is_never_taken_for_an_option(perform: Perform, scratch: Path) -> None:
    (scratch / "-n").write_text("")
    (scratch / "b").write_text("")
    assert text(perform("echo *; echo -*; echo ?n -x*")) == "./-n b\n./-n\n./-n -x*\n"


def test_a_pattern_stands_for_so_many_names_and_no_more(
    perform: Perform, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (scratch / f"f{number}").write_text("")
    for most, looked_at, code in ((5, 5, 0), (4, 5, 126), (5, 4, 126)):
        monkeypatch.setattr(globbing, "MOST_NAMES", most)
        monkeypatch.setattr(globbing, "MOST_LOOKED_AT", looked_at)
        assert perform("echo *").exit_code == code


def test_a_name_that_is_no_text_survives(perform: Perform, scratch: Path) -> None:
    (scratch / os.fsdecode(b"caf\xe9")).write_text("latin\n")
    report = perform("cat caf* && echo caf*")
    assert b"".join(item.content() for item in report.output) == b"latin\ncaf\xe9\n"
    (scratch / os.fsdecode(b"\xe9.key")).write_text("SECRET")
    assert "\\udce9.key is protected" in perform("cat *.key").detail


def test_cd_stays_inside_what_was_granted(perform: Perform, runner: Runner, scratch: Path, outside: Path) -> None:
    (scratch / "link").symlink_to(outside)
    (scratch / ".ssh").mkdir()
    for target in (str(outside), "..", "link", "/", ".ssh", runner.protected[0]):
        report = perform(f"cd {target}; pwd")
        assert (report.exit_codes, text(report)) == ((1, 0), f"{scratch}\n"), target
        assert "cd: " in text(report, "stderr")


def test_home_is_what_the_host_reports(perform: Perform, runner: Runner) -> None:
    runner.home, runner.user = "/home/per son*", "somebody"
    assert text(perform('echo ~/x $USER-* "$HOME"')) == "/home/per son*/x somebody-* /home/per son*\n"


def test_git_is_hardened_where_that_is_demanded(perform: Perform, scratch: Path) -> None:
    evil, mark = scratch / "evil", scratch / "mark"
    evil.write_text(f"#!/bin/sh\ntouch {mark}\n")
    evil.chmod(0o700)
    (scratch / "repository").mkdir()
    for arguments in (("init", "-q"), ("config", "core.fsmonitor", str(evil)), ("status",)):
        git(scratch / "repository", *arguments)
    assert mark.exists()
    mark.unlink()
    demanded = ("git-hardened",)
    assert perform("cd repository && git status | cat", obligations=demanded).exit_codes == (0, 0, 0)
    assert not mark.exists()
    with (scratch / "repository/.git/config").open("a") as config:
        config.write(f'[filter "evil"]\n clean = {evil}\n')
    refused = perform("cd repository; git status || echo went on", obligations=demanded)
    assert (refused.exit_codes, text(refused)) == ((0, 126, 0), "went on\n")


def test_an_obligation_that_is_not_known_is_refused(perform: Perform) -> None:
    with pytest.raises(RefusedError, match="cannot meet fly"):
        perform("true", obligations=("fly",))


def test_too_many_commands_and_a_nul_are_not_run(runner: Runner, tmp_path: Path) -> None:
    many = Plan((Step((Command.of("true"),) * 33),))
    file = Plan((Step((Command((Word.of("true"),), (Redirect(1, Mode.WRITE, Word.of("a\0b")),)),)),))
    for plan in (many, file, Plan.simple("echo", "a\0b")):
        with pytest.raises(RefusedError) as caught:
            runner.prepare(assignment(plan=plan), tmp_path)
        assert caught.value.reason == Reason.SPEC_MISMATCH
