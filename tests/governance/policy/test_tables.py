"""Program tables: the shipped ones are proved, and a wrong one allows nothing and says why."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from governance.policy.classify import classify as classify_words
from governance.policy.decide import policy_of
from governance.policy.entries import Tables
from governance.policy.matrix import SHIPPED_DIRECTORIES, SHIPPED_MATRIX
from governance.policy.reading import Arg, Reading
from governance.policy.tables import load_tables, read_tables
from governance.policy.types import Category, Maturity, Outcome

from .cases import POLICY, ask, rule_ids

GOOD = """
[[program]]
names = "frob"
category = "read"
justification = "Frobs."
operands = "read-path*"
flags = "-a"
options = [{ names = "-o --out", value = "write-path" }]
examples = { "frob -a x" = "read", "frob -o y" = "write" }
refuses = ["frob --ou=y"]
"""


def tables_of(text: str, **more: str) -> Tables:
    return read_tables({"t.toml": text.encode(), **{f"{name}.toml": body.encode() for name, body in more.items()}})


def test_the_shipped_tables_have_no_problem() -> None:
    tables = load_tables()
    assert tables.problems == ()
    expected = """
    ls cat head tail wc grep find sort uniq stat du df pwd date uname whoami id ps echo true false sleep printf cp
    mv mkdir touch rm rmdir git python3 python pip make npm node curl wget ping docker kubectl sudo su doas chmod
    chown chgrp kill pkill killall dd mkfs mount umount reboot shutdown halt poweroff iptables nft usermod useradd
    passwd crontab sh bash zsh dash env xargs eval exec
    """
    assert [name for name in expected.split() if tables.find(name) is None] == []


def test_every_entry_says_why_and_has_examples_or_is_blocked() -> None:
    for name, entry in POLICY.tables.programs.items():
        assert entry.justification.endswith("."), name
        assert entry.category is not Category.UNKNOWN, name


def test_a_good_table_loads() -> None:
    tables = tables_of(GOOD)
    assert tables.problems == ()
    assert tables.find("frob") is not None
    for known in ("frob", "/bin/frob", "/usr/bin/frob", "/usr/local/bin/frob"):
        assert tables.find(known) is not None
    for unknown in (
        "./frob",
        "bin/frob",
        "/opt/bin/frob",
        "/usr/bin/../bin/frob",
        "/usr//bin/frob",
        "//bin/frob",
        "/frob",
    ):
        assert tables.find(unknown) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("flags =", "flag ="), "unknown key flag"),
        (("value =", "values ="), "unknown key values"),
        (('category = "read"', 'category = "reading"'), "`category` is not 'reading'"),
        (('category = "read"', 'category = "unknown"'), "not `unknown`"),
        (('category = "read"', ""), "`category` is not None"),
        (('justification = "Frobs."', ""), "`justification` is a sentence"),
        (('flags = "-a"', "flags = 3"), "`flags` is a str"),
        (('flags = "-a"', 'flags = "-a -o"'), "the option `-o` is listed twice"),
        (("read-path*", "paths*"), "no value type 'paths'"),
        (('"write-path"', '"out-path"'), "no value type 'out-path'"),
        (("read-path*", "read-path* text+"), "only one operand of a row may repeat"),
        (('"frob -o y" = "write"', '"frob -o y" = "read"'), "is write, not read"),
        (('"frob -a x" = "read"', '"frob -b x" = "read"'), "'frob -b x'"),
        (('"frob --ou=y"', '"frob --out=y"'), "must not be understood"),
        (('examples = { "frob -a x" = "read", "frob -o y" = "write" }', ""), "no `examples`"),
        (('names = "frob"', 'names = "frob*"'), "only a blocked name"),
        (('names = "frob"', 'names = "bin/frob"'), "is not a program's name"),
        (('names = "frob"', ""), "`names` is missing"),
        (("[[program]]", "[[programs]]"), "[[program]] entries only"),
        (("[[program]]", "[[program]"), "line 2"),
        (('operands = "read-path*"', 'operands = "read-path*"\nnumeric = 1'), "`numeric` is true or false"),
        (('operands = "read-path*"', 'operands = "read-path*"\nask = "maybe"'), "`ask` is one of"),
        (('operands = "read-path*"', 'operands = "read-path*"\nrecurses = "deep"'), "`recurses` is names or contents"),
    ],
)
def test_a_wrong_entry_is_named_and_its_program_becomes_unknown(change: tuple[str, str], problem: str) -> None:
    assert change[0] in GOOD
    tables = tables_of(GOOD.replace(*change))
    assert len(tables.problems) == 1
    assert tables.problems[0].startswith("t.toml")
    assert "line 2" in tables.problems[0] or "[[program]]" in change[0]
    assert problem in tables.problems[0]
    assert tables.find("frob") is None
    policy = policy_of(SHIPPED_MATRIX, SHIPPED_DIRECTORIES, tables, POLICY.protection)
    decision = ask("frob -a x", Maturity.AUTONOMOUS, policy=policy)
    assert decision.outcome is Outcome.ASK
    assert rule_ids(decision) == {"not-allowlisted"}


_BAD: Final = '[[program]]\nnames = "bad"\n'
_READS: Final = f'{_BAD}category = "read"\njustification = "Is."\n'


@pytest.mark.parametrize(
    "entry",
    [
        "program = 3",
        "program = [3]",
        '[[program]]\nnames = ["bad"]',
        _BAD + "subcommand = [3]",
        _BAD + "subcommand = [{}]",
        _BAD + "options = [3]",
        _BAD + 'category = ["read"]\njustification = "Is."',
        _BAD + 'category = {}\njustification = "Is."',
        _READS + 'obligations = [["sandbox"]]',
        _READS + "obligations = [{}]",
        _READS + 'examples = { "" = "read" }',
        _READS + 'examples = { "bad" = ["read"] }',
        _READS + 'examples = { "bad" = "read" }\nrefuses = [3]',
        _READS + 'options = [{ names = "-x", value = "match:(" }]',
        "[[program]]\nx = " + "[" * 3000,
    ],
)
def test_whatever_is_in_a_file_is_a_problem_of_that_file_and_never_a_crash(entry: str) -> None:
    tables = tables_of(entry, good=GOOD)
    assert len(tables.problems) == 1
    assert tables.problems[0].startswith("t.toml")
    assert set(tables.programs) == {"frob"}


def test_an_error_that_nobody_foresaw_is_a_problem_of_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def classify(argv: Sequence[Arg], tables: Tables) -> Reading:
        if argv[0].text == "frob":
            raise KeyError("frob")
        return real(argv, tables)

    real = classify_words
    monkeypatch.setattr("governance.policy.tables.classify", classify)
    tables = tables_of(GOOD, other=GOOD.replace("frob", "grob"))
    assert tables.problems == ("t.toml, line 2: frob: it cannot be read (KeyError: 'frob')",)
    assert set(tables.programs) == {"grob"}


def test_a_file_that_is_not_text_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"# one\n# \xff\n")
    (tmp_path / "b.toml").mkdir()
    (tmp_path / "c.toml").write_text(GOOD)
    tables = load_tables(tmp_path)
    assert tables.problems == ("b.toml: it cannot be read (Is a directory)", "a.toml, line 2: it is not UTF-8")
    assert set(tables.programs) == {"frob"}


def test_one_wrong_entry_leaves_the_others() -> None:
    tables = tables_of(GOOD + GOOD.replace("frob", "grob").replace("flags", "flag"))
    assert len(tables.problems) == 1
    assert "grob" in tables.problems[0]
    assert tables.find("frob") is not None


def test_a_program_that_is_listed_twice_is_unknown_but_stays_blocked() -> None:
    blocked = '[[program]]\nnames = "frob"\ncategory = "blocked"\nstyle = "unread"\njustification = "It frobs."\n'
    assert tables_of(GOOD, u=GOOD).find("frob") is None
    both = tables_of(blocked, u=GOOD), tables_of(GOOD, u=blocked)
    for tables in both:
        assert len(tables.problems) == 1
        assert tables.problems[0].startswith("u.toml, line ")
        assert tables.problems[0].endswith("frob: `frob` is listed twice")
        entry = tables.find("frob")
        assert entry is not None
        assert entry.category is Category.BLOCKED


def test_the_version_follows_tables_matrix_and_directories() -> None:
    matrix = {**SHIPPED_MATRIX, (Category.READ, Maturity.INTERN): Outcome.ALLOW}
    versions = {
        policy_of(matrix_, directories, tables, POLICY.protection).version
        for matrix_ in (SHIPPED_MATRIX, matrix)
        for directories in (SHIPPED_DIRECTORIES, SHIPPED_DIRECTORIES[1:])
        for tables in (tables_of(GOOD), tables_of(GOOD + "# changed\n"))
    }
    assert len(versions) == 8
    again = policy_of(
        dict(reversed(list(SHIPPED_MATRIX.items()))), SHIPPED_DIRECTORIES[::-1], tables_of(GOOD), POLICY.protection
    )
    assert again.version in versions
