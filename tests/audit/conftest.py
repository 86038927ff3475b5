"""Fixtures for tests of the trail."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def no_static_files(settings: Any) -> None:
    """Do without WhiteNoise, which looks at every static file once for each client that a test makes."""
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "whitenoise" not in name]


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    """What is told once in a while is counted anew in every test."""
    cache.clear()
    yield
    cache.clear()
