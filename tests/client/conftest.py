"""A stub server for the client, and `atom` in this process against it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shellagent.client import cli
from tests.host.server import StubServer

SESSION: dict[str, Any] = {"id": "0b9f6e0e-0000-4000-8000-000000000001", "finished_at": "2026-01-01T00:00:00+00:00"}
EXECUTE = "/api/local-agent/execute"
ONE = f"/api/local-agent/sessions/{SESSION['id']}"


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


Call = Callable[..., Done]


@pytest.fixture
def server() -> Iterator[StubServer]:
    stub = StubServer()
    yield stub
    stub.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no access to any server: the folder of its configuration."""
    for name in ("ATOM_URL", "ATOM_KEY", "ATOM_KEY_FD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def call(home: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run `atom` and return how it ended."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        try:
            code = cli.main(arguments)
        except SystemExit as caught:
            code = int(caught.code or 0)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def atom(call: Call, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run `atom` with access to the stub server."""

    def run(*arguments: str) -> Done:
        monkeypatch.setenv("ATOM_URL", server.url)
        monkeypatch.setenv("ATOM_KEY", "ata_x")
        return call(*arguments)

    return run
