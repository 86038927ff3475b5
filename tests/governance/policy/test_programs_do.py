"""Programs that do things: what they are taken for, and the ways around that are closed."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest

from governance.policy.syntax import CommandSyntaxError
from governance.policy.types import Category, Maturity, Outcome

from .cases import POLICY, ask, rule_ids

CORPUS: Final = Path(__file__).with_name("corpus") / "do.jsonl"
_ROWS: Final = [json.loads(line) for line in CORPUS.read_text().splitlines()]
#: Told apart from what is only listed: these are at least blocked, whatever stands behind them.
_BLOCKED: Final = """
sudo su doas chmod chown chgrp chattr setfacl kill killall pkill dd mkfs mkfs.xfs mount umount fdisk parted reboot
shutdown halt poweroff init telinit iptables nft ufw usermod useradd userdel groupadd passwd chpasswd visudo insmod
modprobe swapon losetup chroot unshare nsenter setcap sh bash zsh dash fish ksh busybox env xargs parallel watch
script screen tmux expect gdb strace ltrace vi vim nano emacs ed ftp tftp socat telnet crontab at batch systemd-run
"""
_FAMILIES: Final = """
pip uv npm npx pnpm yarn node python python3 pytest ruff mypy black tox nox poetry make cmake ninja cargo rustc go gcc
g++ clang java javac mvn gradle docker docker-compose podman kubectl helm terraform ansible ansible-playbook systemctl
service journalctl dmesg curl wget http ping traceroute dig host nslookup whois ss netstat ip ifconfig nc ncat ssh scp
sftp rsync psql mysql sqlite3 redis-cli mongosh apt apt-get apt-cache dpkg dnf yum brew snap gh aws gcloud az perl
ruby php lua tclsh sysctl
"""


@pytest.mark.parametrize("family", dict.fromkeys(row["note"] for row in _ROWS))
def test_the_corpus(family: str) -> None:
    wrong = [
        (row["command"], row["maturity"], row["expect"], outcome)
        for row in _ROWS
        if row["note"] == family
        and (outcome := _outcome(row["command"], Maturity(row["maturity"]), row["working_directory"])) != row["expect"]
    ]
    assert wrong == []


def _outcome(command: str, maturity: Maturity, folder: str) -> str:
    try:
        return ask(command, maturity, folder=folder).outcome
    except CommandSyntaxError:
        return "400"


def test_every_program_of_the_families_is_listed() -> None:
    assert [name for name in _FAMILIES.split() if POLICY.tables.find(name) is None] == []
    for name in _BLOCKED.split():
        for argv in ([name], [name, "--help"], [name, "x", "-y"], ["uv", "run", name, "x"], [f"/usr/bin/{name}"]):
            assert ask(argv, Maturity.AUTONOMOUS).outcome is Outcome.DENY, argv


def test_nothing_but_reading_is_allowed_below_autonomous() -> None:
    for row in _ROWS:
        for maturity in (Maturity.STUDENT, Maturity.INTERN, Maturity.SUPERVISED):
            if _outcome(row["command"], maturity, row["working_directory"]) == Outcome.ALLOW:
                assert ask(row["command"], maturity).category is Category.READ, row["command"]


def _spellings(command: str) -> Iterator[list[str]]:
    """Yield a command with its long options cut short and its words glued and in another order."""
    argv = command.split()
    for place, word in enumerate(argv):
        if word.startswith("--") and len(word) > 5:
            name, equals, value = word.partition("=")
            yield [*argv[:place], name[:-1] + equals + value, *argv[place + 1 :]]
            yield [*argv[:place], name, *([value] if equals else []), *argv[place + 1 :]]
        if len(word) == 2 and word[0] == "-" and place + 1 < len(argv):
            yield [*argv[:place], word + argv[place + 1], *argv[place + 2 :]]
            yield [*argv[:place], f"-v{word[1]}", *argv[place + 1 :]]
    yield [argv[0], *argv[:0:-1]]
    yield [f"./{argv[0]}", *argv[1:]]


@pytest.mark.parametrize("family", dict.fromkeys(row["note"] for row in _ROWS))
def test_another_spelling_is_never_allowed(family: str) -> None:
    refused = {row["command"] for row in _ROWS if row["note"] == family and row["expect"] != "allow"}
    plain = [command for command in sorted(refused) if not set(command) & set("\"'{;")]
    by_command = groupby(
        sorted((command, argv) for command in plain for argv in _spellings(command)), lambda pair: pair[0]
    )
    for command, spellings in by_command:
        for _, argv in spellings:
            decision = ask(argv)
            assert decision.outcome is not Outcome.ALLOW or decision.category is Category.READ, (command, argv)


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        ("docker run alpine", "outside-sandbox"),
        ("ssh web ls", "outside-sandbox"),
        ("docker inspect web", "shows-secrets"),
        ("kubectl describe pod web", "shows-secrets"),
        ("npx x", "network-untyped"),
        ("pip install 'x @ git+http://127.1/y'", "protected-host"),
        ("npm i github:a/b", "invalid-value"),
        ("sqlite3 db 'select 1'", "never-read"),
        ("wget https://example.org/x", "needs-option"),
        ("systemctl start poweroff.target", "invalid-value"),
        ("curl http://127.0.0.1/", "protected-host"),
        ("sysctl -w x=1", "blocked"),
    ],
)
def test_the_rule_says_why(command: str, rule: str) -> None:
    assert rule in rule_ids(ask(command, Maturity.AUTONOMOUS))


@pytest.mark.parametrize(
    ("command", "obligations"),
    [
        ("curl https://example.org", {"network"}),
        ("make", {"sandbox"}),
        ("npm test", {"sandbox"}),
        ("npm install x", {"network", "sandbox"}),
        ("kubectl get pods", {"daemon", "network"}),
        ("rsync -a src/ copy/", set()),
        ("ss -tulpn", {"read-only"}),
    ],
)
def test_the_network_is_closed_to_what_does_not_need_it(command: str, obligations: set[str]) -> None:
    assert set(ask(command, Maturity.AUTONOMOUS).obligations) == obligations


def test_a_script_s_file_is_named_for_the_host() -> None:
    assert ask("python3 tools/a.py --x").scripts == ("/srv/agent/tools/a.py",)
    assert ask("make -f build.mk").scripts == ("/srv/agent/build.mk",)
    assert ask("make all").scripts == tuple(f"/srv/agent/{name}" for name in ("GNUmakefile", "makefile", "Makefile"))
    assert ask("make --version").scripts == ()
    assert ask("ninja -C out").scripts == ("/srv/agent/out/build.ninja",)
    assert ask("make -C sub -f build.mk").scripts == ("/srv/agent/sub/build.mk",)
    assert ask("make -f build.mk -C sub", Maturity.AUTONOMOUS).has_rule("invalid-value")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("systemctl list-units", "DBUS_SYSTEM_BUS_ADDRESS"),
        ("rpm -qa", "RPM_CONFIGDIR"),
        ("apt list", "APT_CONFIG"),
        ("clang --version", "CCC_OVERRIDE_OPTIONS"),
        ("ping example.org", "MTR_PACKET"),
        ("curl https://example.org", "SSLKEYLOGFILE"),
        ("go build", "GOTOOLCHAIN"),
        ("rsync -a a b", "RSYNC_RSH"),
    ],
)
def test_a_variable_that_names_a_program_is_refused(command: str, name: str) -> None:
    assert ask(command, Maturity.AUTONOMOUS, env={name: "x"}).has_rule("environment")
