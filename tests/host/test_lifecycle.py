"""The local agent as a service: told to a service manager, watched, restarted, looked at, written as a unit."""

import contextlib
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from shellagent.host import background, cgroups, doctor, probe, service
from shellagent.host.notify import Notifier
from shellagent.host.state import StateFolder
from shellagent.host.watchdog import Watchdog
from shellagent.protections import PROTECTIONS, missing
from tests.host.server import KEY, StubServer, assignment
from tests.host.test_commands import MANAGE, Command, command, enrolled, env

pytestmark = pytest.mark.e2e

__all__ = ["command", "enrolled", "env"]

#: The real command with a short patience, and a standard error that nobody reads and that is full.
STALLED = """
import fcntl, os, sys
from shellagent.host import process, runlocalagent
process.STALL_SECONDS = 0.5
code = runlocalagent.main(["--verbose"], is_own_process=True)
os._exit(code)
"""


def test_other_processes_of_its_user_cannot_read_its_memory(
    enrolled: StateFolder, server: StubServer, env: dict[str, str]
) -> None:
    assert enrolled.key_file.exists()
    code = (
        "import ctypes; from shellagent.host import runlocalagent; libc = ctypes.CDLL(None); before = libc.prctl(3);"
        "runlocalagent.main(['--once'], is_own_process=True); print(before, libc.prctl(3))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=Path(MANAGE).parent, capture_output=True, text=True, check=True
    )
    assert (done.stdout, bool(server.polls)) == ("1 0\n", True)


def test_a_stalled_loop_ends_the_process_with_5(enrolled: StateFolder, server: StubServer, env: dict[str, str]) -> None:
    assert enrolled.key_file.exists()
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", STALLED], env=env, stderr=writing, cwd=Path(MANAGE).parent, start_new_session=True
    )
    try:
        server.wait_for(lambda: server.polls)
        # Whoever writes a line from now on waits for ever.
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"x")
        os.set_blocking(writing, True)
        server.submit(assignment("true"))
        assert process.wait(20) == 5
    finally:
        process.kill()
        process.wait()
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("which", ["the loop", "the main thread"])
def test_the_watchdog_names_what_hangs_and_gives_signs_of_life_until_then(which: str, tmp_path: Path) -> None:
    now, said, ended = [0.0], list[str](), list[int]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(1)
        moved: dict[str, Callable[[], float]] = {name: lambda: now[0] for name in ("the loop", "the main thread")}
        moved[which] = lambda: 0.0
        notifier = Notifier(str(tmp_path / "notify"), watchdog_seconds=60)
        dog = Watchdog(moved, said.append, notifier, lambda: now[0], end=lambda: ended.append(5))
        now[0] = 119
        assert dog.look()
        assert manager.recv(100) == b"WATCHDOG=1"
        now[0] = 121
        assert not dog.look()
    assert (ended, said[0].startswith(f"{which} has not moved")) == ([5], True)


def test_the_watchdogs_wish_counts_only_for_whom_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    for meant, seconds in ((str(os.getpid()), 60.0), ("1", 0.0)):
        for name, value in (("NOTIFY_SOCKET", "@x"), ("WATCHDOG_USEC", "60000000"), ("WATCHDOG_PID", meant)):
            monkeypatch.setenv(name, value)
        assert Notifier.of_environment() == Notifier("@x", seconds)
        assert "NOTIFY_SOCKET" not in os.environ
    Notifier("@nobody-listens-there").ready("is no error")
    assert Notifier.of_environment() == Notifier()


def test_a_service_manager_is_told(
    enrolled: StateFolder, server: StubServer, env: dict[str, str], tmp_path: Path
) -> None:
    assert enrolled.key_file.exists()
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10)
        wishes = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"}
        arguments = [sys.executable, MANAGE, "runlocalagent", "--allow-root", "--json-logs"]
        process = subprocess.Popen(arguments, env={**env, **wishes}, stderr=subprocess.PIPE, text=True)
        try:
            told = ""
            while "READY=1" not in told or "WATCHDOG=1" not in told or "STATUS=connected" not in told:
                told += manager.recv(1000).decode() + "\n"
            process.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in told:
                told += manager.recv(1000).decode() + "\n"
            _, printed = process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0
    lines = [json.loads(line) for line in printed.splitlines()]
    assert all(line.keys() == {"time", "level", "message"} for line in lines)
    assert lines[0]["level"] == "warning"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_a_service_refuses_root_and_says_what_to_do(enrolled: StateFolder, command: Command) -> None:
    done = command("runlocalagent", "--once", NOTIFY_SOCKET="@nobody")
    assert (done.returncode, "--allow-root" in done.stderr) == (64, True)
    done = command("localagent", "start")
    assert (done.returncode, "--allow-root" in done.stderr) == (64, True)
    assert not enrolled.pid_file.exists()


