"""Globs: what a pattern may match, compared with fnmatch, and what a decision makes of it."""

import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.policy.globs import marked, may_match, typed
from governance.policy.types import Access, Grant, Maturity, Outcome

from .cases import FOLDER, ask, rule_ids

_PATTERNS = st.text(alphabet="ab.*?", max_size=6)


@settings(derandomize=True, max_examples=500, deadline=None)
@given(_PATTERNS, st.text(alphabet="abAB.", max_size=6))
def test_a_name_is_matched_as_fnmatch_does(pattern: str, name: str) -> None:
    is_hidden = name.startswith(".") and pattern[:1] in ("*", "?")
    expected = fnmatch.fnmatchcase(name.lower(), pattern) and not is_hidden
    assert may_match(marked(pattern), name) is expected
    assert typed(marked(pattern)) == pattern


@settings(derandomize=True, max_examples=300, deadline=None)
@given(_PATTERNS, _PATTERNS, st.text(alphabet="ab.", min_size=1, max_size=4))
def test_two_patterns_meet_where_a_name_fits_both(one: str, other: str, name: str) -> None:
    fits = fnmatch.fnmatchcase(name, one) and fnmatch.fnmatchcase(name, other)
    if fits and not (name.startswith(".") and one[:1] in ("*", "?")):
        assert may_match(marked(one), marked(other)) or (one[:1] in ("*", "?") and other.startswith("."))


def test_many_stars_take_no_long_time() -> None:
    assert not may_match(marked("*a" * 60), marked("*b" * 60 + "c"))


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        ("cat *", ""),
        ("cat *.py src/*/x.md", ""),
        ("ls -la *", ""),
        ("echo *", ""),
        ("wc -l *.json", ""),
        ("grep -n todo *.py", ""),
        ("find . -name *.py", ""),
        ("cat ~/Documents/*.md", ""),
        ("cat .e*", "may-match-protected"),
        ("cat .en?", "may-match-protected"),
        ("cat id_*", "may-match-protected"),
        ("cat cred*.json", "may-match-protected"),
        ("cat x/.s*/config", "may-match-protected"),
        ("cat *.pe[m]", "may-match-protected"),
        ("cat *.key", "protected-path"),
        ("cat .env*/x*", "may-match-protected"),
        ("cat ~/.ssh/*", "protected-path"),
        ("cat ~/.s*/known*", "protected-path"),
        ("cat /home/*/.aws/config", "protected-path"),
        ("cat /h*/*/.docker/c*", "protected-path"),
        ("cat /etc/sh*", "protected-path"),
        ("cat /et?/shadow", "protected-path"),
        ("cat /e*/*", "protected-path"),
        ("cat /proc/*/environ", "protected-path"),
        ("cat /opt/at*/key", "protected-path"),
        ("ls /*", "protected-path"),
        ("cat /var/log/*", "outside-roots"),
        ("cat */../../x", "glob-place"),
        ("cat /srv/agent/*/../../../srv/other", "glob-place"),
        ("grep *.py x", "glob-place"),
        ("head -n *", "glob-place"),
        ("ls -*", "glob-place"),
        ("ls --color=*", "glob-place"),
        ("cp a *", "glob-place"),
        ("uniq *", "glob-place"),
        ("docker *", "unknown-subcommand"),
    ],
)
def test_where_a_pattern_may_stand(command: str, rule: str) -> None:
    decision = ask(command)
    assert (decision.outcome is Outcome.ALLOW) == (not rule), decision.rules
    assert not rule or rule in rule_ids(decision), decision.rules


def test_a_pattern_opens_the_folder_that_it_looks_in() -> None:
    assert Grant("/var/log", Access.READ) in ask("cat /var/log/a*.log").grants
    decision = ask("rm -r build/*", Maturity.AUTONOMOUS)
    assert decision.outcome is Outcome.ALLOW
    assert ask("rm -r ../other/*", Maturity.AUTONOMOUS).outcome is Outcome.ASK
    assert ask("rm -r /home/ada/*", Maturity.AUTONOMOUS).outcome is Outcome.DENY
    assert ask("cp *.txt backup", Maturity.AUTONOMOUS).outcome is Outcome.ALLOW
    assert Grant(FOLDER, Access.WRITE) in decision.grants
