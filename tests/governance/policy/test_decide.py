"""The decision: matrix, allowlist, obligations, environment, grants, and what it says to people."""

import dataclasses
import json

import pytest

from governance.policy.decide import build_policy, check_monotone, decide, policy_problems, refused_env_names
from governance.policy.matrix import SHIPPED_DIRECTORIES, SHIPPED_MATRIX
from governance.policy.plan import Plan
from governance.policy.types import Access, Category, Facts, Grant, Maturity, Outcome, Question

from .cases import FACTS, FOLDER, POLICY, ask, rule_ids

_LETTERS = {"A": Outcome.ALLOW, "?": Outcome.ASK, "D": Outcome.DENY}


@pytest.mark.parametrize(
    ("command", "category", "outcomes"),
    [
        ("ls -la", Category.READ, "??AA"),
        ("cat notes.txt", Category.READ, "??AA"),
        ("grep -rn todo .", Category.READ, "??AA"),
        ("echo /etc/shadow '*' --anything", Category.READ, "??AA"),
        ("cp a b", Category.WRITE, "???A"),
        ("mkdir -p a/b", Category.WRITE, "???A"),
        ("sort a -o b", Category.WRITE, "???A"),
        ("uniq a b", Category.WRITE, "???A"),
        ("make -j4 all", Category.BUILD, "???A"),
        ("python3 run.py --fast", Category.BUILD, "???A"),
        ("npm test", Category.BUILD, "???A"),
        ("python3 --version", Category.READ, "??AA"),
        ("docker ps -a", Category.DEVOPS, "D??A"),
        ("kubectl get pods", Category.DEVOPS, "D??A"),
        ("rm -rf build", Category.DELETE, "D??A"),
        ("find . -name '*.pyc' -delete", Category.DELETE, "D??A"),
        ("curl -s https://example.org", Category.NETWORK, "???A"),
        ("pip install requests", Category.BUILD, "???A"),
        ("git status", Category.READ, "??AA"),
        ("git branch -D old", Category.DELETE, "D??A"),
        ("git commit -m x", Category.BUILD, "???A"),
        ("ls --frobnicate", Category.UNKNOWN, "????"),
        ("date -s now", Category.UNKNOWN, "????"),
        ("python3 -c pass", Category.UNKNOWN, "????"),
        ("unheard-of-program", Category.UNKNOWN, "DD??"),
        ("/bin/ls", Category.READ, "??AA"),
        ("/opt/bin/ls", Category.UNKNOWN, "DD??"),
        ("/usr/bin/sudo ls", Category.BLOCKED, "DDDD"),
        ("./ls", Category.UNKNOWN, "DD??"),
        ("sudo reboot", Category.BLOCKED, "DDDD"),
        ("bash -c ls", Category.BLOCKED, "DDDD"),
        ("env ls", Category.BLOCKED, "DDDD"),
        ("mkfs.ext4 disk.img", Category.BLOCKED, "DDDD"),
        ("systemctl poweroff", Category.BLOCKED, "DDDD"),
    ],
)
def test_the_shipped_matrix(command: str, category: Category, outcomes: str) -> None:
    for maturity, letter in zip(Maturity, outcomes, strict=True):
        decision = ask(command, maturity)
        assert (decision.outcome, decision.category) == (_LETTERS[letter], category), (maturity, decision.rules)
        assert decision.rules[0].outcome is decision.outcome


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        ("unheard-of-program", "not-allowlisted"),
        ("sudo ls", "blocked"),
        ("ls --frobnicate", "unknown-option"),
        ("whoami x", "unknown-operand"),
        ("docker frobnicate", "unknown-subcommand"),
        ("head -n five x", "invalid-value"),
        ("python3 -c pass", "never-read"),
        ("git fetch", "network-untyped"),
        ("cat /srv/other/x", "outside-roots"),
        ("cat .env", "protected-path"),
        ("rm -r /home/ada", "contains-protected"),
        ("rm x", "matrix:delete:SUPERVISED"),
    ],
)
def test_the_rule_that_fired_is_named_first(command: str, rule: str) -> None:
    assert ask(command).rules[0].id == rule


def test_code_runs_only_in_a_sandbox() -> None:
    decision = ask("make", Maturity.AUTONOMOUS)
    assert decision.obligations == ("sandbox",)
    bare = ask("make", Maturity.AUTONOMOUS, facts=dataclasses.replace(FACTS, is_sandboxed=False))
    assert bare.outcome is Outcome.ASK
    assert bare.has_rule("no-sandbox")
    assert bare.obligations == ("sandbox",)
    assert ask("ls", facts=dataclasses.replace(FACTS, is_sandboxed=False)).outcome is Outcome.ALLOW


