"""Fixtures of a host without a database: a stub server, a state folder, a probed sandbox and a loop over them."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shellagent.host import facts
from shellagent.host.client import Client
from shellagent.host.journal import Journal, Spool
from shellagent.host.loop import Loop
from shellagent.host.runner import Runner
from shellagent.host.sandbox import Sandbox
from shellagent.host.sessions import Sessions
from shellagent.host.slots import Slots
from shellagent.host.state import StateFolder
from tests.host.server import HOST_ID, KEY, StubServer


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
def make_loop(
    server: StubServer, state: StateFolder, runner: Runner, said: list[str], tmp_path: Path
) -> Iterator[Callable[..., Loop]]:
    """Return a maker of loops on the stub server; a second one is the same host after a restart."""
    made: list[Loop] = []

    def make(*, slots: int = 2, key: str = KEY) -> Loop:
        client = Client(server.url, key)
        room = Slots(slots, tmp_path / "tmp")
        room.create()
        sessions = Sessions(
            connect=client.another,
            runner=runner,
            journal=Journal(state.journal, "boot"),
            spool=Spool(state.spool),
            slots=room,
            instance_id=state.instance_id(),
            boot_id="boot",
            say=said.append,
            draining=threading.Event(),
        )
        loop = Loop(client=client, sessions=sessions, facts=facts.host_facts(state, tmp_path / "scratch"), version="0")
        made.append(loop)
        return loop

    yield make
    for loop in made:
        loop.sessions.draining.set()
        loop.sessions.abort_all(reason="agent_stop", grace_seconds=0)  # type: ignore[arg-type]
        loop.close()
        # A delivery that still waits for its backoff would otherwise meet the closed server of another test.
        loop.sessions.spool.acknowledge(loop.sessions.spool.next(10_000, now=float("inf")))
