"""What a policy is made of, as plain values to keep, and the policy again from them."""

from collections.abc import Mapping
from typing import Any, Final

from governance.policy.decide import ENGINE, Policy, policy_of
from governance.policy.paths import read_protection
from governance.policy.rules import OperatorRule
from governance.policy.tables import SHIPPED, read_tables
from governance.policy.types import Access, Category, DirectoryRule, Maturity, Outcome

#: The keys of a content.
KEYS: Final = ("engine", "matrix", "directories", "rules", "tables", "protected")


def table_files() -> dict[str, str]:
    """Return the shipped program tables, each file's name with its text."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(SHIPPED.glob("*.toml"))}


def content_of(policy: Policy, files: Mapping[str, str]) -> dict[str, object]:
    """Return everything that the policy was made of; `files` are those that its tables were read from."""
    return {
        "engine": ENGINE,
        "matrix": [[str(category), str(level), str(row)] for (category, level), row in policy.matrix.items()],
        "directories": [[rule.root, str(rule.access), str(rule.least_maturity)] for rule in policy.directories],
        "rules": [rule.to_json() for rule in policy.rules],
        "tables": dict(files),
        "protected": policy.protection.text,
    }


def policy_from(content: Mapping[str, Any]) -> Policy:
    """Return the policy of a content, judged by the engine of now.

    Its version is another than the one it was kept under where the engine is another, or where the files had been
    replaced while the process ran.
    """
    return policy_of(
        {(Category(row[0]), Maturity(row[1])): Outcome(row[2]) for row in content["matrix"]},
        [DirectoryRule(row[0], Access(row[1]), Maturity(row[2])) for row in content["directories"]],
        read_tables({name: text.encode() for name, text in content["tables"].items()}),
        read_protection(content["protected"]),
        [OperatorRule.from_json(rule) for rule in content["rules"]],
    )
