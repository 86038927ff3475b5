"""Each rule of the fault run can fail: a figure that is 0 whatever happens would be worse than none."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults.journals import Journals
from faults.verdict import Effect, Facts, effects_of, judge
from shellagent.host.appended import line


def session(**changes: Any) -> dict[str, Any]:
    record = {"is_late": False, "outcome": "succeeded", "exit_codes": [0], "left_behind": []}
    row = {"id": "a", "status": "succeeded", "reason": "exit", "detail": "", "exit_code": 0, "records": [record]}
    return {**row, "has_gap": False, **changes}


FACTS = Facts(
    count=1,
    asked={"a": ("token", "quick")},
    effects={"token": Effect(1, 1)},
    kept=["a"],
    sessions=[session()],
    processes=[],
)


def broken(facts: Facts) -> Mapping[str, tuple[str, ...]]:
    return {rule: who for rule, who in judge(facts).broken.items() if who}


def test_nothing_is_broken_where_all_is_well() -> None:
    verdict = judge(FACTS)
    assert verdict.holds
    assert (verdict.begun, verdict.came_to_end, verdict.kept, verdict.undisturbed, verdict.late) == (1, 1, 1, 1, 0)
    assert verdict.ended == {"succeeded": 1}


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        ("run twice", replace(FACTS, effects={"token": Effect(2, 1)})),
        (
            "results lost",
            replace(FACTS, sessions=[session(status="lost", reason="lost", exit_code=None, records=[])]),
        ),
        ("left open", replace(FACTS, sessions=[session(status="running", exit_code=None)])),
        ("processes left behind", replace(FACTS, processes=["12 python3 work.py"])),
        ("acknowledged and unknown to the server", replace(FACTS, sessions=[])),
        ("made twice for one Idempotency-Key", replace(FACTS, sessions=[session(), session(id="b")])),
        ("not asked for to the end", replace(FACTS, count=2)),
        ("ran, and the record says that it did not", replace(FACTS, sessions=[session(status="cancelled")])),
        ("ran, and the record says that it did not", replace(FACTS, effects={**FACTS.effects, "?": Effect(1, 1)})),
        ("ended well by the record, and not by its effect", replace(FACTS, effects={"token": Effect(1, 0)})),
        ("another result than the command's", replace(FACTS, sessions=[session(status="failed", exit_code=1)])),
        (
            "reported as left behind by a host",
            replace(FACTS, sessions=[session(records=[{"left_behind": [7], "is_late": False}])]),
        ),
        ("events missing", replace(FACTS, sessions=[session(has_gap=True)])),
        (
            "denied, or a person asked, though nobody changed a rule",
            replace(FACTS, sessions=[session(status="denied", exit_code=None, records=[])]),
        ),
        ("lost or refused without a reason", replace(FACTS, sessions=[session(status="lost", reason="")])),
    ],
)
def test_each_rule_can_fail(rule: str, facts: Facts) -> None:
    assert rule in broken(facts)


def test_a_late_result_is_a_kept_one() -> None:
    late = {"is_late": True, "outcome": "succeeded", "exit_codes": [0], "left_behind": []}
    verdict = judge(replace(FACTS, sessions=[session(status="lost", reason="lost", exit_code=None, records=[late])]))
    assert verdict.holds
    assert (verdict.late, verdict.ended) == (1, {"lost (lost)": 1})


def test_lost_with_its_host_is_honest_where_no_result_was_kept() -> None:
    row = session(status="lost", reason="agent_restart", exit_code=None, records=[])
    assert judge(replace(FACTS, sessions=[row], kept=[])).holds


def test_effects_are_counted_over_all_hosts(tmp_path: Path) -> None:
    for host in ("one", "two"):
        (tmp_path / host).mkdir()
        (tmp_path / host / "token").write_text("begin 7\nend 7\n")
    assert effects_of(tmp_path / host for host in ("one", "two")) == {"token": Effect(2, 2)}


def test_results_are_read_from_a_journal_that_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    journals = Journals([path])
    first, second, third = (
        line({"result": {"id": name, "outcome": outcome}})
        for name, outcome in (("a", "failed"), ("b", "lost"), ("c", "succeeded"))
    )
    path.write_bytes(line({"begin": ["a", "key", "digest"]}) + first[:-4])
    journals.look()
    assert journals.results == {}, "a line that is being written is none yet"
    with path.open("ab") as file:
        file.write(first[-4:] + second)
    journals.look()
    assert journals.results == {"a": "failed"}
    partial = tmp_path / "partial"
    partial.write_bytes(third)
    partial.rename(path)
    journals.look()
    assert journals.results == {"a": "failed", "c": "succeeded"}
