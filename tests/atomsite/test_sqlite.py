"""Writers take turns on SQLite, threads and processes, and nobody keeps the turn who is done."""

import fcntl
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

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


@pytest.fixture
def file(own_database: OwnDatabase) -> Path:
    """The file of the database that the tests' connection is to."""
    assert own_database.path
    return own_database.path


def test_another_processs_transaction_is_waited_for(file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer = _in_thread(_write)
    writer.join(0.2)
    assert writer.is_alive()
    other.execute("COMMIT")
    other.close()
    writer.join(PATIENCE_SECONDS)
    assert PolicyGeneration.objects.filter(number=7).count() == 1


def test_the_waiting_ends_with_the_time_that_the_settings_give(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.2)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"), transaction.atomic():
        pass
    other.close()
    with transaction.atomic(), connection.cursor() as cursor:
        # What is no transaction of ours waits as SQLite does.
        assert cursor.execute("PRAGMA busy_timeout").fetchone() == (200,)


def test_one_process_is_next_until_the_time_is_over(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(f"{file}-turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        writer = _in_thread(_write)
        writer.join(0.2)
        assert writer.is_alive()
        fcntl.flock(turn, fcntl.LOCK_UN)
        writer.join(PATIENCE_SECONDS)
        assert not writer.is_alive()
        # One that was stopped as it was next stops nobody for good.
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.2)
        fcntl.flock(turn, fcntl.LOCK_EX)
        with transaction.atomic():
            assert PolicyGeneration.objects.filter(number=7).exists()


def test_without_its_file_the_database_alone_says_who_writes(file: Path) -> None:
    Path(f"{file}-turn").mkdir()
    assert _can_write()
