"""Paths: where they lead, what is protected, what the agent's roots open."""

import dataclasses
from pathlib import Path

import pytest

from governance.policy.paths import expand_home, is_within, load_protection, normalise
from governance.policy.types import Access, Facts, Maturity, Outcome

from .cases import FACTS, FOLDER, POLICY, ask, rule_ids


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", "/srv/agent/a"),
        (".", "/srv/agent"),
        ("", "/srv/agent"),
        ("../x/./y//z/", "/srv/x/y/z"),
        ("/../../etc", "/etc"),
        ("//etc/shadow", "/etc/shadow"),
        ("///etc", "/etc"),
        ("~/x", "/srv/agent/~/x"),
        ("../../../../..", "/"),
    ],
)
def test_normalise(text: str, path: str) -> None:
    assert normalise(text, FOLDER) == path


def test_a_root_is_not_its_namesake() -> None:
    assert is_within("/data", "/data")
    assert is_within("/data/x", "/data")
    assert not is_within("/data-evil", "/data")
    assert is_within("/anything", "/")


def test_home_is_expanded_only_where_it_is_known() -> None:
    assert expand_home("~/Downloads", "/home/ada") == "/home/ada/Downloads"
    assert expand_home("~", "/home/ada") == "/home/ada"
    assert expand_home("~/Downloads", "") is None
    assert expand_home("/x/../y", "") == "/y"


@pytest.mark.parametrize(
    "path",
    [
        "/home/ada/.ssh",
        "/home/ada/.ssh/config",
        "/root/.ssh/id_rsa",
        "/home/eve/.aws/credentials",
        "/home/ada/.docker/config.json",
        "/home/eve/.config/gcloud/x",
        "/Users/ada/Library/Keychains/x",
        "/home/ada/.netrc",
        "/home/ada/.gnupg",
        "/home/ada/.kube/config",
        "id_ed25519",
        "sub/.env",
        ".ENV",
        ".env.production",
        "/srv/agent/credentials.json",
        "server.key",
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/./gshadow",
        "/etc/sudoers.d/x",
        "/etc//shadow",
        "../../etc/shadow",
        "/proc/self/environ",
        "/proc/self/root/etc/shadow",
        "/proc/1/cwd",
        "/proc",
        "/sys/kernel",
        "/dev/sda",
        "/dev/fd/3",
        "/opt/atom/manage.py",
        "/opt/atom",
        "/srv/state/host.key",
        "/proc/cpuinfo/../self/environ",
    ],
)
def test_protected_paths_are_denied_at_every_maturity(path: str) -> None:
    for maturity in Maturity:
        decision = ask(["cat", path], maturity, roots=("/",))
        assert (decision.outcome, decision.rules[0].id) == (Outcome.DENY, "protected-path")


@pytest.mark.parametrize(
    "path",
    [
        "/proc/cpuinfo",
        "/proc/../proc/meminfo",
        "/proc/loadavg",
        "/proc/uptime",
        "/proc/version",
        "/etc/os-release",
        "/etc/hostname",
        "/dev/null",
        ".env.example",
        ".git/config",
        "environment",
        "ssh",
        "keys.txt",
        "/home/ada/Documents/report",
        "/home/ada/.cache/atom/scratch/x",
        "/opt/../srv/agent/x",
    ],
)
def test_ordinary_paths_and_harmless_facts_are_allowed(path: str) -> None:
    assert ask(["cat", path]).outcome is Outcome.ALLOW


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/srv", "/srv/agent-evil/x", "/opt/atom-evil", "../x", "/home/ada/x", "/home/ada/Desktop2", "/"],
)
def test_outside_every_root_asks(path: str) -> None:
    for maturity in Maturity:
        decision = ask(["cat", path], maturity)
        assert decision.outcome is Outcome.ASK
        assert decision.has_rule("outside-roots")


def test_roots_open_by_maturity() -> None:
    for root, least in [
        ("/tmp", 0),  # noqa: S108
        ("/home/ada/Downloads", 0),
        ("/home/ada/Documents", 1),
        ("/home/ada/Desktop", 2),
    ]:
        for maturity in Maturity:
            decision = ask(["cat", f"{root}/x"], maturity, roots=())
            # The agent has no folder of its own here, so its working directory is outside.
            reasons = [rule.justification for rule in decision.rules if rule.id == "outside-roots"]
            assert any(root in reason for reason in reasons) is (maturity.rank < least)


