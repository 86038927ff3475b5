"""Supervisors as processes: what escapes is their session's, and what they leave when they die is ended too."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from shellagent import protocol
from shellagent.host.channel import LENGTH
from shellagent.host.environment import search_path
from shellagent.host.loop import Loop
from shellagent.host.settings import Settings
from shellagent.host.state import PRODUCT
from shellagent.host.zygote import Zygote
from shellagent.protocol import PathGrant
from tests.host.server import HOST_ID, StubServer, assignment

MakeLoop = Callable[..., Loop]

#: Forks twice, in a session of its own, with nothing in its environment and no descriptor of its parent's.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 20)
        os.execve("/bin/sleep", ["sleep", sys.argv[1]], {})
    os._exit(0)
os.wait()
"""
#: Each process forks the next one and ends.
CHAIN = """
import os, sys, time
open(sys.argv[1], "w").close()
os.closerange(0, 3)
while True:
    if os.fork():
        os._exit(0)
"""


@pytest.fixture
def run(make_loop: MakeLoop, server: StubServer, scratch: Path) -> Callable[..., str]:
    """Have sessions run at once; returns the id of the first."""
    loop = make_loop(slots=4)
    loop.step()

    def start(*commands: tuple[str, ...], timeout: int = 30) -> str:
        grants = (PathGrant(str(scratch), "write"),)
        wanted = [assignment(*argv, grants=grants, timeout=timeout) for argv in commands]
        server.submit(*wanted)
        loop.step()
        return wanted[0].id

    start.loop = loop  # type: ignore[attr-defined]
    return start


def running(*words: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if list(words) == (process.info["cmdline"] or [])[: len(words)]
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def test_daemons_end_with_their_own_session(run: Callable[..., str], server: StubServer) -> None:
    code = "\n".join(DAEMON.splitlines())
    first = run(
        ("python3", "-I", "-S", "-c", code, "71.5"),
        ("python3", "-I", "-S", "-c", f"{code}\ntime.sleep(60)", "72.5"),
    )
    record = server.result(first)
    assert (record["outcome"], record["left_behind"]) == ("succeeded", [])
    assert running("sleep", "71.5") == []
    server.wait_for(lambda: running("sleep", "72.5"))


def test_a_chain_of_forks_is_ended(run: Callable[..., str], server: StubServer, scratch: Path) -> None:
    (scratch / "chain.py").write_text(CHAIN)
    first = run(("python3", "-I", "-S", str(scratch / "chain.py"), str(scratch / "began")), timeout=1)
    record = server.result(first, 15)
    assert (scratch / "began").exists()
    assert record["left_behind"] == []
    assert running("python3", "-I", "-S", str(scratch / "chain.py")) == []


def test_the_kernel_takes_commands_before_the_local_agent(run: Callable[..., str], server: StubServer) -> None:
    first = run(("sh", "-c", "cat /proc/self/oom_score_adj"))
    assert server.result(first)["outcome"] == "succeeded"
    assert bytes(server.output[first]["stdout"]) == b"500\n"


def test_a_supervisor_that_dies_is_replaced(run: Callable[..., str], server: StubServer, said: list[str]) -> None:
    loop: Loop = run.loop  # type: ignore[attr-defined]
    first = run(("python3", "-I", "-S", "-c", f"{DAEMON}\ntime.sleep(60)", "73.5"))
    server.wait_for(lambda: running("sleep", "73.5"))
    (slot,) = [slot for slot in loop.sessions.slots.all if slot.supervisor is not None]
    assert slot.supervisor is not None
    os.kill(slot.supervisor.pid, signal.SIGKILL)
    record = server.result(first)
    assert (record["outcome"], record["reason"]) == ("lost", "agent_restart")
    assert "was ended by SIGKILL" in record["detail"]
    assert running("sleep", "73.5") == []
    second = run(("echo", "again"))
    assert server.result(second)["outcome"] == "succeeded"
    assert any(line.startswith(f"lost {first}") for line in said)


def test_a_supervisor_that_died_while_idle_is_not_noticed(run: Callable[..., str], server: StubServer) -> None:
    loop: Loop = run.loop  # type: ignore[attr-defined]
    server.result(run(("true",)))
    for slot in loop.sessions.slots.all:
        if slot.supervisor is not None:
            os.kill(slot.supervisor.pid, signal.SIGKILL)
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    time.sleep(0.1)
    assert server.result(run(("true",)))["outcome"] == "succeeded"


def test_an_order_to_stop_that_comes_together_with_the_start_is_obeyed(zygote: Zygote, tmp_path: Path) -> None:
    folder, wanted = str(tmp_path), assignment("sleep", "60")
    made = zygote.supervisor(Settings(folder, "u", "/", (), search_path(), (), (), 1.0, temporary=folder))
    orders = (
        {"prepare": protocol.encode(wanted), "host_id": HOST_ID},
        {"run": wanted.id, "start_key": "k"},
        {"abort": wanted.id, "reason": "cancel", "grace_seconds": 1},
    )
    encoded = [json.dumps(order).encode() for order in orders]
    # In one piece, so that they are read at once.
    made.channel.socket.sendall(b"".join(LENGTH.pack(len(order)) + order for order in encoded))
    report = made.channel.receive()["report"]
    zygote.bury(made)
    assert (report["outcome"], report["reason"]) == ("aborted", "cancel")


def test_when_the_local_agent_is_killed_all_ends(zygote: Zygote) -> None:
    assert zygote.pid > 0
    code = """
import os, sys, tempfile, time
from shellagent import protocol
from shellagent.host.environment import search_path
from shellagent.host.settings import Settings
from shellagent.host.zygote import Zygote
from tests.host.server import HOST_ID, assignment
zygote = Zygote.start()
folder = tempfile.mkdtemp()
made = zygote.supervisor(Settings(folder, "u", "/", (), search_path(), (), (), 1.0, temporary=folder))
wanted = assignment("sh", "-c", "trap '' TERM; env -i setsid sleep 74.5 & sleep 74.5")
made.channel.send({"prepare": protocol.encode(wanted), "host_id": HOST_ID, "answer": True})
assert "ready" in made.channel.receive()
made.channel.send({"run": wanted.id, "start_key": "k"})
print(zygote.pid, made.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=PRODUCT, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        pids = [int(word) for word in agent.stdout.readline().split()]
        deadline = time.monotonic() + 10
        # To look through all processes is work; it is not done without a pause.
        while len(running("sleep", "74.5")) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (len(pids), len(running("sleep", "74.5"))) == (2, 2)
        agent.kill()
        agent.wait()
    while (running("sleep", "74.5") or any(map(psutil.pid_exists, pids))) and time.monotonic() < deadline:
        time.sleep(0.1)
        # The zygote of a process without a subreaper above it becomes ours.
        for pid in pids:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
    assert running("sleep", "74.5") == []
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


def test_a_local_agent_that_died_with_an_answer_unread_is_an_end_like_any_other() -> None:
    code = """
import os, select, socket
from shellagent.host.zygote import MAKE, REQUEST, Zygote
zygote = Zygote.start()
ours, its = socket.socketpair()
socket.send_fds(zygote.channel.socket, [REQUEST.pack(MAKE, 0)], [its.fileno()])
select.select([zygote.channel.socket], [], [])
for one in (its, ours, zygote.channel):
    one.close()
print(os.waitstatus_to_exitcode(os.waitpid(zygote.pid, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=PRODUCT, capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
