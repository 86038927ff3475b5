"""Statements on the driver's cursor, and reads that are kept for a transaction."""

import threading
from uuid import uuid4

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from audit import driver, trail
from audit.models import AuditPayload

pytestmark = pytest.mark.django_db

INSERT = (
    'INSERT INTO audit_auditpayload (session_id, kind, "offset", salt, data, created_at) '
    "VALUES (%s, %s, %s, %s, %s, '2026-01-01')"
)
INTO = 'INSERT INTO audit_auditpayload (session_id, kind, "offset", salt, data, created_at)'
ROWS = [("0" * 31 + str(number), "stdout", number, b"salt", b"100 %") for number in range(3)]


def test_rows_are_written_and_read_as_through_djangos_cursor() -> None:
    assert driver.run_many(INSERT, ROWS) == 3
    assert driver.run_many(INSERT, [("a" * 32, "stderr", 0, b"salt", b"x")]) == 1
    sql = 'SELECT kind, "offset" FROM audit_auditpayload WHERE kind = %s AND kind LIKE \'std%%\' ORDER BY "offset"'
    plain = driver.fetch(sql, ("stdout",))
    with CaptureQueriesContext(connection) as heard:
        assert driver.fetch(sql, ("stdout",)) == plain == [("stdout", 0), ("stdout", 1), ("stdout", 2)]
    assert len(heard) == 1


@pytest.mark.parametrize("count", [1, 7, 45])
def test_any_number_of_rows_is_inserted_in_few_statements(count: int) -> None:
    rows = [(f"{number:032x}", "stdout", number, b"100 %", b"$1 %s", "2026-01-01") for number in range(count)]
    driver.insert_many(INTO, rows)
    # What is there already is passed over, in whichever statement it comes.
    driver.insert_many(INTO, [*rows[-1:], *rows], " ON CONFLICT DO NOTHING")
    found = driver.fetch('SELECT "offset", data FROM audit_auditpayload ORDER BY "offset"', ())
    assert [(offset, bytes(data)) for offset, data in found] == [(number, b"$1 %s") for number in range(count)]
    with pytest.raises(IntegrityError), transaction.atomic():
        driver.insert_many(INTO, rows)


def test_errors_are_djangos_and_a_broken_transaction_takes_no_more() -> None:
    driver.run_many(INSERT, ROWS)
    with pytest.raises(IntegrityError), transaction.atomic():
        driver.run_many(INSERT, ROWS)
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            driver.fetch("SELECT 1", ())
        transaction.set_rollback(False)


def test_a_thing_is_read_once_in_a_block_and_each_time_outside() -> None:
    reads: list[int] = []

    def read() -> int:
        reads.append(0)
        return len(reads)

    with driver.remembering():
        assert [driver.once("key", read), driver.once("key", read), driver.once("other", read)] == [1, 1, 2]
    assert [driver.once("key", read), driver.once("key", read)] == [3, 4]


def test_writes_that_travel_together_are_all_there_and_an_error_is_djangos() -> None:
    with driver.together():
        driver.run_many(INSERT, ROWS[:2])
        driver.run_many(INSERT, ROWS[2:])
    assert driver.fetch("SELECT COUNT(*) FROM audit_auditpayload", ()) == [(3,)]
    with pytest.raises(IntegrityError), transaction.atomic(), driver.together():  # noqa: PT012 - the block is the test
        driver.run_many(INSERT, [("b" * 32, "stdout", 9, b"salt", b"x")])
        driver.run_many(INSERT, ROWS)
    assert driver.fetch("SELECT COUNT(*) FROM audit_auditpayload", ()) == [(3,)]


UPDATE = driver.RowUpdate(
    "audit_auditpayload", "size = 7", (("data", "bytea"),), (("session_id", "uuid"), ("kind", "text"))
)


@pytest.mark.parametrize("count", [1, 7, 45])
def test_any_number_of_rows_is_updated_each_with_its_own_values(count: int) -> None:
    driver.insert_many(
        INTO, [(f"{number:032x}", "stdout", number, b"s", b"old", "2026-01-01") for number in range(count)]
    )
    driver.update_each(UPDATE, [(bytes([number]), f"{number:032x}", "stdout") for number in range(count)])
    found = driver.fetch('SELECT "offset", data, size FROM audit_auditpayload ORDER BY "offset"', ())
    assert [(at, bytes(data), size) for at, data, size in found] == [(at, bytes([at]), 7) for at in range(count)]


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS])
def test_a_row_that_is_not_as_it_was_is_missed(rows: list[tuple[object, ...]]) -> None:
    driver.run_many(INSERT, rows)
    wanted = [(b"new", row[0], "stdout" if number else "stderr") for number, row in enumerate(rows)]
    with pytest.raises(driver.MissedError), transaction.atomic():
        driver.update_each(UPDATE, wanted)
    with pytest.raises(driver.MissedError), transaction.atomic(), driver.together(), driver.together():
        driver.update_each(UPDATE, wanted)
    assert {bytes(data) for (data,) in driver.fetch("SELECT data FROM audit_auditpayload", ())} == {b"100 %"}
    # And nothing of it is left for the next block.
    with driver.together():
        driver.update_each(UPDATE, [(b"new", row[0], "stdout") for row in rows])
    assert {bytes(data) for (data,) in driver.fetch("SELECT data FROM audit_auditpayload", ())} == {b"new"}


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="of a server's transactions")
def test_a_transactions_first_read_brings_its_begin_along() -> None:
    found = []

    def work() -> None:
        """On another connection, which is in no transaction yet."""
        try:
            with transaction.atomic():
                found.append(driver.fetch("SELECT 1", ()))
                driver.run_many(INSERT, ROWS)
                transaction.set_rollback(True)
            with transaction.atomic():
                found.append(driver.fetch("SELECT COUNT(*) FROM audit_auditpayload", ()))
            with pytest.raises(DatabaseError), transaction.atomic():
                driver.fetch("SELECT nothing", ())
            found.append(driver.fetch("SELECT 2", ()))
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [[(1,)], [(0,)], [(2,)]]


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite makes its plans anew")
@pytest.mark.django_db
def test_payloads_are_found_by_their_place_also_while_there_are_none() -> None:
    """PostgreSQL keeps to a plan: the index of those that can age out is short at first, and would be read whole."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    found = trail._payloads((AuditPayload.Kind.STDOUT,)).plan([uuid4() for _ in range(16)])
    assert "audit_payload_place" in found, found
    assert "audit_payload_age" not in found, found
