"""What the benchmark makes of its figures: a wrong ratio or a gate that cannot fail would be worse than none."""

import json
from dataclasses import replace

import pytest

from bench.figures import (
    ClaimFigure,
    DoorFigure,
    Footprint,
    HostFigure,
    OutputFigure,
    PageFigure,
    Row,
    Run,
    p95,
    ratios,
)
from bench.gates import Gate, Verdict, gates
from bench.options import parse
from bench.report import to_json, to_markdown


def row(key: str, *, ms: list[float], rates: list[int]) -> Row:
    return Row(key, key, "", one=[[one / 1000] * 3 for one in ms], many=[(rate, 1.0) for rate in rates])


@pytest.fixture
def run() -> Run:
    """Two rounds in which the product on SQLite keeps every gate; PostgreSQL was not there."""
    found = Run("2026-01-01T00:00:00+00:00", {"processors": "2"}, host_concurrency=8)
    found.rows = [
        row("ours-sqlite", ms=[12, 24], rates=[300, 150]),
        row("ssh-master", ms=[8, 16], rates=[200, 100]),
        row("djangoq-sqlite", ms=[100, 200], rates=[100, 50]),
        row("celery", ms=[4, 8], rates=[400, 200]),
        Row("ours-postgres", "ours-postgres", "", missing="no PostgreSQL server"),
    ]
    found.footprints = [Footprint("ours-sqlite", 50.0, (4.0,), (90.0, 109.0), {}, 20.0, 0.4)]
    found.host = HostFigure("/bin/true", 9, (1.0, 2.0, 1.5), (0.5, 0.5, 0.5), (3.0, 9.0, 4.5), ("seccomp",))
    found.output = [OutputFigure("seq", 200, (100.0, 200.0), (90.0, 180.0), (50.0, 101.0), 3.9)]
    found.claims["sqlite"] = [
        ClaimFigure(10, 400, 500, 900, 999, "USING INDEX"),
        ClaimFigure(99, 700, 800, 990, 999, ""),
    ]
    return found


def verdicts(run: Run, title: str) -> dict[str, Verdict]:
    return {gate.name.split(",")[0]: gate.verdict for gate in gates(run) if gate.name.endswith(title)}


def test_ratios_compare_figures_of_the_same_round(run: Run) -> None:
    ours, ssh = run.rows[0], run.rows[1]

    assert ratios(ours.medians(), ssh.medians()) == pytest.approx([1.5, 1.5])


@pytest.mark.parametrize(("samples", "expected"), [([1.0], 1.0), ([*range(1, 101)], 95), ([3.0, 1.0, 2.0], 3.0)])
def test_p95_is_the_nearest_rank(samples: list[float], expected: float) -> None:
    assert p95(samples) == expected


def test_every_gate_of_a_good_database_passes_and_of_a_missing_one_is_not_measured(run: Run) -> None:
    assert set(verdicts(run, "SQLite").values()) == {Verdict.PASS}
    assert set(verdicts(run, "PostgreSQL").values()) == {Verdict.NOT_MEASURED}


@pytest.mark.parametrize("index", range(8))
def test_each_gate_can_fail(run: Run, index: int) -> None:
    spoilt = [
        lambda: setattr(run.rows[0], "one", [[0.015] * 3, [0.030] * 3]),
        lambda: setattr(run.rows[2], "many", [(130, 1.0), (65, 1.0)]),
        lambda: setattr(run.rows[3], "many", [(440, 1.0), (220, 1.0)]),
        lambda: run.footprints.append(replace(run.footprints.pop(), host_mib=60.1)),
        lambda: run.footprints.append(replace(run.footprints.pop(), web_workers_mib=(9.0, 110.1))),
        lambda: run.footprints.append(replace(run.footprints.pop(), idle_host_percent=0.6)),
        lambda: run.claims["sqlite"].append(ClaimFigure(999, 801, 900, 990, 999, "")),
        lambda: run.claims["sqlite"].append(ClaimFigure(999, 500, 900, 1801, 1900, "")),
    ]

    spoilt[index]()

    found = [gate.verdict for gate in gates(run) if gate.name.endswith("SQLite")]
    assert found == [Verdict.FAIL if at == index else Verdict.PASS for at in range(len(spoilt))]