def test_code_asks_where_its_folders_hold_secrets() -> None:
    decision = ask("make", Maturity.AUTONOMOUS, folder="/home/ada", roots=("/home/ada",))
    assert decision.outcome is Outcome.ASK
    assert decision.has_rule("contains-protected")
    assert ask("ls", Maturity.AUTONOMOUS, folder="/home/ada", roots=("/home/ada",)).outcome is Outcome.ALLOW


def test_the_network_is_an_obligation() -> None:
    assert ask("curl example.org").obligations == ("network",)
    assert ask("pip install x").obligations == ("network", "sandbox")
    assert ask("kubectl get pods").obligations == ("daemon", "network")
    assert ask("docker ps").obligations == ("daemon",)
    assert ask("timedatectl").obligations == ("daemon", "read-only")
    assert ask("ls | wc -l").obligations == ("read-only",)
    assert ask("ls && touch x").obligations == ()


def test_every_token_has_its_role_effect_and_category() -> None:
    decision = ask("sort -uo out.txt -k 2,2 in.txt")
    assert [(token.text, token.role, token.category) for token in decision.tokens] == [
        ("sort", "program", Category.READ),
        ("-uo", "option", Category.READ),
        ("out.txt", "value", Category.WRITE),
        ("-k", "option", Category.READ),
        ("2,2", "value", Category.READ),
        ("in.txt", "operand", Category.READ),
    ]
    assert [token.effect for token in decision.tokens][2] == "writes the result to this file"
    roles = [token.role for token in ask("git --no-pager log -5 HEAD").tokens]
    assert roles == ["program", "option", "subcommand", "option", "operand"]


def test_explanations_are_sentences() -> None:
    allowed = ask("ls")
    assert allowed.explanation == (
        "`ls` lists names and metadata of files (category read). "
        "This is allowed: SUPERVISED agents may run read commands without asking."
    )
    assert allowed.would_allow == ""
    asked = ask("rm old.txt")
    assert "SUPERVISED agents need an approval for delete commands" in asked.explanation
    assert asked.would_allow == "An approver can allow it. AUTONOMOUS agents may run delete commands without asking."
    denied = ask("rm old.txt", Maturity.STUDENT)
    assert denied.would_allow == "INTERN agents may run delete commands with an approval."
    raised = ask("sort a -o b")
    assert "category write, because of `b`" in raised.explanation
    assert ask("sudo ls").would_allow.startswith("Nothing: blocked")
    assert "SUPERVISED" in ask("unheard", Maturity.STUDENT).would_allow
    assert "--frob" in ask("ls --frob").explanation


def test_the_decision_is_json() -> None:
    decision = ask("sort a -o b")
    data = json.loads(json.dumps(decision.to_json()))
    assert data["outcome"] == "ask"
    assert data["policy_version"] == POLICY.version
    assert Plan.from_json(data["plan"]) == decision.plan


def test_grants_of_a_reading_command_are_read_only() -> None:
    decision = ask("cat /proc/cpuinfo")
    assert decision.outcome is Outcome.ALLOW
    assert {grant.access for grant in decision.grants} == {Access.READ}
    paths = {grant.path for grant in decision.grants}
    assert paths == {
        "/tmp",  # noqa: S108
        "/home/ada/Downloads",
        "/home/ada/Documents",
        "/home/ada/Desktop",
        FOLDER,
        FACTS.scratch,
        "/proc/cpuinfo",
    }


def test_grants_of_a_writing_command() -> None:
    decision = ask(f"cp /srv/other/in {FOLDER}/out", Maturity.INTERN)
    assert decision.outcome is Outcome.ASK
    assert Grant(FOLDER, Access.WRITE) in decision.grants
    assert Grant("/srv/other/in", Access.READ) in decision.grants
    assert Grant("/home/ada/Documents", Access.WRITE) in decision.grants
    assert not any(grant.path == "/home/ada/Desktop" for grant in decision.grants)
    assert ask("cat .env").grants == ()


def test_the_scratch_folder_is_granted_first_whatever_else_opens_it() -> None:
    for command, access in (("ls", Access.READ), ("touch x", Access.WRITE)):
        for roots in ((FOLDER,), ("/home/ada",), ("/",)):
            assert ask(command, Maturity.AUTONOMOUS, roots=roots).grants[0] == Grant(FACTS.scratch, access), roots


