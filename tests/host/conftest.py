"""Fixtures of a host without a database: a stub server, a state folder, a probed sandbox and a loop over them."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shellagent.host import facts, tree
from shellagent.host.cgroups import Cgroups
from shellagent.host.client import Client
from shellagent.host.environment import search_path
from shellagent.host.holding import Holding
from shellagent.host.journal import Journal
from shellagent.host.limits import Limits
from shellagent.host.loop import Loop
from shellagent.host.pinned import PinnedKeys
from shellagent.host.runner import Runner
from shellagent.host.sandbox import Sandbox
from shellagent.host.sessions import Sessions
from shellagent.host.settings import Settings
from shellagent.host.slots import Slots
from shellagent.host.state import StateFolder
from shellagent.host.zygote import Zygote
from tests.host.server import HOST_ID, KEY, StubServer


@pytest.fixture(scope="session", autouse=True)
def zygote() -> Iterator[Zygote]:
    """The zygote, forked before any test starts a thread."""
    made = Zygote.start()
    # Runs inside a test's own process find their orphans as a supervisor does.
    tree.adopt_orphans()
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[StubServer]:
    stub = StubServer()
    yield stub
    stub.close()


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A sandbox that was probed once; tests that need it to be active say so."""
    sandbox = Sandbox()
    sandbox.probe(tmp_path_factory.mktemp("probe"))
    return sandbox


@pytest.fixture
def runner(state: StateFolder, scratch: Path, probed: Sandbox) -> Iterator[Runner]:
    made = Runner(
        host_id=HOST_ID,
        scratch=str(scratch),
        user=facts.user_name(),
        sandbox=probed,
        protected=(str(state.path),),
        grace_seconds=0.3,
    )
    yield made
    made.close()


@pytest.fixture
def said() -> list[str]:
    """What the loop of a test said."""
    return []


@pytest.fixture
def make_loop(  # noqa: PLR0917 - fixtures are passed by name
    server: StubServer,
    state: StateFolder,
    scratch: Path,
    zygote: Zygote,
    probed: Sandbox,
    said: list[str],
    tmp_path: Path,
) -> Iterator[Callable[..., Loop]]:
    """Return a maker of loops on the stub server; a second one is the same host after a restart."""
    made: list[Loop] = []
    attending: list[threading.Thread] = []

    def attend(sessions: Sessions) -> None:
        while not sessions.is_closing:
            sessions.attend(0.02)

    def make(
        *,
        slots: int = 2,
        key: str = KEY,
        holding: Holding | None = None,
        groups: Cgroups | None = None,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
    ) -> Loop:
        client = Client(server.url, key)
        room = Slots(slots, tmp_path / "tmp", groups, limits.tasks)
        room.create()
        pinned = PinnedKeys(state.server_keys)
        pinned.load()
        if not pinned.newest:
            pinned.pin(server.signer.public_key)
        sessions = Sessions(
            connect=client.another,
            zygote=zygote,
            settings=Settings(
                scratch=str(scratch),
                user=facts.user_name(),
                home=str(Path.home()),
                protected=(str(state.path),),
                path=search_path(),
                tool_roots=(),
                protections=probed.protections,
                grace_seconds=0.3,
                limits=limits,
            ),
            journal=Journal(state.journal, "boot"),
            slots=room,
            instance_id=state.instance_id(),
            boot_id="boot",
            host_id=HOST_ID,
            holding=Holding(protections=probed.protections) if holding is None else holding,
            pinned=pinned,
            say=said.append,
            draining=threading.Event(),
        )
        thread = threading.Thread(target=attend, args=(sessions,), daemon=True)
        thread.start()
        attending.append(thread)
        loop = Loop(client=client, sessions=sessions, facts=facts.host_facts(state, tmp_path / "scratch"), version="0")
        made.append(loop)
        return loop

    yield make
    for loop, thread in zip(made, attending, strict=True):
        _end(loop, thread)


def _end(loop: Loop, attending: threading.Thread) -> None:
    sessions = loop.sessions
    sessions.draining.set()
    sessions.abort_all(reason="agent_stop", grace_seconds=0)  # type: ignore[arg-type]
    deadline = time.monotonic() + 5
    while not sessions.is_idle() and time.monotonic() < deadline:
        time.sleep(0.01)
    sessions.is_closing = True
    attending.join()
    # A delivery that still waits for its backoff would otherwise meet the closed server of another test.
    sessions.journal.acknowledge(sessions.journal.next(10_000, now=float("inf")))
    loop.close()
