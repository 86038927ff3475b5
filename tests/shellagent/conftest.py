"""Fixtures for tests of the server."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache

from shellagent import wake
from tests.database import OwnDatabase
from tests.shellagent.scene import Scene


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    """Throttles count anew in every test."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(autouse=True)
def no_static_files(settings: Any) -> None:
    """Do without WhiteNoise, which looks at every static file once for each client that a test makes."""
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "whitenoise" not in name]


@pytest.fixture(autouse=True)
def no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the thread that listens to PostgreSQL out: its connection would outlive the test and hold the database.

    Rings inside the process work without it; `test_races.py` has it in processes of its own.
    """
    monkeypatch.setattr(wake, "_listen", lambda: None)


@pytest.fixture
def scene(db: None) -> Scene:
    """One host, an agent of each maturity and their owner."""
    return Scene.made()


@pytest.fixture
def own_scene(own_database: OwnDatabase) -> Scene:
    """The same in a database of the test's own, where transactions are real and other processes can join."""
    return Scene.made()
