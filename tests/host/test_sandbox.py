"""Ways out of the sandbox, tried by real processes. They need a kernel with Landlock and say so where there is none."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from shellagent.host import seccomp
from shellagent.host.errors import RefusedError
from shellagent.host.run import Run
from shellagent.host.runner import Runner
from shellagent.host.sandbox import Sandbox
from shellagent.protocol import ExecutionReport, PathGrant, Reason
from tests.host.server import assignment

Perform = Callable[..., tuple[int, str]]


@pytest.fixture
def sandboxed(probed: Sandbox) -> Sandbox:
    if not probed.is_active:
        pytest.skip("this kernel has no Landlock")
    return probed


@pytest.fixture
def perform(sandboxed: Sandbox, runner: Runner, tmp_path: Path) -> Perform:
    """Run a shell script with grants; returns its exit code and its output."""
    temporary = tmp_path / "own-tmp"
    temporary.mkdir()

    def run(script: str, *grants: PathGrant, obligations: tuple[str, ...] = ()) -> tuple[int, str]:
        wanted = assignment("/bin/sh", "-c", script, grants=grants, obligations=obligations)
        report: ExecutionReport = Run(runner, runner.prepare(wanted, temporary), "k").finish()
        assert report.exit_code is not None
        return report.exit_code, b"".join(item.content() for item in report.output).decode()

    return run


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("outside\n")
    return folder


def test_the_probe_names_what_held(sandboxed: Sandbox) -> None:
    assert any(name.startswith("landlock-fs-v") for name in sandboxed.protections)
    assert {"no-new-privs", "capabilities", "rlimits"} <= set(sandboxed.protections)
    assert not {name for name in sandboxed.missing if name.startswith("landlock")}


def test_a_probe_that_gets_out_is_not_counted(
    tmp_path: Path, sandboxed: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shellagent.host.sandbox.restrict_self", lambda *_: None)
    broken = Sandbox()
    broken.probe(tmp_path)
    assert broken.missing == ("landlock-fs", "landlock-net", "landlock-scope")
    assert not broken.is_active
    assert list(tmp_path.iterdir()) == []


def test_without_libseccomp_its_protections_are_missing(
    tmp_path: Path, sandboxed: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "_library", lambda: None)
    seccomp.program_for.cache_clear()
    try:
        poorer = Sandbox()
        poorer.probe(tmp_path)
        assert poorer.missing == ("seccomp", "seccomp-read", "seccomp-net")
        made = poorer.confinement(grants=(), obligations=("read-only",), protected=(), temporary=tmp_path)
        assert made.program is None
    finally:
        seccomp.program_for.cache_clear()


@pytest.mark.parametrize(
    ("obligations", "without"),
    [
        (("read-only",), set()),
        ((), {"seccomp-read"}),
        (("network",), {"seccomp-read", "landlock-net", "seccomp-net"}),
        (("daemon", "read-only"), {"seccomp-net"}),
    ],
)
def test_a_result_does_not_claim_what_its_obligations_opened(
    sandboxed: Sandbox, tmp_path: Path, obligations: tuple[str, ...], without: set[str]
) -> None:
    made = sandboxed.confinement(grants=(), obligations=obligations, protected=(), temporary=tmp_path)
    assert set(sandboxed.protections) - set(made.protections) == without


def test_without_a_sandbox_the_obligation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        Sandbox().confinement(grants=(), obligations=("sandbox",), protected=(), temporary=tmp_path)
    assert caught.value.reason == Reason.HOST_CEILING
    assert Sandbox().confinement(grants=(), obligations=(), protected=(), temporary=tmp_path).protections == ()


@pytest.mark.parametrize(
    "script",
    [
        "cat {outside}/file",
        "ls {outside}",
        "echo x > {outside}/new",
        "echo x >> {outside}/file",
        "rm {outside}/file",
        "mv {outside}/file {granted}/",
        "ln -s {outside}/file {granted}/link && cat {granted}/link",
        "ln {outside}/file {granted}/hard && cat {granted}/hard",
        "cat {granted}/../outside/file",
        "cat /proc/self/root{outside}/file",
        "cd {outside} && ls",
        "cat {state}/key",
        "echo x > {state}/journal.log",
        "cat /etc/shadow",
        "ls /root/",
        "touch /usr/atom-was-here",
        "kill -0 {pid}",
    ],
)
def test_no_way_out(perform: Perform, tmp_path: Path, outside: Path, runner: Runner, script: str) -> None:
    granted = tmp_path / "granted"
    granted.mkdir()
    state = Path(runner.protected[0])
    (state / "key").write_text("ath_secret")
    text = script.format(outside=outside, granted=granted, state=state, pid=os.getpid())
    code, output = perform(text, PathGrant(str(granted), "write"))
    assert code != 0
    # A link from outside is refused as one to another file system would be.
    assert any(words in output for words in ("denied", "not permitted", "cross-device"))
    assert "ath_secret" not in output
    assert sorted(item.name for item in outside.iterdir()) == ["file"]
    assert (outside / "file").read_text() == "outside\n"
    assert [item.name for item in state.iterdir()] == ["key"]


def test_what_is_granted_works(perform: Perform, tmp_path: Path) -> None:
    granted = tmp_path / "granted"
    granted.mkdir()
    steps = (
        "mkdir a",
        "echo one > a/b",
        "mv a/b c",
        "sort c",
        "mktemp >/dev/null",
        "rm -r a",
        "ls",
        "ls /usr >/dev/null",
    )
    script = " && ".join([f"cd {granted}", *steps])
    assert perform(script, PathGrant(str(granted), "write")) == (0, "one\nc\n")


def test_a_read_grant_writes_nothing(perform: Perform, outside: Path) -> None:
    code, output = perform(f"cat {outside}/file; echo x > {outside}/file", PathGrant(str(outside), "read"))
    assert code != 0
    assert output.startswith("outside\n")
    assert (outside / "file").read_text() == "outside\n"


def _accept_one(listener: socket.socket) -> None:
    listener.accept()[0].close()


def test_tcp_is_closed_and_opened_by_the_obligation(perform: Perform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        threading.Thread(target=_accept_one, args=(listener,), daemon=True).start()
        script = f"python3 -I -S -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 3)\""
        code, output = perform(script)
        assert code == 1
        assert "PermissionError" in output
        assert perform(script, obligations=("network",)) == (0, "")


@pytest.mark.parametrize(
    ("obligations", "family", "is_open"),
    [
        (("network",), "AF_INET6", True),
        (("network",), "AF_UNIX", False),
        (("daemon",), "AF_UNIX", True),
        (("daemon",), "AF_INET", False),
    ],
)
def test_each_obligation_opens_its_own_sockets(
    perform: Perform, probed: Sandbox, obligations: tuple[str, ...], family: str, is_open: bool
) -> None:
    if "seccomp-net" in probed.missing:
        pytest.skip("this machine has no libseccomp")
    code, _ = perform(f"python3 -I -S -c 'import socket; socket.socket(socket.{family})'", obligations=obligations)
    assert (code == 0) is is_open


def test_a_granted_root_that_holds_a_protected_path(perform: Perform, runner: Runner, tmp_path: Path) -> None:
    state = Path(runner.protected[0])
    (state / "key").write_text("ath_secret")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "file").write_text("beside\n")
    grant = PathGrant(str(tmp_path), "write")
    # Siblings are open, the root can be listed, the protected path is not, and nothing new comes beside it.
    assert perform(
        f"cat {tmp_path}/beside/file && echo more >> {tmp_path}/beside/file && touch {tmp_path}/beside/new", grant
    ) == (0, "beside\n")
    code, output = perform(f"ls {tmp_path}", grant)
    assert code == 0
    assert "beside" in output.split()
    for attempt in (
        f"cat {state}/key",
        f"rm {state}/key",
        f"mv {state} {tmp_path}/beside/",
        f"touch {tmp_path}/new",
        f"touch {state}/x",
    ):
        code, output = perform(attempt, grant)
        assert code != 0, attempt
        assert "ath_secret" not in output
    assert (state / "key").read_text() == "ath_secret"


def test_links_in_a_parted_root_open_nothing(perform: Perform, runner: Runner, tmp_path: Path) -> None:
    secret = Path("/etc/shadow") if os.access("/etc/shadow", os.R_OK) else Path(runner.protected[0]) / "key"
    (tmp_path / "link").symlink_to(secret)
    code, _ = perform(f"cat {tmp_path}/link", PathGrant(str(tmp_path), "read"))
    assert code != 0


@pytest.mark.parametrize("path", ["/", "/etc"])
def test_what_holds_everything_can_be_listed_at_most(perform: Perform, path: str) -> None:
    code, _ = perform(f"ls {path}", PathGrant(path, "write"))
    assert code == 0
    assert perform("cat /etc/shadow", PathGrant(path, "write"))[0] != 0
    assert perform("touch /etc/atom-was-here", PathGrant(path, "write"))[0] != 0


def test_a_ruleset_is_kept_until_a_granted_entry_is_replaced(sandboxed: Sandbox, tmp_path: Path) -> None:
    granted, temporary = tmp_path / "granted", tmp_path / "own"
    granted.mkdir()
    temporary.mkdir()

    def ruleset() -> object:
        grants = (PathGrant(str(granted), "read"),)
        return sandboxed.confinement(grants=grants, obligations=(), protected=(), temporary=temporary).ruleset

    first = ruleset()
    assert ruleset() is first
    (granted / "new").write_text("")
    assert ruleset() is first
    granted.rename(tmp_path / "moved")
    granted.mkdir()
    assert ruleset() is not first


def test_the_caller_stays_free(perform: Perform, outside: Path) -> None:
    assert perform("true")[0] == 0
    assert (outside / "file").read_text() == "outside\n"
    (outside / "new").write_text("")


def test_two_commands_cannot_signal_each_other(perform: Perform, runner: Runner, tmp_path: Path) -> None:
    temporary = tmp_path / "other-tmp"
    temporary.mkdir()
    other = Run(runner, runner.prepare(assignment("sleep", "60"), temporary), "k")
    try:
        code, output = perform(f"kill {other.pid}")
        assert code != 0
        assert "not permitted" in output
    finally:
        other.abort(Reason.CANCEL, 0)
        assert other.finish().reason == Reason.CANCEL