def test_refused_environment_names() -> None:
    env = {
        **dict.fromkeys(["LD_PRELOAD", "PYTHONPATH", "GIT_DIR", "BASH_ENV", "ENV", "IFS", "PATH", "HOME"], "x"),
        **dict.fromkeys(["NODE_OPTIONS", "PERL5OPT", "RUBYOPT", "pythonstartup", "A=B", "", "1A", "É", "a b"], "x"),
    }
    assert set(refused_env_names(env)) == set(env)
    assert refused_env_names({"LANG": "C", "LC_ALL": "C", "TZ": "UTC", "MY_NAME": "x", "DEBUG": "1"}) == []
    decision = ask("ls", Maturity.AUTONOMOUS, env={"LD_PRELOAD": "/x.so"})
    assert (decision.outcome, decision.rules[0].id) == (Outcome.DENY, "environment")
    assert ask("ls", env={"LANG": "C"}).outcome is Outcome.ALLOW


def test_an_exception_inside_denies() -> None:
    hole = dataclasses.replace(POLICY, matrix={})
    for broken in (hole, dataclasses.replace(POLICY, protection=dataclasses.replace(POLICY.protection, problem="x"))):
        decision = ask("ls", Maturity.AUTONOMOUS, policy=broken)
        assert decision.outcome is Outcome.DENY
        assert rule_ids(decision) == {"engine-error"}
        assert decision.grants == ()
    assert "KeyError" in ask("ls", policy=hole).explanation
    empty = decide(Question(Plan(()), Maturity.AUTONOMOUS, FACTS), POLICY)
    assert empty.has_rule("engine-error")


def test_blocked_is_denied_whatever_the_matrix_says() -> None:
    matrix = dict.fromkeys(SHIPPED_MATRIX, Outcome.ALLOW)
    policy = build_policy(matrix, SHIPPED_DIRECTORIES)
    assert ask("sudo ls", Maturity.AUTONOMOUS, policy=policy).outcome is Outcome.DENY
    assert ask("cat .env", Maturity.AUTONOMOUS, policy=policy).outcome is Outcome.DENY
    assert ask("ls --frob", Maturity.AUTONOMOUS, policy=policy).outcome is Outcome.ASK
    assert ask("ls", Maturity.STUDENT, policy=policy).outcome is Outcome.ALLOW


def test_the_strictest_category_counts_under_any_matrix() -> None:
    matrix = {**SHIPPED_MATRIX, (Category.WRITE, Maturity.AUTONOMOUS): Outcome.DENY}
    decision = ask("find . -delete", Maturity.AUTONOMOUS, policy=build_policy(matrix, SHIPPED_DIRECTORIES))
    assert decision.outcome is Outcome.ALLOW, "the delete row covers what find deletes"
    decision = ask("sort a -o b", Maturity.AUTONOMOUS, policy=build_policy(matrix, SHIPPED_DIRECTORIES))
    assert (decision.outcome, decision.rules[0].id) == (Outcome.DENY, "matrix:write:AUTONOMOUS")


def test_check_monotone() -> None:
    assert check_monotone(SHIPPED_MATRIX) == []
    assert policy_problems(POLICY) == []
    worse = {**SHIPPED_MATRIX, (Category.READ, Maturity.AUTONOMOUS): Outcome.ASK}
    assert check_monotone(worse) == ["read: AUTONOMOUS gets ask, and SUPERVISED gets allow."]
    holed = {key: outcome for key, outcome in SHIPPED_MATRIX.items() if key != (Category.WRITE, Maturity.INTERN)}
    assert check_monotone(holed) == ["write has no outcome for INTERN."]
    opened = {**SHIPPED_MATRIX, (Category.BLOCKED, Maturity.AUTONOMOUS): Outcome.ASK}
    assert check_monotone(opened) == ["blocked is always deny, and AUTONOMOUS gets ask."]


def test_a_host_that_has_not_reported_yet() -> None:
    decision = decide(Question(Plan.simple("ls", "x"), Maturity.SUPERVISED, Facts()), POLICY)
    assert decision.outcome is Outcome.ALLOW
    assert all(grant.path == "/tmp" for grant in decision.grants)  # noqa: S108
    outside = decide(Question(Plan.simple("cat", "../x"), Maturity.SUPERVISED, Facts()), POLICY)
    assert outside.has_rule("outside-roots")
    assert (
        decide(Question(Plan.simple("cat", "/etc/shadow"), Maturity.AUTONOMOUS, Facts()), POLICY).outcome
        is Outcome.DENY
    )


def test_a_plan_of_several_commands_gets_the_strictest() -> None:
    plan = Plan((*Plan.simple("ls").steps, *Plan.simple("rm", "x").steps))
    decision = decide(Question(plan, Maturity.SUPERVISED, FACTS, FOLDER, {}, (FOLDER,)), POLICY)
    assert (decision.outcome, decision.category) == (Outcome.ASK, Category.DELETE)
    assert [token.text for token in decision.tokens] == ["ls", "rm", "x"]
