"""The writing threads of one process take turns on SQLite, and nobody keeps the turn who is done."""

import threading
from collections.abc import Callable

import pytest
from django.db import DatabaseError, connection, transaction

from governance.models import PolicyGeneration
from tests.database import OwnDatabase

pytestmark = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL has many writers at a time")
PATIENCE_SECONDS = 5


def _in_thread(work: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def _write() -> None:
    with transaction.atomic():
        PolicyGeneration.objects.create(number=7)


def _can_write() -> bool:
    writer = _in_thread(_write)
    writer.join(PATIENCE_SECONDS)
    return not writer.is_alive()


def test_a_second_writer_waits_for_the_first_and_then_writes(own_database: OwnDatabase) -> None:
    with transaction.atomic():
        PolicyGeneration.objects.create(number=1)
        second = _in_thread(_write)
        second.join(0.2)
        assert second.is_alive()
    second.join(PATIENCE_SECONDS)
    assert not second.is_alive()
    assert PolicyGeneration.objects.filter(number=7).count() == 1


def test_a_rollback_passes_the_turn(own_database: OwnDatabase) -> None:
    with pytest.raises(LookupError), transaction.atomic():
        raise LookupError
    assert _can_write()


def test_a_failing_statement_passes_the_turn(own_database: OwnDatabase) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO no_such_table VALUES (1)")
    assert _can_write()


def test_a_connection_that_is_closed_in_a_transaction_passes_the_turn(own_database: OwnDatabase) -> None:
    def closes() -> None:
        transaction.set_autocommit(False)
        _ = PolicyGeneration.objects.count()
        connection.close()

    closing = _in_thread(closes)
    closing.join(PATIENCE_SECONDS)
    assert not closing.is_alive()
    assert _can_write()