def test_what_the_doors_cost_are_gates(run: Run) -> None:
    def found() -> list[Verdict]:
        return [gate.verdict for gate in gates(run) if "atom run" in gate.name or "initialize" in gate.name]

    assert found() == []
    run.doors = [DoorFigure("sqlite", (0.010, 0.020, 0.010), (0.120, 0.150, 0.129), (0.9,))]
    assert found() == [Verdict.PASS, Verdict.PASS]
    assert "`atom run -- true`" in to_markdown(run, account="", at_once=1)
    run.doors = [DoorFigure("sqlite", (0.010,), (0.131,), (1.1,))]
    assert found() == [Verdict.FAIL, Verdict.FAIL]


def test_the_pages_of_who_approves_are_gates(run: Run) -> None:
    def found() -> dict[str, Verdict]:
        return {gate.name: gate.verdict for gate in gates(run) if gate.name.startswith("the queue,")}

    assert found() == {}
    run.pages = [PageFigure("sqlite", 500, 1_000_000, "the queue", (40.0, 900.0, 50.0), 33.0, 16)]
    assert found() == {"the queue, in ms, SQLite": Verdict.PASS}
    assert "| the queue | sqlite | 50 | 900 | 33 | 16 |" in to_markdown(run, account="", at_once=1)
    run.pages = [replace(run.pages[0], took_ms=(1001.0,))]
    assert found() == {"the queue, in ms, SQLite": Verdict.FAIL}


def test_what_the_host_adds_and_what_output_costs_are_gates(run: Run) -> None:
    def found() -> dict[str, Verdict]:
        return {gate.name: gate.verdict for gate in gates(run) if gate.name.startswith(("what the host", "200 MB"))}

    assert set(found().values()) == {Verdict.PASS}
    assert "| 1.50 | 0.50 | 4.50 | 3.00 | 2.50 |" in to_markdown(run, account="somebody", at_once=8)
    run.host = replace(run.host, hosted_ms=(4.1, 9.0, 4.6)) if run.host else None
    run.output = [replace(run.output[0], kept=(49.0, 99.0), grown_mib=4.1)]
    assert set(found().values()) == {Verdict.FAIL}
    assert len(found()) == 3
    run.host = None
    assert found()["what the host adds to a command, in ms"] is Verdict.NOT_MEASURED


def test_a_row_that_failed_half_way_is_not_measured(run: Run) -> None:
    run.rows[1].failure = "sshd ended"

    assert verdicts(run, "SQLite")["idle latency over ssh with ControlMaster"] is Verdict.NOT_MEASURED


def test_a_failure_is_told_in_one_line_and_what_is_missing_is_none(run: Run) -> None:
    assert run.failures() == []

    run.rows[0].failure = "manage.py migrate exited with 1:\nTraceback\n  somewhere\nTypeError: no\n"

    assert run.failures() == ["ours-sqlite: manage.py migrate exited with 1: … TypeError: no"]


def test_one_bad_round_does_not_decide_a_gate() -> None:
    assert Gate("latency", 1.75, (1.5, 3.0, 1.6)).verdict is Verdict.PASS
    assert Gate("rate", 2.5, (2.6, 1.0, 2.7), is_ceiling=False).verdict is Verdict.PASS


def test_the_report_names_what_is_missing_and_what_is_not_won(run: Run) -> None:
    page = to_markdown(run, account="somebody", at_once=8)

    assert "ours-postgres: no PostgreSQL server" in page
    assert "- ours-sqlite: quicker for one command: ssh-master, celery; more commands a second: celery.\n" in page
    assert "USING INDEX" in page
    assert json.loads(to_json(run))["gates"][0]["verdict"] == "PASS"


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--rounds", "x"], ["--concurrency", "0"], ["--nonsense"]])
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(arguments)

    assert exit_.value.code == 64


def test_a_quick_run_has_no_gates_and_leaves_the_documentation_alone() -> None:
    options = parse(["--quick"])

    assert not options.has_gates
    assert options.report is None
