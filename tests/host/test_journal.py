"""Journal and spool: what is there after a crash, and that a result leaves only when it is acknowledged."""

from pathlib import Path

import pytest

from shellagent.host import journal as journal_module
from shellagent.host.journal import Entry, Journal, Spool, report_without_run
from shellagent.protocol import ExecutionReport, Reason, RunOutcome


def report(session_id: str) -> ExecutionReport:
    entry = Entry(session_id, "k", "d")
    return report_without_run(entry, outcome=RunOutcome.LOST, reason=Reason.AGENT_RESTART, detail="x")


def test_the_journal_is_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "boot")
    journal.begin([Entry("a", "ka", "da"), Entry("b", "kb", "db")])
    journal.started("b", 42, 1.5)
    assert Journal(tmp_path).entries() == [Entry("a", "ka", "da"), Entry("b", "kb", "db", 42, 1.5, "boot")]
    journal.end("b")
    journal.end("a")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_entry_is_passed_over_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Journal(tmp_path).begin([Entry("a", "ka", "da")])
    (tmp_path / "b.json").write_text("{")
    (tmp_path / ".c.json.partial").write_text("{")
    assert [entry.id for entry in Journal(tmp_path).entries()] == ["a"]
    assert "damaged" in caplog.text
    assert (tmp_path / "b.json").exists()


def test_the_spool_is_oldest_first_and_survives(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for name in "abc":
        spool.add(report(name))
    after = Spool(tmp_path)
    after.load()
    assert [item.id for item in after.next(2, now=0)] == ["a", "b"]
    assert after.read(after.next(1, now=0)[0]) == report("a")
    after.acknowledge(after.next(2, now=0))
    again = Spool(tmp_path)
    again.load()
    assert again.ids() == {"c"}
    assert again.depth == 1


def test_a_damaged_result_is_put_aside_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "00000000000000000001-a.json").write_text("{}")
    spool = Spool(tmp_path)
    spool.load()
    assert spool.read(spool.next(1, now=0)[0]) is None
    assert spool.depth == 0
    assert [file.suffix for file in tmp_path.iterdir()] == [".damaged"]


def test_a_full_disk_does_not_lose_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_module, "write_durably", full)
    spool = Spool(tmp_path)
    spool.add(report("a"))
    assert spool.read(spool.next(1, now=0)[0]) == report("a")
    assert "No space left" in caplog.text


def test_memory_holds_only_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "KEPT_IN_MEMORY", 2)
    spool = Spool(tmp_path)
    for name in "abc":
        spool.add(report(name))
    items = spool.next(9, now=0)
    assert [item.report is None for item in items] == [False, False, True]
    assert spool.read(items[2]) == report("c")


def test_many_results_fill_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=1)
    before = spool.is_full
    spool.add(report("a"))
    assert (before, spool.is_full) == (False, True)


def test_a_disk_that_is_nearly_full_fills_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "LEAST_FREE_BYTES", 1 << 62)
    assert Spool(tmp_path).is_full
