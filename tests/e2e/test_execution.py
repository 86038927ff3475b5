"""One command's whole life with real processes: allowed, asked, approved, rejected, timed out, killed, interrupted."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from governance.models import KillSwitch
from shellagent.models import ShellSession
from tests.e2e.product import Product, eventually, is_running

pytestmark = pytest.mark.e2e

#: Writes its own pid and that of a grandchild with a session of its own, then both sleep.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
open(sys.argv[1], "a").write(f"{os.getpid()} {child.pid}\\n")
time.sleep(300)
"""
#: Does not end when it is asked to.
DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
time.sleep(300)
"""
#: Leaves a line each time that it runs, then takes its time.
SLOW = """
import sys, time
open(sys.argv[1], "a").write("ran\\n")
time.sleep(float(sys.argv[2]))
print("done")
"""


@pytest.fixture
def work(product: Product) -> Path:
    """A folder below a root where agents may work, with the programs that these tests run."""
    folder = product.folder / "work"
    folder.mkdir(exist_ok=True)
    (folder / "family.py").write_text(FAMILY)
    (folder / "slow.py").write_text(SLOW)
    return folder


def start(product: Product, work: Path, *argv: str, **values: Any) -> dict[str, Any]:
    """Ask for a program of `work`, approve it where a person is asked, and return once it runs."""
    session = product.run("autonomous", ["python3", *argv], wait=0, working_directory=str(work), **values)
    return product.until(session["id"], "running")


def test_allowed_runs_and_is_audited(product: Product, work: Path) -> None:
    response = product.execute("autonomous", ["ls", str(work)])
    assert response.status_code == 200, response.text
    session = response.json()
    assert (session["status"], session["exit_code"]) == ("succeeded", 0)
    assert session["stdout"] == "family.py\nslow.py\n"
    assert session["next_action"] == "none"
    tags = product.tags(session["id"])
    assert len(tags) >= 4, "requested or allowed, claimed, started, finished at least"
    assert len(set(tags)) == len(tags)


def test_a_failing_command_is_an_answer_too(product: Product, work: Path) -> None:
    response = product.execute("autonomous", ["ls", str(work / "missing")])
    assert response.status_code == 200, response.text
    session = response.json()
    assert (session["status"], session["exit_code"]) == ("failed", 2)
    assert "missing" in session["stderr"]


def test_asked_then_approved(product: Product) -> None:
    response = product.execute("student", "ls /tmp", wait=0)
    assert response.status_code == 202, response.text
    session = response.json()
    assert session["status"] == "pending"
    assert session["next_action"] == "wait"
    assert session["approve_url"].startswith(product.url)
    person = product.person()
    assert person.get(session["approve_url"].removeprefix(product.url)).status_code == 200
    answer = person.decide(session["id"], "approve")
    assert answer.status_code == 200, answer.text
    ended = product.until(session["id"], "succeeded")
    assert ended["exit_code"] == 0
    assert ended["approval"]["by"]
    assert person.decide(session["id"], "approve").status_code == 409, "it is decided already"


def test_asked_then_rejected(product: Product) -> None:
    session = product.execute("student", "ls /tmp", wait=0).json()
    person = product.person()
    assert person.decide(session["id"], "reject").status_code == 400, "a rejection needs a reason"
    answer = person.decide(session["id"], "reject", "Use /srv instead.")
    assert answer.status_code == 200, answer.text
    ended = product.session(session["id"], "student")
    assert (ended["status"], ended["next_action"]) == ("rejected", "revise")
    assert ended["approval"]["reason"] == "Use /srv instead."
    assert person.decide(session["id"], "approve").status_code == 409


def test_denied_and_refused_never_reach_the_host(product: Product) -> None:
    denied = product.execute("student", "sudo reboot")
    assert denied.status_code == 403, denied.text
    assert denied.headers["Content-Type"].startswith("application/problem+json")
    assert denied.json()["next_action"] == "stop"
    unlisted = product.execute("intern", "unheard-of-program")
    assert unlisted.status_code == 400, unlisted.text
    assert unlisted.json()["type"].endswith("/problems/not-allowlisted")
    for problem in (denied, unlisted):
        row = ShellSession.objects.get(pk=problem.json()["session_id"])
        assert (row.status, row.claimed_at) == ("denied", None)


def test_timeout_ends_the_whole_family(product: Product, work: Path) -> None:
    pids = work / "timeout.pids"
    session = start(product, work, "family.py", str(pids), timeout_seconds=2)
    ended = product.until(session["id"], "timed_out", seconds=20)
    assert ended["timed_out"] is True
    assert ended["left_behind"] == []
    assert [pid for pid in map(int, pids.read_text().split()) if is_running(pid)] == []


def test_cancel_kills_a_childs_child(product: Product, work: Path) -> None:
    pids = work / "cancel.pids"
    session = start(product, work, "family.py", str(pids))
    family = eventually(lambda: [int(pid) for pid in pids.read_text().split()] if pids.exists() else [])
    assert [is_running(pid) for pid in family] == [True, True]
    answer = product.person().post(f"/api/local-agent/sessions/{session['id']}/cancel", {})
    assert answer.status_code in (200, 202), answer.text
    ended = product.until(session["id"], "aborted", seconds=20)
    assert ended["left_behind"] == []
    assert [pid for pid in family if is_running(pid)] == []


def test_the_kill_switch_ends_what_ignores_term_within_five_seconds(product: Product, work: Path) -> None:
    (work / "deaf.py").write_text(DEAF)
    pids = work / "deaf.pids"
    session = start(product, work, "deaf.py", str(pids))
    (pid,) = eventually(lambda: [int(pid) for pid in pids.read_text().split()] if pids.exists() else [])
    waiting = product.execute("student", "ls /tmp", wait=0).json()
    switched = product.manage("killswitch", "on", "--reason", "It deletes what it should not.")
    assert switched.returncode == 0, switched.stderr
    row = KillSwitch.objects.get()
    eventually(lambda: not is_running(pid), seconds=8, why="it still runs")
    took = (timezone.now() - row.switched_at).total_seconds()
    assert 2 <= took < 5
    ended = product.until(session["id"], "aborted", seconds=5)
    assert (ended["termination_reason"], ended["rung"], ended["next_action"]) == ("kill_switch", "kill", "stop")
    assert product.session(waiting["id"], "student")["status"] == "cancelled"
    refused = product.execute("autonomous", ["ls", str(work)])
    assert (refused.status_code, refused.json()["next_action"]) == (403, "stop")
    told = product.manage("localagent", "status", "--state-dir", str(product.home / "host"))
    assert "KILL SWITCH" in told.stdout
    assert "Stopped: everything." in product.person().get("/admin/").text
    assert product.manage("killswitch", "off", "--reason", "Its prompt is mended.").returncode == 0
    assert product.run("autonomous", ["ls", str(work)])["status"] == "succeeded"


def test_ten_megabytes_of_output(product: Product, work: Path) -> None:
    line = b"0123456789abcdef" * 4
    (work / "large").write_bytes(b"HEAD" + line * (10_000_000 // len(line)) + b"TAIL")
    size = (work / "large").stat().st_size
    session = product.run("autonomous", ["cat", str(work / "large")], wait=60)
    (work / "large").unlink()
    assert session["status"] == "succeeded"
    assert session["stdout_bytes"] == size
    assert session["truncated"] is True
    shown = product.session(session["id"])["stdout"]
    assert shown.startswith("HEAD0123")
    assert shown.endswith("cdefTAIL")
    assert len(shown) < 600_000


def test_two_hosts_each_run_their_own(product: Product, work: Path) -> None:
    product.start_host("second", product.enrol("second"))
    first = product.run("autonomous", ["ls", str(work)])
    second = product.run("autonomous", ["ls", str(work)], host="second")
    assert (first["status"], second["status"]) == ("succeeded", "succeeded")
    assert second["host"] != first["host"]
    assert product.processes["second"].stop() == 0
    waiting = product.execute("autonomous", ["ls", str(work)], wait=0, host="second").json()
    assert waiting["status"] == "queued"
    again = product.run("autonomous", ["ls", str(work)])
    assert again["status"] == "succeeded", "the other host is not held up"
    assert product.session(waiting["id"])["status"] == "queued", "and it did not take what is not its own"
    product.start_host("second", product.folder / "second")
    assert product.until(waiting["id"], "succeeded")["exit_code"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_server_restarted_while_a_command_runs(product: Product, work: Path, number: signal.Signals) -> None:
    log = work / f"server-{number.name}"
    session = start(product, work, "slow.py", str(log), "3")
    product.processes["web"].stop(number)
    if number is signal.SIGKILL:
        eventually(lambda: not product.is_up(), why="gunicorn's worker outlived its master")
    time.sleep(4)
    assert ShellSession.objects.get(pk=session["id"]).status == "running"
    product.start_web()
    ended = product.until(session["id"], "succeeded", "failed", "aborted", "lost", seconds=40)
    assert (ended["status"], ended["stdout"]) == ("succeeded", "done\n")
    assert log.read_text() == "ran\n"


def test_host_killed_while_a_command_runs(product: Product, work: Path) -> None:
    pids = work / "host.pids"
    session = start(product, work, "family.py", str(pids))
    family = eventually(lambda: [int(pid) for pid in pids.read_text().split()] if pids.exists() else [])
    product.processes["host"].stop(signal.SIGKILL)
    product.start_host("host", product.home / "host")
    ended = product.until(session["id"], "lost", "aborted", "failed", seconds=40)
    assert ended["status"] == "lost"
    assert ended["termination_reason"] == "agent_restart"
    assert [pid for pid in family if is_running(pid)] == []
    time.sleep(2)
    assert len(pids.read_text().splitlines()) == 1, "it is never run again"
    assert product.run("autonomous", ["ls", str(work)])["status"] == "succeeded"


def test_host_stopped_in_order_lets_its_command_end(product: Product, work: Path) -> None:
    log = work / "drain"
    session = start(product, work, "slow.py", str(log), "3")
    assert product.processes["host"].stop(seconds=30) == 0
    ended = product.until(session["id"], "succeeded", "aborted", "lost", "failed", seconds=5)
    assert (ended["status"], ended["stdout"]) == ("succeeded", "done\n")
    product.start_host("host", product.home / "host")
