"""Programs that read, search, reshape and archive: everyday use is allowed, and nothing hides in their arguments."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from governance.policy.environment import refused_env_names
from governance.policy.types import Category, Maturity, Outcome

from .cases import POLICY, ask, rule_ids

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


#: As scripts take a program or a file from the environment: `grep=${GREP:-grep}`.
_FROM_ENVIRONMENT: Final = re.compile(rb"\$\{([A-Z][A-Z0-9_]*):?[-=+?]")


def test_scripts_that_read_take_nothing_from_a_commands_environment() -> None:
    found = {}
    for name, entry in POLICY.tables.programs.items():
        path = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        if path is None or entry.category is not Category.READ:
            continue
        content = Path(path).read_bytes()
        if content.startswith(b"#!"):
            taken = {match.decode() for match in _FROM_ENVIRONMENT.findall(content)}
            found[name] = taken.difference(refused_env_names(dict.fromkeys(taken, "x")))
    assert {name: taken for name, taken in found.items() if taken} == {}


@pytest.mark.parametrize(
    "name",
    """GREP EGREP FGREP DIFF CMP ZCAT opt LANGUAGE TEXTDOMAINDIR GETCONF_DIR IP_LIB_DIR LESSECHO LESSGLOBALTAGS WORDLIST
    GAWK_PERSIST_FILE OPENSSL_MODULES LIBMOUNT_FSTAB PROC_NET_TCP ZIP CONTAINER_HOST GOAUTH""".split(),  # noqa: SIM905
)
def test_no_variable_makes_a_program_another_one(name: str) -> None:
    for maturity in Maturity:
        assert rule_ids(ask("ls", maturity, env={name: "/tmp/x"})) >= {"environment"}  # noqa: S108 - only a text
