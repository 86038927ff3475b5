"""The files that the pages show are read by the product, and say what the pages say of them."""

import json
import os
from pathlib import Path

import pytest

from governance.policy.decide import build_policy
from governance.policy.expectations import judge, read_expectations
from governance.policy.rules import OperatorRule
from governance.policy.tables import load_tables
from shellagent.host import ceiling

from .test_docs import DOCS, REFERENCE, blocks

RULE_PAGE = DOCS / "how-to" / "write-a-rule.md"


def test_the_rule_is_what_the_expectations_lack() -> None:
    expected, ruled = (block for block in blocks(RULE_PAGE, "text") if block.startswith("{"))
    rows = read_expectations("expectations.jsonl", expected.splitlines())
    rule = OperatorRule.from_json({"id": "1", "name": "notes", **json.loads(ruled)})
    assert [verdict.row.command for verdict in judge(rows, build_policy()).failures] == ["touch notes/today.md"]
    assert not judge(rows, build_policy(rules=[rule])).failures


@pytest.mark.parametrize("page", [DOCS / "how-to" / "write-a-table.md", REFERENCE / "policy-tables.md"])
def test_the_program_table_loads(page: Path, tmp_path: Path) -> None:
    (text,) = blocks(page, "toml")
    (tmp_path / "example.toml").write_text(text)
    tables = load_tables(tmp_path)
    assert (tables.problems, list(tables.programs)) == ((), ["frob"])


def test_the_ceiling_loads(tmp_path: Path) -> None:
    (text,) = blocks(DOCS / "how-to" / "ceiling-and-secrets.md", "toml")
    file = tmp_path / "ceiling.toml"
    file.touch(mode=0o600)
    file.write_text(text)
    read = ceiling.load(file)
    assert os.path.expanduser("~/work") in [root.path for root in read.roots or ()]
