"""The cgroup of a slot: the kernel itself bounds a session's processes, where a cgroup may be made."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shellagent.host import cgroups
from shellagent.host.cgroups import Cgroups, find
from shellagent.host.limits import Limits
from shellagent.host.loop import Loop
from tests.host.server import StubServer, assignment

#: Starts threads until it is refused, and says how many it has.
BOMB = """
import os, threading
over, count = threading.Event(), 1
try:
    while count < 2000:
        threading.Thread(target=over.wait).start()
        count += 1
except RuntimeError:
    pass
print(count, flush=True)
over.set()
"""


def test_the_kernel_refuses_more_than_the_limit_stands_for(make_loop: Callable[..., Loop], server: StubServer) -> None:
    groups = find(f"atom-test-{os.getpid()}")
    if groups is None:
        pytest.skip("no pids cgroup can be made here")
    # Threads, which the kernel counts as it counts processes, and the look at a session's tree does not.
    limits = Limits(processes=10)
    loop = make_loop(slots=1, groups=groups, limits=limits)
    wanted = assignment("python3", "-I", "-S", "-c", BOMB)
    server.submit(wanted)
    loop.step()
    server.result(wanted.id)
    assert limits.processes < int(server.output[wanted.id]["stdout"]) < limits.tasks
    loop.sessions.supervisors.end_all(loop.sessions.slots.all)
    groups.remove()
    assert list(groups.folder.glob(f"{groups.name}-*")) == []


def proc(folder: Path, *, cgroup: str, mounts: str) -> Path:
    """Return what /proc/self would be."""
    folder.mkdir()
    (folder / "cgroup").write_text(cgroup)
    (folder / "mountinfo").write_text(mounts)
    return folder


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A group of version 2 that has been given to this process, as files."""
    group = tmp_path / "cgroup" / "atom.service"
    group.mkdir(parents=True)
    (group / "cgroup.controllers").write_text("memory pids\n")
    (group / "cgroup.subtree_control").write_text("\n")
    (group / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return group


def test_in_version_2_it_moves_below_its_own_group_first(second: Path, tmp_path: Path) -> None:
    mounts = f"30 20 0:26 / {second.parent} rw shared:4 - cgroup2 cgroup2 rw\n"
    found = find("atom-x", proc=proc(tmp_path / "proc", cgroup="0::/atom.service\n", mounts=mounts))
    assert found == Cgroups(second, "atom-x")
    assert (second / "host" / "cgroup.procs").read_text() == f"{os.getpid()}\n"
    assert (second / "cgroup.subtree_control").read_text() == "+pids\n"
    assert Path(found.make("slot-0", 104), "pids.max").read_text() == "104\n"


@pytest.mark.parametrize(
    ("file", "content"), [("cgroup.procs", "1\n2\n"), ("cgroup.controllers", "memory\n")], ids=["shared", "uncounted"]
)
def test_what_was_not_given_to_it_is_left_alone(second: Path, tmp_path: Path, file: str, content: str) -> None:
    (second / file).write_text(content)
    mounts = f"30 20 0:26 / {second.parent} rw - cgroup2 cgroup2 rw\n"
    assert find("atom-x", proc=proc(tmp_path / "proc", cgroup="0::/atom.service\n", mounts=mounts)) is None
    assert not (second / "host").exists()


@pytest.mark.parametrize("mounts", ["", "nonsense\n", "30 20 0:26 / /nowhere rw - cgroup cgroup rw,pids\n"])
def test_a_machine_without_one_has_none(tmp_path: Path, mounts: str) -> None:
    assert find("atom-x", proc=proc(tmp_path / "proc", cgroup="4:pids:/a\n0::/\n", mounts=mounts)) is None
    assert not cgroups.enter(str(tmp_path / "none"))