def test_on_a_terminal_the_last_line_is_live(enrolled: StateFolder, server: StubServer, env: dict[str, str]) -> None:
    assert enrolled.key_file.exists()
    terminal, end = pty.openpty()
    process = subprocess.Popen([sys.executable, MANAGE, "runlocalagent"], env=env, stderr=end)
    os.close(end)
    try:
        shown = b""
        while b"connected, 0 of 2 running, 0 results wait" not in shown:
            shown += os.read(terminal, 4096)
        # Warnings come first.
        assert b"WARNING" in shown.splitlines()[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_restart_keeps_the_options(enrolled: StateFolder, command: Command) -> None:
    first = json.loads(command("localagent", "start", "--allow-root", "--concurrency", "3", "--json").stdout)
    try:
        done = command("localagent", "restart", "--allow-root", "--json")
        assert done.returncode == 0, done.stderr
        second = json.loads(done.stdout)
        assert (second["was_running"], second["url"]) == (True, first["url"])
        assert second["pid"] != first["pid"]
        assert not psutil.pid_exists(first["pid"]) or psutil.Process(first["pid"]).status() == psutil.STATUS_ZOMBIE
        line = psutil.Process(second["pid"]).cmdline()
        assert line[line.index("--concurrency") + 1] == "3"
        assert line.count("--backend-url") == 1
    finally:
        assert command("localagent", "stop").returncode == 0


def test_the_doctor_finds_nothing_wrong(enrolled: StateFolder, command: Command) -> None:
    done = command("localagent", "doctor", "--json")
    shown = json.loads(done.stdout)
    assert (done.returncode, shown["ok"]) == (0, True), done.stdout
    checks = {check["name"]: check for check in shown["checks"]}
    assert checks.keys() == {
        "state folder", "instance", "address", "tls", "clock", "key", "protocol", "scratch folder", "disk", "ceiling",
        "protections", "cgroup", "account",
    }  # fmt: skip
    assert all(check["result"] == "ok" or check["next_step"] for check in checks.values())


def test_the_doctor_names_each_failure_with_its_next_step(enrolled: StateFolder, command: Command) -> None:
    enrolled.path.chmod(0o755)
    enrolled.lock()
    done = command("localagent", "doctor", "--backend-url", "http://127.0.0.1:9", "--scratch", str(enrolled.path))
    enrolled.unlock()
    assert done.returncode == 1
    for expected in ("fail  state folder", "chmod 700", "fail  instance", "fail  address", "fail  scratch folder"):
        assert expected in done.stdout
    enrolled.path.chmod(0o700)
    done = command("localagent", "doctor", ATOM_HOST_KEY="ath_wrong")
    assert (done.returncode, "fail  key: refused" in done.stdout) == (1, True)


def test_the_doctor_says_whether_the_kernel_bounds_a_sessions_processes() -> None:
    # What the running local agent proved counts: a service is in another cgroup than the doctor.
    running = background.Known(os.getpid(), 1.0, "http://x", protections=("pids-cgroup",))
    for known, result in ((running, "ok"), (replace(running, protections=("rlimits",)), "warn")):
        assert doctor.cgroup_check(known).result == result
    can_make = cgroups.find("atom-test-doctor") is not None
    assert doctor.cgroup_check(None).result == ("ok" if can_make else "warn")


def test_a_unit_is_never_replaced_unseen(enrolled: StateFolder, command: Command, tmp_path: Path) -> None:
    def install(*more: str) -> subprocess.CompletedProcess[str]:
        folder = str(tmp_path / "config")
        return command("localagent", "install-service", "--user", "--allow-root", *more, XDG_CONFIG_HOME=folder)

    target = tmp_path / "config" / "systemd" / "user" / "atom-local-agent.service"
    printed = install("--print").stdout
    assert not target.exists()
    assert install().returncode == 0
    assert target.read_text() == printed
    assert "the same already" in install().stdout
    changed = install("--concurrency", "4")
    assert (changed.returncode, "+ExecStart" in changed.stderr, target.read_text()) == (64, True, printed)
    assert install("--concurrency", "4", "--replace").returncode == 0
    assert "--concurrency 4" in target.read_text()
    assert command("localagent", "install-service", "--system", "--print").returncode == 64
    assert KEY not in target.read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("is_system", [True, False], ids=["system", "user"])
def test_systemd_takes_the_unit(is_system: bool, tmp_path: Path) -> None:
    folder = tmp_path / 'a "folder" with 100% $HOME'
    folder.mkdir()
    arguments = (sys.executable, MANAGE, "runlocalagent", "--state-dir", str(folder))
    unit = service.Unit(arguments, account="nobody" if is_system else "", is_system=is_system)
    file = tmp_path / "atom-local-agent.service"
    file.write_text(unit.text())
    scope = "--system" if is_system else "--user"
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_LOG_LEVEL": "warning"}
    done = subprocess.run(
        ["systemd-analyze", scope, "--man=no", "--recursive-errors=no", "verify", str(file)],
        env={**os.environ, **runtime},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_names_of_protections_are_those_that_are_probed() -> None:
    assert set(PROTECTIONS) == {*probe.WITHOUT_FILTER, *probe.WITH_FILTER}
    found = [name for name in PROTECTIONS if name not in ("landlock-fs", "seccomp")]
    assert missing(found) == ("landlock-fs", "seccomp")
    assert missing(["landlock-fs-v7", *PROTECTIONS[1:]]) == ()


def test_it_writes_nothing_outside_its_state_folder(
    enrolled: StateFolder, server: StubServer, env: dict[str, str], tmp_path: Path
) -> None:
    home, cache = tmp_path / "read-only", tmp_path / "cache"
    home.mkdir(mode=0o500)
    began = time.time_ns()
    wanted = assignment("true")
    server.submit(wanted)
    done = subprocess.run(
        [sys.executable, "-B", MANAGE, "runlocalagent", "--once"],
        env={**env, "HOME": str(home), "TMPDIR": str(home), "XDG_STATE_HOME": str(home), "XDG_CACHE_HOME": str(cache)},
        cwd=home, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert server.result(wanted.id)["outcome"] == "succeeded"
    assert list(home.iterdir()) == []
    product = Path(MANAGE).parent
    written = [
        path for package in ("atomsite", "audit", "governance", "shellagent") for path in (product / package).rglob("*")
        if "__pycache__" not in path.parts and path.is_file() and path.stat().st_mtime_ns > began
    ]  # fmt: skip
    assert written == []
    # Commands' own room, which is empty again, and the folder of those without one.
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert {path.name for path in enrolled.path.iterdir()} <= {
        "key", "config.json", "lock", "journal.log", "instance.json", "server-keys.json",
    }  # fmt: skip
