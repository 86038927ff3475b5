"""The shipped corpus holds by the shipped rules, and its figures are as good as the product promises."""

from pathlib import Path

import pytest

from governance.policy.expectations import ExpectationError, Report, judge, read_expectations
from tests.governance.policy.cases import POLICY

CORPUS = sorted(Path(__file__).with_name("corpus").glob("*.jsonl"))


def judged(*lines: str) -> Report:
    return judge(read_expectations("x", lines), POLICY)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_every_expectation_holds(path: Path) -> None:
    report = judge(read_expectations(path.name, path.read_text().splitlines()), POLICY)
    assert [(one.row.place, one.row.shown, one.found, one.why) for one in report.failures] == []


def test_both_figures_are_good_enough() -> None:
    rows = [row for path in CORPUS for row in read_expectations(path.name, path.read_text().splitlines())]
    report = judge(rows, POLICY)
    assert [(one.row.place, one.row.shown, one.row.maturity) for one in report.escapes] == []
    figures = report.figures()
    assert min(figures["read"], figures["escape"], figures["oneliner"]) >= 20
    assert figures["read_allowed"] >= 0.85 * figures["read"]
    assert figures["oneliner_parsed"] >= 0.8 * figures["oneliner"]


def test_what_does_not_hold_says_why() -> None:
    report = judged(
        '{"command": "ls", "expect": "deny"}',
        "",
        "# not a row",
        '{"argv": ["cat", "a b"], "maturity": ["STUDENT", "SUPERVISED"], "expect": "allow", "note": "why"}',
        '{"command": "ls; (x)", "expect": "allow", "label": "oneliner"}',
        '{"command": "cat a", "label": "escape"}',
        '{"command": "cat /srv/other/a", "roots": ["/srv/work", "/srv/other"], "expect": "allow", "label": "read"}',
        '{"command": "cat a", "roots": [], "working_directory": "/srv/x", "expect": "ask"}',
        '{"command": "nonesuch", "maturity": "STUDENT", "expect": "400"}',
        '{"command": "nonesuch", "maturity": "STUDENT", "expect": "deny"}',
        '{"command": "sudo ls", "expect": "400"}',
    )
    assert [(one.row.place, one.found) for one in report.failures] == [
        ("x:1", "allow"),
        ("x:4", "ask"),
        ("x:5", "400"),
        ("x:11", "deny"),
    ]
    assert all(one.why for one in report.failures)
    assert [one.row.place for one in report.escapes] == ["x:6"]
    assert report.figures() == {
        "read": 1,
        "read_allowed": 1,
        "escape": 1,
        "escape_allowed": 1,
        "oneliner": 1,
        "oneliner_parsed": 0,
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ls", "Expecting value"),
        ("[]", "a row is an object"),
        ('{"command": "ls"}', "`expect`, `label` or both"),
        ('{"expect": "allow"}', "either `command` or `argv`"),
        ('{"command": "ls", "argv": ["ls"], "expect": "allow"}', "either `command` or `argv`"),
        ('{"command": "ls", "expect": "yes"}', "`expect` is one of"),
        ('{"command": "ls", "expect": "allow", "maturity": "BOSS"}', "BOSS"),
        ('{"command": "ls", "expect": "allow", "maturty": "INTERN"}', "a row has no maturty"),
        ('{"argv": "ls", "expect": "allow"}', "`argv` is a list of texts"),
        ('{"command": 1, "expect": "allow"}', "`command` is a text"),
        ('{"command": "ls", "label": 1}', "`label` is a text"),
    ],
)
def test_a_line_that_is_no_expectation_is_named(line: str, said: str) -> None:
    with pytest.raises(ExpectationError, match="x:1: ") as found:
        judged(line)
    assert said in str(found.value)
