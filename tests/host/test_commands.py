"""The commands as programs: real processes against the stub server, their exit codes, and what they print."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shellagent.host import localagent, runlocalagent
from shellagent.host.client import product_version
from shellagent.host.journal import Entry, Journal, report_without_run
from shellagent.host.state import Enrolment, StateFolder, boot_id
from shellagent.protections import missing
from shellagent.protocol import PathGrant, Reason, RunOutcome
from tests.host.server import HOST_ID, KEY, StubServer, assignment

pytestmark = pytest.mark.e2e

MANAGE = str(Path(__file__).resolve().parent.parent.parent / "manage.py")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATOM_", "DJANGO_"))}
    return {**kept, "XDG_CACHE_HOME": str(tmp_path / "cache"), "ATOM_HOME": str(tmp_path / "home")}


@pytest.fixture
def command(env: dict[str, str]) -> Command:
    def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, MANAGE, *arguments],
            env={**env, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


@pytest.fixture
def enrolled(server: StubServer, tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "home" / "host")
    folder.enrol(Enrolment(server.url, HOST_ID, "here"), KEY)
    return folder


@pytest.fixture
def agent(enrolled: StateFolder, server: StubServer, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A local agent in the foreground that has polled."""
    arguments = [sys.executable, MANAGE, "runlocalagent"]
    process = subprocess.Popen(arguments, env=env, stderr=subprocess.PIPE, text=True)
    try:
        server.wait_for(lambda: server.polls)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["runlocalagent", "--help"], 0, "examples:"),
        (["localagent", "--help"], 0, "examples:"),
        (["localagent", "execute", "--help"], 0, "exit codes"),
        (["runlocalagent", "--nonsense"], 64, "usage:"),
        (["runlocalagent", "--concurrency", "0"], 64, "from 1 to"),
        (["localagent"], 64, "usage:"),
        (["localagent", "execute"], 64, "usage:"),
    ],
)
def test_help_lists_examples_and_a_usage_error_is_64(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, expected: str
) -> None:
    main = runlocalagent.main if arguments[0] == "runlocalagent" else localagent.main
    with pytest.raises(SystemExit) as caught:
        main(arguments[1:])
    printed = capsys.readouterr()
    assert caught.value.code == code
    assert expected in printed.out + printed.err


