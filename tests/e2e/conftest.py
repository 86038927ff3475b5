"""A running product for each file of tests: real processes, real HTTP, on the database of this test run."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.database import cloned
from tests.e2e.product import Product


@pytest.fixture(scope="module")
def product(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    """The product, running. A test that stops one of its processes starts it again."""
    folder = tmp_path_factory.mktemp("product")
    with django_db_blocker.unblock(), cloned(folder) as database:
        running = Product(database, folder)
        try:
            running.start()
            yield running
        finally:
            running.end()
