"""A running product for each file of tests: real processes, real HTTP, on the database of this test run."""

import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.database import cloned
from tests.e2e.product import MANAGE, ROOT, Process, Product, eventually, free_port


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


@pytest.fixture(scope="module")
def http(product: Product) -> Iterator[str]:
    """The address of an MCP server over HTTP, which has no key of its own."""
    port, log = free_port(), product.folder / "mcp.log"
    argv = [*MANAGE, "mcp", "--http", "--port", str(port)]
    with log.open("wb") as stream:
        popen = subprocess.Popen(argv, env={**product.environment(), "ATOM_URL": product.url}, cwd=ROOT, stderr=stream)
    process = Process("mcp", popen, log)
    try:
        eventually(lambda: "listening" in process.text(), seconds=60, why=process.text)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        assert process.stop(signal.SIGINT) in (0, 130)
