"""git's words: which commands a SUPERVISED agent may use alone, and where their paths are meant from."""

import pytest

from governance.policy.types import Maturity, Outcome

from .cases import FACTS, ask, rule_ids

ALONE = (
    """
status|status -sb -uno|log --oneline -n 5|log -p --since='2 weeks ago' -- src|log --pretty=format:'%h %s' main..dev
show HEAD~1:src/x.py|diff --cached --name-status|diff HEAD^ HEAD -- '*.py'|blame -L 1,9 x|shortlog -sne HEAD
branch -vv|branch --merged main|tag --sort=-v:refname|describe --tags --always|rev-parse --show-toplevel
rev-list --count HEAD|ls-files '*.py'|ls-files -o --exclude-standard|ls-tree -r --name-only HEAD|cat-file -p HEAD
grep -n TODO -- src|remote -v|remote get-url origin|stash list|stash show -p stash@{0}|reflog -5|worktree list
config --list|config --get user.name|for-each-ref --format='%(refname)' refs/heads|merge-base a b|count-objects -vH
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


@pytest.mark.parametrize("words", ALONE)
def test_reading_commands_need_no_person_where_the_host_has_a_sandbox(words: str) -> None:
    decision = ask(f"git {words}")
    assert decision.outcome is Outcome.ALLOW, decision.explanation
    assert set(decision.obligations) == {"git-hardened", "read-only", "sandbox"}


def test_without_a_sandbox_they_ask() -> None:
    decision = ask("git status", Maturity.AUTONOMOUS, facts=type(FACTS)(home="/home/ada", user="ada"))
    assert decision.outcome is Outcome.ASK
    assert "no-sandbox" in rule_ids(decision)


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        ("git diff ../../x y", "outside-roots"),
        ("git diff /srv/other/a b", "outside-roots"),
        ("git -C ../other status", "outside-roots"),
        ("git -C sub diff --no-index ../../x y", "outside-roots"),
        ("git -C/tmp/a diff ../../etc/shadow x", "protected-path"),
        ("git -C /tmp -C a rm ../../opt/atom/x", "protected-path"),
        ("git show HEAD:./.env", "protected-path"),
        ("git -C /opt/atom log", "protected-path"),
        ("git diff --no-index . /home/ada", "contains-protected"),
        ("git fetch", "network-untyped"),
        ("git clone http://169.254.169.254/x", "protected-host"),
        ("git stash", "needs-option"),
    ],
)
def test_what_asks_or_is_denied(command: str, rule: str) -> None:
    decision = ask(command, Maturity.AUTONOMOUS)
    assert decision.outcome is not Outcome.ALLOW
    assert rule in rule_ids(decision)


def test_paths_behind_a_folder_are_meant_from_there() -> None:
    assert ask("git -C sub diff -- ../x").outcome is Outcome.ALLOW
    assert ask("git -C /tmp/a diff ../b").outcome is Outcome.ALLOW
