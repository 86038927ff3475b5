"""The last error is told in one short line, without secrets."""

import logging
from collections.abc import Iterator

import pytest

from shellagent.host.trouble import MOST_CHARACTERS, Trouble


@pytest.fixture
def trouble() -> Iterator[Trouble]:
    made = Trouble()
    made.watch()
    yield made
    made.close()


def test_the_last_error_counts(trouble: Trouble) -> None:
    logger = logging.getLogger("shellagent.host.journal")
    assert not trouble.last()
    logger.error("The result of %s\ncannot be written", "a")
    logger.warning("a warning is no error")
    assert trouble.last() == "The result of a cannot be written"
    logger.error("password=hunter2222")
    assert trouble.last() == "password=**********"
    logger.error("x" * 1000)
    assert len(trouble.last()) == MOST_CHARACTERS
    logging.getLogger("elsewhere").error("not ours")
    assert trouble.last().startswith("x")
