"""Programs that read, search, reshape and archive: everyday use is allowed, and nothing hides in their arguments."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from governance.policy.types import Category, Maturity, Outcome

from .cases import ask, rule_ids

CORPUS: Final = Path(__file__).with_name("corpus")
BELOW_AUTONOMOUS: Final = (Maturity.STUDENT, Maturity.INTERN, Maturity.SUPERVISED)


def rows(name: str) -> list[tuple[str, str]]:
    """Return the commands of a file of expectations, with what each expects at SUPERVISED."""
    lines = (CORPUS / name).read_text(encoding="utf-8").splitlines()
    return [(row["command"], row["expect"]) for row in map(json.loads, lines)]


@pytest.mark.parametrize("command", [command for command, _ in rows("reading.jsonl")])
def test_everyday_reading_is_allowed_without_a_person(command: str) -> None:
    decision = ask(command)
    assert decision.outcome is Outcome.ALLOW, [rule.justification for rule in decision.rules]
    assert decision.category is Category.READ


@pytest.mark.parametrize(("command", "expected"), rows("reading-escapes.jsonl"))
def test_an_escape_is_never_allowed_below_autonomous(command: str, expected: str) -> None:
    assert ask(command).outcome == expected
    assert all(ask(command, maturity).outcome is not Outcome.ALLOW for maturity in BELOW_AUTONOMOUS)
    if expected == "deny":
        assert ask(command, Maturity.AUTONOMOUS).outcome is Outcome.DENY


@pytest.mark.parametrize(
    ("command", "category"),
    [
        ("sed -i s/a/b/ x", Category.WRITE),
        ("sed -s -i.bak -e s/a/b/ x", Category.WRITE),
        ("find . -name x -delete", Category.DELETE),
        ("find . -fprintf out '%p\\n'", Category.WRITE),
        ("tar xzf a.tgz -C d", Category.WRITE),
        ("tar czf a.tgz src", Category.WRITE),
        ("unzip -qo a.zip -d d", Category.WRITE),
        ("zip -r a.zip src", Category.WRITE),
        ("gzip -9k a", Category.WRITE),
        ("split -l 10 a part-", Category.WRITE),
        ("sort -o b a", Category.WRITE),
        ("uniq a b", Category.WRITE),
        ("tee -a log", Category.WRITE),
        ("awk -f a.awk b", Category.BUILD),
        ("nice -n 5 rm a", Category.DELETE),
        ("tar -tf host.example:a.tar", Category.NETWORK),
    ],
)
def test_what_changes_something_is_read_as_what_it_does(command: str, category: Category) -> None:
    decision = ask(command, Maturity.AUTONOMOUS)
    assert decision.category is category
    assert not rule_ids(decision) & {"unknown-option", "unknown-operand", "invalid-value", "never-read"}


@pytest.mark.parametrize(
    "command",
    ["sed -i p .git/config", "sed -i -e p .git/config", "sed -e p .git/config -i", "sed -Ei.bak p -- .git/config"],
)
def test_what_is_edited_in_place_counts_as_written(command: str) -> None:
    decision = ask(command, Maturity.AUTONOMOUS)
    assert decision.outcome is Outcome.DENY
    assert "protected-path" in rule_ids(decision)
    assert ask("sed p .git/config").outcome is Outcome.ALLOW


@pytest.mark.parametrize("command", ["ls", "tar", "find", "ps", "sed", "grep"])
def test_help_is_read_alone(command: str) -> None:
    assert ask(f"{command} --help").outcome is Outcome.ALLOW


def leaking(words: list[str]) -> bool:
    """Return whether the real ps shows another process's environment for these words."""
    shown = subprocess.run(["ps", *words], capture_output=True, text=True, check=False, timeout=10).stdout
    return "ATOM_TEST_MARK=shown" in shown


@pytest.fixture(scope="module")
def _marked() -> Iterator[None]:
    """Run a process whose environment holds a mark."""
    with subprocess.Popen(["sleep", "60"], env={"ATOM_TEST_MARK": "shown"}) as process:
        time.sleep(0.05)
        yield
        process.kill()


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed")
@pytest.mark.usefixtures("_marked")
def test_no_ps_that_is_allowed_shows_an_environment() -> None:
    assert leaking(["axe"])
    words = ["-e", "-ef", "-el", "-x", "-ex", "-aux", "-ax", "-H", "-T", "-L", "-N", "aux", "f", "--sort=-pid"]
    candidates = [[one] for one in words] + [[one, two] for one in words for two in words if one != two]
    allowed = [pair for pair in candidates if ask(["ps", *pair]).outcome is Outcome.ALLOW]
    assert len(allowed) > 20
    assert [pair for pair in allowed if leaking(pair)] == []