def test_a_root_for_reading_is_not_for_writing() -> None:
    rules = tuple(dataclasses.replace(rule, access=Access.READ) for rule in POLICY.directories)
    policy = dataclasses.replace(POLICY, directories=rules)
    assert ask("cat /home/ada/Documents/x", Maturity.AUTONOMOUS, policy=policy).outcome is Outcome.ALLOW
    assert rule_ids(ask("touch /home/ada/Documents/x", Maturity.AUTONOMOUS, policy=policy)) == {
        "outside-roots",
        "matrix:write:AUTONOMOUS",
    }


@pytest.mark.parametrize(
    ("folder", "rule"),
    [
        ("/etc", "outside-roots"),
        ("/srv/agent/../agent-evil", "outside-roots"),
        ("/home/ada/.ssh", "protected-path"),
        ("/proc/self/cwd", "protected-path"),
        ("/opt/atom", "protected-path"),
        ("srv", "relative-directory"),
    ],
)
def test_the_working_directory_is_checked_like_a_path(folder: str, rule: str) -> None:
    decision = ask("pwd", folder=folder)
    assert decision.rules[0].id == rule
    assert decision.outcome is not Outcome.ALLOW


def test_code_needs_a_working_directory_it_may_write() -> None:
    rules = tuple(dataclasses.replace(rule, access=Access.READ) for rule in POLICY.directories)
    policy = dataclasses.replace(POLICY, directories=rules)
    folder = "/home/ada/Documents"
    assert ask("ls", Maturity.AUTONOMOUS, policy=policy, folder=folder).outcome is Outcome.ALLOW
    assert ask("make", Maturity.AUTONOMOUS, policy=policy, folder=folder).has_rule("outside-roots")


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /",
        "rm -r /home",
        "rm -r /home/ada",
        "rm -r /root",
        "rm -r ..",
        "grep -r key /home/ada",
        "grep -r key /etc",
        "grep -rR key /opt",
        "cp -r /home/ada x",
        "cp -a /home/ada/.config x",
        "mv /home/ada x",
        "find /home/eve -delete",
        "diff -r /home/ada x",
        "diff -rq x /etc",
    ],
)
def test_going_through_a_folder_that_holds_something_protected_is_denied(command: str) -> None:
    decision = ask(command, Maturity.AUTONOMOUS)
    assert decision.outcome is Outcome.DENY
    assert decision.has_rule("contains-protected")


def test_names_of_protected_files_may_be_listed_from_above() -> None:
    for command in ("find /home/ada -name x", "ls -R /home/ada", "du -s /home/ada"):
        assert rule_ids(ask(command)) == {"outside-roots", "matrix:read:SUPERVISED"}


def test_the_git_folder_is_protected_from_writing_only() -> None:
    assert ask("cat .git/config").outcome is Outcome.ALLOW
    assert ask("cp .git/config saved", Maturity.AUTONOMOUS).outcome is Outcome.ALLOW
    for command in (
        "cp x .git/config",
        "touch .git/hooks/pre-commit",
        "rm -r sub/.git",
        "mv .git x",
        "sort -o .git/x y",
    ):
        assert ask(command, Maturity.AUTONOMOUS).rules[0].id == "protected-path"


def test_a_broken_file_of_protected_paths_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "protected.toml"
    assert load_protection(path).problem.startswith("protected.toml: ")
    for text in (
        "x",
        "[[protected]]\nwhy = 'x'\nname = ['a']\n[readable]\n[writable]",
        "[readable]",
        "[[protected]]\nnames=3",
    ):
        path.write_text(text)
        assert load_protection(path).problem.startswith("protected.toml: ")


def test_homes_are_known_without_a_report() -> None:
    decision = ask("cat /home/eve/.config/gcloud/x", Maturity.AUTONOMOUS, facts=Facts())
    assert decision.rules[0].id == "protected-path"
    odd = dataclasses.replace(FACTS, home="/data/people/ada")
    assert ask("cat /data/people/ada/.config/gcloud/x", facts=odd).rules[0].id == "protected-path"
    assert ask("grep -r x /data", facts=odd).rules[0].id == "contains-protected"
