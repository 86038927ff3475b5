"""Fixtures for tests of the trail."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    """What is told once in a while is counted anew in every test."""
    cache.clear()
    yield
    cache.clear()