def test_manage_starts_it_without_django(command: Command) -> None:
    done = command("runlocalagent", "--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert "shellagent.host" in done.stderr
    assert "django" not in done.stderr


def test_it_warns_works_and_ends_clean(agent: subprocess.Popen[str], server: StubServer) -> None:
    wanted = assignment("echo", "hello\x1b[31m")
    server.submit(wanted)
    assert server.result(wanted.id)["outcome"] == "succeeded"
    assert psutil.Process(agent.pid).memory_info().rss < 60 * 1024 * 1024
    agent.send_signal(signal.SIGTERM)
    _, printed = agent.communicate(timeout=10)
    assert agent.returncode == 0
    for expected in ("access to this machine's files", "AUTONOMOUS", "audited", "protections:", f"run {wanted.id}"):
        assert expected in printed
    assert "\x1b" not in printed
    assert KEY not in printed


def test_start_names_no_log_of_one_that_runs_in_the_foreground(agent: subprocess.Popen[str], command: Command) -> None:
    said = command("localagent", "start", "--allow-root").stdout
    assert said == f"The local agent already runs with pid {agent.pid}; its log is where it was started.\n"


def test_what_cannot_be_run_has_its_own_reason_and_next_step(
    agent: subprocess.Popen[str], server: StubServer, tmp_path: Path
) -> None:
    plain, grants = tmp_path / "plain.txt", (PathGrant(str(tmp_path), "read"),)
    plain.write_text("echo no\n")
    nowhere = assignment("ls", directory=str(tmp_path / "nowhere"))
    none = assignment("no-such-program", "x")
    is_none = assignment(str(plain), grants=grants)
    server.submit(nowhere, none, is_none)
    expected = {
        nowhere.id: ("refused", "no_folder", [], f"{tmp_path}/nowhere does not exist on this host. Make it there"),
        none.id: ("failed", "not_found", [127], "no-such-program was not found on this host. Install it"),
        is_none.id: ("failed", "not_executable", [126], f"{plain} is not executable. Make it so (chmod +x)"),
    }
    for session_id, (outcome, reason, codes, detail) in expected.items():
        record = server.result(session_id)
        assert (record["outcome"], record["reason"], record["exit_codes"]) == (outcome, reason, codes)
        assert detail in record["detail"]
    agent.send_signal(signal.SIGTERM)
    printed = agent.communicate(timeout=10)[1]
    assert (agent.returncode, "Traceback" in printed) == (0, False)
    for text in ("(not_found 127)", "(not_executable 126)", "does not exist on this host"):
        assert text in printed


def test_the_first_signal_waits_and_the_second_aborts(agent: subprocess.Popen[str], server: StubServer) -> None:
    wanted = assignment("sleep", "60")
    server.submit(wanted)
    server.wait_for(lambda: wanted.id in server.started)
    agent.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert agent.poll() is None
    agent.send_signal(signal.SIGINT)
    record = server.result(wanted.id)
    assert (record["outcome"], record["reason"]) == ("aborted", "agent_stop")
    assert agent.wait(10) == 0


def test_killed_and_started_again_it_reports_lost_and_runs_nothing_twice(
    agent: subprocess.Popen[str], server: StubServer, command: Command
) -> None:
    wanted = assignment("sleep", "61.25")
    server.submit(wanted)
    server.wait_for(lambda: wanted.id in server.started)
    server.wait_for(lambda: any("61.25" in (item.info["cmdline"] or []) for item in psutil.process_iter(["cmdline"])))
    time.sleep(0.1)
    agent.kill()
    agent.wait()
    assert command("runlocalagent", "--once").returncode == 0
    record = server.result(wanted.id)
    assert (record["outcome"], record["reason"]) == ("lost", "agent_restart")
    assert not any("61.25" in (item.info["cmdline"] or []) for item in psutil.process_iter(["cmdline"]))


def test_a_daemon_that_left_its_group_is_found_as_an_orphan(agent: subprocess.Popen[str], server: StubServer) -> None:
    assert agent.poll() is None
    wanted = assignment("sh", "-c", "(setsid sleep 62.75 >/dev/null 2>&1 &); sleep 0.2")
    server.submit(wanted)
    record = server.result(wanted.id)
    assert (record["outcome"], record["left_behind"]) == ("succeeded", [])
    assert not any("62.75" in (item.info["cmdline"] or [])[:2] for item in psutil.process_iter(["cmdline"]))


def test_exit_codes_of_what_stops_it(enrolled: StateFolder, server: StubServer, command: Command) -> None:
    enrolled.enrol(enrolled.enrolment(), "ath_wrong")
    done = command("runlocalagent")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    enrolled.enrol(enrolled.enrolment(), KEY)
    server.bend("/api/host/poll", *[lambda _: (409, {"title": "Conflict", "detail": "Another live process."})] * 2)
    for arguments in (("runlocalagent",), ("runlocalagent", "--once")):
        done = command(*arguments)
        assert (done.returncode, "Another live process." in done.stderr) == (4, True)
    enrolled.lock()
    assert command("runlocalagent").returncode == 4
    enrolled.unlock()
    enrolled.key_file.unlink()
    done = command("runlocalagent")
    assert (done.returncode, "localagent enroll" in done.stderr) == (64, True)
    assert command("runlocalagent", "--once", ATOM_HOST_KEY=KEY).returncode == 0


def test_once_without_a_server_is_69(enrolled: StateFolder, command: Command) -> None:
    done = command("runlocalagent", "--once", "--backend-url", "http://127.0.0.1:9")
    assert done.returncode == 69
    assert "Is it running" in done.stderr
    assert command("runlocalagent", "--backend-url", "ftp://x").returncode == 64
    done = command("runlocalagent", "--scratch", str(enrolled.path / "scratch"))
    assert (done.returncode, "no command may reach" in done.stderr) == (64, True)
    assert enrolled.pid_file.exists() is False


def test_start_status_stop(enrolled: StateFolder, server: StubServer, command: Command) -> None:
    server.status = {
        "online": False,
        "offline_since": "2026-01-01T00:00:00Z",
        "clock_skew_ms": -1500,
        "queued": 3,
        "last_error": "A \x1b[31mfault.",
    }
    enrolled.ceiling.write_text("spool_mib = 7\n[limits]\nprocesses = 99\n")
    enrolled.ceiling.chmod(0o600)

    def status() -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(command("localagent", "status", "--json").stdout)
        return shown

    assert status()["is_running"] is False
    done = command("localagent", "start", "--allow-root", "--json")
    assert done.returncode == 0, done.stderr
    started = json.loads(done.stdout)
    try:
        assert started["is_new"] is True
        again = json.loads(command("localagent", "start", "--allow-root", "--json").stdout)
        assert (again["pid"], again["is_new"]) == (started["pid"], False)
        shown = status()
        assert (shown["pid"], shown["server"]) == (started["pid"], "answers and knows this host")
        assert shown["last_log_line"]
        assert (shown["version"], shown["boot_id"]) == (product_version(), boot_id())
        assert shown["protections_missing"] == list(missing(shown["protections"]))
        assert (shown["limits"]["processes"], shown["limits"]["spool_mib"]) == (99, 7)
        assert shown["reported"] == server.status
        server.wait_for(lambda: server.polls)
        assert server.polls[0]["facts"]["limits"] == shown["limits"]
        printed = command("localagent", "status").stdout
        for text in ("offline since 2026", "3 queued", "clock -1500 ms", "A fault.", "processes 99", "landlock"):
            assert text in printed
    finally:
        assert command("localagent", "stop").returncode == 0
    pid = started["pid"]
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert status()["is_running"] is False
    # A PID file with the number of a living stranger is no local agent.
    enrolled.pid_file.write_text(json.dumps({"pid": os.getpid(), "create_time": 1.0, "url": "x"}))
    assert status()["is_running"] is False
    assert command("localagent", "stop").returncode == 0


def test_start_says_why_it_could_not(command: Command, tmp_path: Path) -> None:
    done = command("localagent", "start", "--allow-root", "--state-dir", str(tmp_path / "empty"))
    assert done.returncode == 64
    assert "localagent enroll" in done.stderr


def test_status_works_with_the_server_down(enrolled: StateFolder, command: Command) -> None:
    lost = report_without_run(Entry("a", "k", "d"), outcome=RunOutcome.LOST, reason=Reason.AGENT_RESTART, detail="")
    Journal(enrolled.journal).add([lost])
    shown = json.loads(command("localagent", "status", "--json", "--backend-url", "http://127.0.0.1:9").stdout)
    assert shown["server"].startswith("down")
    assert shown["spool"] == 1


def test_enroll(server: StubServer, command: Command, tmp_path: Path) -> None:
    told = {"v": 1, "host_id": "9", "name": "web", "key": "ath_new"}
    keyed = {**told, "server_keys": [{"key": server.signer.public_key}]}
    server.bend("/api/host/enroll", *[lambda _: (200, keyed)] * 2)
    state = tmp_path / "elsewhere"
    arguments = ("localagent", "enroll", "--backend-url", server.url, "--state-dir", str(state))
    done = command(*arguments, stdin="ate_code\n")
    assert done.returncode == 0, done.stderr
    assert "ath_new" not in done.stdout + done.stderr
    assert StateFolder(state).key() == "ath_new"
    assert StateFolder(state).enrolment() == Enrolment(server.url, "9", "web")
    assert command(*arguments, ATOM_ENROL_CODE="ate_code").returncode == 0
    assert command(*arguments, stdin="ath_not_a_code\n").returncode == 64
    done = command(*arguments, ATOM_ENROL_CODE="ate_used")
    assert (done.returncode, "not known" in done.stderr) == (3, True)


SESSION = {"id": "0b9f6e0e-0000-4000-8000-000000000001", "exit_code": None, "finished_at": "2026-01-01T00:00:00+00:00"}


def test_execute_prints_output_as_it_comes(server: StubServer, command: Command) -> None:
    def part(offset: int, data: bytes) -> dict[str, object]:
        return {"offset": offset, "bytes": len(data), "text": base64.b64encode(data).decode()}

    running = {**SESSION, "status": "running", "finished_at": None, "stdout": "", "stderr": ""}
    body: dict[str, object] = {"id": SESSION["id"], "status": "running", "finished": False, "stderr": []}
    path = f"/api/local-agent/sessions/{SESSION['id']}"
    server.bend("/api/local-agent/execute", lambda _: (202, running))
    server.bend(
        f"{path}/output",
        lambda _: (200, {**body, "stdout": [part(0, b"one\n")]}),
        lambda _: (200, {**body, "stdout": [part(4, b"tw")], "stderr": [part(0, b"oops")]}),
        lambda _: (200, {**body, "finished": True, "stdout": [part(6, b"o\n"), part(9, b"end\n")]}),
    )
    server.bend(path, lambda _: (200, {**SESSION, "status": "failed", "exit_code": 3, "stdout": "", "stderr": ""}))
    done = command("localagent", "execute", "ls", "--backend-url", server.url, ATOM_KEY="ata_x")
    assert (done.returncode, done.stderr) == (3, "oops")
    assert done.stdout == "one\ntwo\n\n[... 1 bytes cut ...]\nend\n"


def test_execute_takes_the_key_of_the_named_agent(server: StubServer, command: Command, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    credentials = home / "credentials.json"
    content = {"url": server.url, "agents": {"student": {"id": 1, "key": "ata_student"}}}
    credentials.write_text(json.dumps(content))
    credentials.chmod(0o600)
    seen: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> tuple[int, object]:
        seen.append(body)
        return 200, {**SESSION, "status": "succeeded", "exit_code": 0, "stdout": "hi"}

    server.bend("/api/local-agent/execute", answer)
    done = command(
        "localagent", "execute", "ls", "--directory", "/srv", "--agent", "STUDENT", "--timeout", "7", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["process_exit_code"] == 0
    assert (seen[0]["command"], seen[0]["working_directory"], seen[0]["timeout_seconds"]) == ("ls", "/srv", 7)
    unknown = command("localagent", "execute", "ls", "--agent", "nobody", "--json")
    assert (unknown.returncode, json.loads(unknown.stdout)["process_exit_code"]) == (64, 64)
    assert command("localagent", "execute", "ls").returncode == 64
    elsewhere = command("localagent", "execute", "ls", "--agent", "student", "--host", "127.0.0.1", "--port", "9")
    assert (elsewhere.returncode, len(seen)) == (69, 1)
