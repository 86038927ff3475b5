"""Two processes that meet a new policy at once: neither waits for the other, and its version is written once."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection, connections, transaction

from governance import policies
from governance.models import DirectoryRow, PolicyVersion
from tests.database import OwnDatabase

WAIT = 20.0


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer, who is not waited for inside")
def test_nobody_waits_for_a_version_that_another_transaction_is_writing(
    own_database: OwnDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    del own_database
    monkeypatch.setattr(policies, "_kept", None)
    pk = DirectoryRow.objects.create(root="/srv/x", access="read", least_maturity="STUDENT").pk
    has_written, has_locked = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def write_then_lock() -> None:
        with transaction.atomic():
            policies.current_policy()
            has_written.set()
            assert has_locked.wait(WAIT)
            DirectoryRow.objects.select_for_update().get(pk=pk)

    def lock_then_write() -> None:
        with transaction.atomic():
            DirectoryRow.objects.select_for_update().get(pk=pk)
            assert has_written.wait(WAIT)
            has_locked.set()
            policies.current_policy()

    def run(do: Callable[[], None]) -> None:
        try:
            do()
        except BaseException as error:  # noqa: BLE001 - it is told by the test's own thread
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[do]) for do in (write_then_lock, lock_then_write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert errors == []
    assert PolicyVersion.objects.filter(version=policies.current_policy().version).count() == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has two writers")
def test_a_policy_whose_version_may_be_taken_back_is_not_kept_in_memory(
    own_database: OwnDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    del own_database
    monkeypatch.setattr(policies, "_kept", None)
    DirectoryRow.objects.create(root="/srv/x", access="read", least_maturity="STUDENT")
    has_written, is_over = threading.Event(), threading.Event()

    def write_and_take_back() -> None:
        try:
            with transaction.atomic():
                policies.current_policy()
                has_written.set()
                assert is_over.wait(WAIT)
                transaction.set_rollback(True)
        finally:
            connections.close_all()

    thread = threading.Thread(target=write_and_take_back)
    thread.start()
    assert has_written.wait(WAIT)
    version = policies.current_policy().version
    assert policies._kept is None
    is_over.set()
    thread.join(WAIT)
    assert not PolicyVersion.objects.filter(version=version).exists()
    assert policies.current_policy().version == version
    assert PolicyVersion.objects.filter(version=version).exists()
