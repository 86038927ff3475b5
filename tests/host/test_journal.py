"""The journal: what is there after a crash or damage, and that a result leaves only when it is acknowledged."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shellagent.host import journal as journal_module
from shellagent.host.appended import AppendedFile, Line, line
from shellagent.host.journal import Entry, Journal, Outstanding, outstanding, report_without_run
from shellagent.protocol import ExecutionReport, Reason, RunOutcome

FILE = "journal.log"


def report(session_id: str, detail: str = "x") -> ExecutionReport:
    entry = Entry(session_id, "k", "d")
    return report_without_run(entry, outcome=RunOutcome.LOST, reason=Reason.AGENT_RESTART, detail=detail)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE


def loaded(file: Path) -> Journal:
    journal = Journal(file)
    journal.load()
    return journal


def sorted_out(file: Path) -> tuple[list[Line], list[bytes]]:
    items = list(AppendedFile(file).read())
    lines = [item for item in items if not isinstance(item, bytes)]
    return lines, [item for item in items if isinstance(item, bytes)]


def filled(file: Path) -> bytes:
    """Write a journal of one open session with its process, two results and one that was acknowledged."""
    file.unlink(missing_ok=True)
    journal = Journal(file, "boot")
    journal.begin([Entry("a", "ka", "da"), Entry("b", "kb", "db"), Entry("c", "kc", "dc")])
    journal.started("a", 42, 1.5)
    journal.add([report("b"), report("c")])
    journal.begin([Entry("d", "kd", "dd")])
    journal.add([report("d")])
    journal.acknowledge(journal.next(1, now=0))
    journal.close()
    return file.read_bytes()


def test_it_is_read_back(file: Path) -> None:
    filled(file)
    journal = loaded(file)
    assert journal.entries() == [Entry("a", "ka", "da", 42, 1.5, "boot")]
    assert [item.id for item in journal.next(9, now=0)] == ["c", "d"]
    assert [journal.read(item) for item in journal.next(9, now=0)] == [report("c"), report("d")]
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_no_longer_needed_is_left_out_at_the_start(file: Path) -> None:
    before = len(filled(file))
    journal = loaded(file)
    assert file.stat().st_size < before
    journal.end("a")
    journal.acknowledge(journal.next(9, now=0))
    assert outstanding(file) == Outstanding()
    loaded(file)
    assert file.stat().st_size == 0


def test_results_are_oldest_first_across_processes(file: Path) -> None:
    Journal(file).add([report(name) for name in "abc"])
    loaded(file).add([report("d")])
    assert [item.id for item in loaded(file).next(3, now=0)] == ["a", "b", "c"]


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cut_anywhere_it_holds_what_came_before(file: Path, data: st.DataObject) -> None:
    content = filled(file)
    cut = data.draw(st.integers(0, len(content)))
    file.write_bytes(content[:cut])
    whole = [part for part in content[:cut].split(b"\n") if part and part in content.split(b"\n")]
    lines, damaged = sorted_out(file)
    assert (len(lines), damaged) == (len(whole), [])
    journal = loaded(file)
    journal.add([report("new")])
    assert "new" in loaded(file).ids()


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_wrong_byte_costs_one_line(file: Path, data: st.DataObject) -> None:
    content = filled(file)
    place = data.draw(st.integers(0, len(content) - 1))
    wrong = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    file.write_bytes(content[:place] + bytes([wrong]) + content[place + 1 :])
    lines, damaged = sorted_out(file)
    assert len(lines) >= content.count(b" {") - 1
    assert len(damaged) <= 2
    journal = loaded(file)
    assert file.with_suffix(".damaged").exists() == bool(damaged)
    file.with_suffix(".damaged").unlink(missing_ok=True)
    known = {*(entry.id for entry in journal.entries()), *journal.ids()}
    assert len({"a", "c", "d"} - known) <= 1


def test_a_line_of_an_unknown_kind_is_put_aside(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_bytes(line({"later": 1}) + line({"begin": ["a", "k", "d"]}))
    assert [entry.id for entry in loaded(file).entries()] == ["a"]
    assert "damaged" in caplog.text
    assert b"later" in file.with_suffix(".damaged").read_bytes()


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_full_disk_does_not_lose_the_result(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    journal = loaded(file)
    journal.begin([Entry("a", "k", "d")])
    with monkeypatch.context() as broken:
        broken.setattr(os, call, full)
        journal.add([report("a")])
        with pytest.raises(OSError, match="No space"):
            journal.begin([Entry("b", "k", "d")])
    assert "No space left" in caplog.text
    assert journal.read(journal.next(1, now=0)[0]) == report("a")
    # Room again: what was in memory only is written with the next lines.
    journal.begin([Entry("c", "k", "d")])
    after = loaded(file)
    assert (after.ids(), [entry.id for entry in after.entries()]) == ({"a"}, ["c"])


def test_memory_holds_only_so_many_bytes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "KEPT_BYTES", 1500)
    journal = Journal(file)
    journal.add([report("a"), report("long", "x" * 2000), report("b"), report("c"), report("d")])
    items = journal.next(9, now=0)
    assert [item.report is None for item in items] == [False, True, False, False, True]
    assert journal.read(items[1]) == report("long", "x" * 2000)
    journal.acknowledge(items[:1])
    journal.add([report("e")])
    assert journal.next(9, now=0)[-1].report == report("e")


def test_a_result_that_was_damaged_meanwhile_holds_up_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "KEPT_BYTES", 0)
    journal = Journal(file)
    journal.add([report("a")])
    file.write_bytes(file.read_bytes().replace(b"lost", b"last"))
    assert journal.read(journal.next(1, now=0)[0]) is None
    assert journal.depth == 0


def test_it_is_written_anew_when_it_is_large_and_little_is_needed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 20_000)
    monkeypatch.setattr(journal_module, "KEPT_BYTES", 1000)
    journal = Journal(file)
    journal.begin([Entry("open", "k", "d")])
    journal.add([report("kept"), report("kept too", "y" * 3000)])
    for number in range(100):
        journal.add([report(str(number), "z" * 1000)])
        journal.acknowledge([item for item in journal.next(9, now=0) if not item.id.startswith("kept")])
    assert file.stat().st_size < 40_000
    after = loaded(file)
    assert [entry.id for entry in after.entries()] == ["open"]
    assert [after.read(item) for item in after.next(9, now=0)] == [report("kept"), report("kept too", "y" * 3000)]
    assert [journal.read(item) for item in journal.next(9, now=0)] == [report("kept"), report("kept too", "y" * 3000)]


def test_many_results_fill_it(file: Path) -> None:
    journal = Journal(file, limit=1)
    assert journal.fullness() == ""
    journal.add([report("a")])
    assert journal.fullness() == "1 results wait for the server"


def test_large_results_fill_it_until_they_are_acknowledged(file: Path) -> None:
    most = 1024 * 1024
    journal = Journal(file, spool_bytes=most)
    journal.add([report("a", "x" * (most - 1000))])
    assert journal.fullness() == ""
    # What comes beyond is kept all the same: only claiming stops.
    journal.add([report("b", "x" * 2000)])
    assert journal.fullness() == "1 MiB of results wait for the server, and 1 are allowed"
    after = Journal(file, spool_bytes=most)
    after.load()
    assert (after.size, outstanding(file).waiting_bytes) == (journal.size, journal.size - 2)
    assert after.fullness() == journal.fullness()
    after.acknowledge(after.next(1, now=0))
    assert (after.fullness(), after.ids()) == ("", {"b"})


def test_a_disk_that_is_nearly_full_fills_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "LEAST_FREE_BYTES", 1 << 62)
    assert "MiB free" in Journal(file).fullness()
