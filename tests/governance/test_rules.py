"""Operators' rules as values: what a pattern matches, which rules fire, and what a grant never lifts."""

import json
from collections.abc import Mapping

import pytest

from governance.policy.decide import build_policy, policy_of
from governance.policy.matrix import SHIPPED_DIRECTORIES, SHIPPED_MATRIX
from governance.policy.parse import parse_argv, parse_text
from governance.policy.plan import Command, Mode, Part, PartKind, Plan, Redirect, Word
from governance.policy.proving import example_problems
from governance.policy.rules import Fired, OperatorRule, Pattern, PatternError, RuledCommand, fire
from governance.policy.types import Category, Decision, Facts, Maturity, Outcome, Question
from tests.governance.policy.cases import FACTS, FOLDER, POLICY, ask, rule_ids

GLOB = Word((Part(PartKind.GLOB, "*"),))
HOME = Word((Part(PartKind.VARIABLE, "HOME"),))


def rule(
    tokens: str,
    outcome: Outcome = Outcome.ALLOW,
    *,
    name: str = "",
    whole: bool = False,
    scope: Mapping[str, object] | None = None,
) -> OperatorRule:
    data = {
        "tokens": tokens,
        "outcome": str(outcome),
        "justification": "Because.",
        "whole": whole,
        "scope": scope or {},
    }
    return OperatorRule.from_json({**data, "name": name or tokens})


def decided(
    command: str, *rules: OperatorRule, maturity: Maturity = Maturity.SUPERVISED, **options: object
) -> Decision:
    return ask(command, maturity, policy=build_policy(rules=rules), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "command", "is_match"),
    [
        ("touch", "touch a", True),
        ("touch a|b", "touch b c", True),
        ("touch a|b", "touch c", False),
        ("touch a", "touch", False),
        ("touch 'a b'", "touch 'a b'", True),
        ("touch 'a b'", "touch a b", False),
        ("touch|mkdir a", "mkdir a", True),
        ("touch ''", "touch ''", True),
        ("*", "anything at all", True),
        ("touch '*'", "touch '*'", True),
    ],
)
def test_a_pattern_is_what_a_command_starts_with(pattern: str, command: str, is_match: bool) -> None:
    (read,) = parse_text(command).commands()
    assert Pattern.read(pattern).matches(read) is is_match
    assert Pattern.read(Pattern.read(pattern).source()) == Pattern.read(pattern)


def test_a_whole_pattern_lets_nothing_follow() -> None:
    pattern = Pattern.read("git push origin", is_whole=True)
    assert pattern.matches(Command.of("git", "push", "origin"))
    assert not pattern.matches(Command.of("git", "push", "origin", "--force"))


@pytest.mark.parametrize("word", [GLOB, HOME])
def test_a_word_that_the_host_fills_in_matches_no_text(word: Word) -> None:
    command = Command((Word.of("touch"), word))
    for text in ("touch '*'", "touch '$HOME'", "touch HOME", "touch ''"):
        assert not Pattern.read(text).matches(command)


@pytest.mark.parametrize(
    "text", ["", "  ", "git |push", "git push|", "git a||b", "git 'a", "/bin/git", "git a'b'", "''"]
)
def test_a_pattern_that_cannot_be_read(text: str) -> None:
    with pytest.raises(PatternError):
        Pattern.read(text)


def test_what_a_rule_is_made_of_is_kept() -> None:
    made = rule(
        "git push|fetch 'a b'",
        Outcome.DENY,
        whole=True,
        scope={
            "agents": ["a"],
            "hosts": ["h"],
            "least_maturity": "INTERN",
            "most_maturity": "SUPERVISED",
            "directories": ["~/x"],
        },
    )
    assert OperatorRule.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    "data",
    [
        {"tokens": "ls", "outcome": "maybe", "justification": "x"},
        {"tokens": "ls", "outcome": "deny"},
        {"tokens": "ls", "outcome": "deny", "justification": "x", "scope": {"agent": ["a"]}},
        {"tokens": "ls", "outcome": "deny", "justification": "x", "scope": {"agents": "a"}},
        {"tokens": "ls", "outcome": "deny", "justification": "x", "scope": {"least_maturity": "BOSS"}},
        {"tokens": "ls", "outcome": "deny", "justification": "x", "prefix": "ls"},
        {"tokens": "*", "outcome": "allow", "justification": "x"},
    ],
)
def test_what_is_no_rule(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        OperatorRule.from_json(data)


@pytest.mark.parametrize(
    ("scope", "fires"),
    [
        ({}, True),
        ({"agents": ["atom"]}, True),
        ({"agents": ["other"]}, False),
        ({"hosts": ["here"]}, True),
        ({"hosts": ["there"]}, False),
        ({"least_maturity": "SUPERVISED", "most_maturity": "SUPERVISED"}, True),
        ({"least_maturity": "AUTONOMOUS"}, False),
        ({"most_maturity": "INTERN"}, False),
        ({"directories": ["/srv"]}, True),
        ({"directories": ["/srv/agen"]}, False),
        ({"directories": ["~/work", "/srv/agent"]}, True),
    ],
)
@pytest.mark.parametrize("outcome", Outcome)
def test_a_scope(outcome: Outcome, scope: dict[str, object], fires: bool) -> None:
    question = Question(Plan.simple("touch", "a"), Maturity.SUPERVISED, FACTS, FOLDER, agent="atom", host="here")
    fired = fire([rule("touch", outcome, scope=scope)], question, [touch(FOLDER)])
    assert bool(fired.rules) is fires


def touch(*folders: str, **changes: object) -> RuledCommand:
    values = {
        "command": Command.of("touch", "a"),
        "folders": folders,
        "categories": frozenset([Category.WRITE]),
        "objections": frozenset(["matrix:write:SUPERVISED"]),
    }
    return RuledCommand(**{**values, **changes})  # type: ignore[arg-type]


def fired(*commands: RuledCommand, rules: tuple[OperatorRule, ...]) -> Fired:
    return fire(rules, Question(Plan.simple("touch"), Maturity.SUPERVISED, Facts(home="/home/ada")), commands)


def test_of_several_folders_a_grant_needs_all_and_a_denial_one() -> None:
    grant, denial = (
        rule("touch", outcome, scope={"directories": ["~/a"]}) for outcome in (Outcome.ALLOW, Outcome.DENY)
    )
    for folders, is_granted, is_denied in (
        (("/home/ada/a", "/home/ada/a/b"), True, True),
        (("/home/ada/a", "/home/ada/ab"), False, True),
        (("/home/ada/ab",), False, False),
        ((), False, True),
    ):
        assert fired(touch(*folders), rules=(grant,)).is_granted is is_granted
        assert bool(fired(touch(*folders), rules=(denial,)).rules) is is_denied


@pytest.mark.parametrize(
    "change",
    [
        {"categories": frozenset([Category.BUILD])},
        {"categories": frozenset([Category.NETWORK, Category.BUILD])},
        {"categories": frozenset([Category.UNKNOWN])},
        {"categories": frozenset([Category.BLOCKED])},
        {"objections": frozenset(["matrix:write:SUPERVISED", "unknown-option"])},
        {"objections": frozenset(["never-read"])},
        {"is_wrapped": True},
        {"command": Command((Word.of("touch"),), (Redirect(1, Mode.WRITE, Word.of("b")),))},
        {"command": Command((Word.of("touch"),), (Redirect(1, Mode.APPEND, Word.of("b")),))},
    ],
)
def test_what_no_grant_covers(change: dict[str, object]) -> None:
    grant = rule("touch")
    assert fired(touch("/x"), rules=(grant,)).is_granted
    assert fired(touch("/x", **change), rules=(grant,)) == Fired()
    assert fired(touch("/x"), touch("/x", **change), rules=(grant,)) == Fired()


def test_grants_must_cover_every_command_that_asks() -> None:
    grant = rule("touch")
    reads = RuledCommand(Command.of("ls"), ("/x",), frozenset([Category.READ]))
    asks = touch("/x", command=Command.of("mkdir", "b"))
    assert fired(reads, touch("/x"), rules=(grant,)).is_granted
    assert not fired(asks, touch("/x"), rules=(grant,)).is_granted
    assert [one.id for one in fired(asks, touch("/x"), rules=(grant, rule("mkdir"))).rules] == [
        "operator:mkdir",
        "operator:touch",
    ]
    assert not fired(reads, rules=(grant,)).is_granted, "there is nothing to lift"


def test_the_strictest_rule_wins_and_no_grant_lifts_another_rule() -> None:
    rules = (rule("touch"), rule("touch a", Outcome.ASK), rule("touch", Outcome.DENY, name="no"))
    found = fired(touch("/x"), rules=rules)
    assert [(one.id, one.outcome) for one in found.rules] == [
        ("operator:no", Outcome.DENY),
        ("operator:touch a", Outcome.ASK),
    ]
    assert not found.is_granted


def test_a_denial_takes_a_program_by_any_path_and_a_grant_by_its_name_only() -> None:
    by_path = touch("/x", command=Command.of("/usr/bin/touch", "a"))
    assert fired(by_path, rules=(rule("touch", Outcome.DENY),)).rules
    assert not fired(by_path, rules=(rule("touch"),)).rules


# In a decision.


def test_a_grant_lifts_a_row_of_the_matrix_that_asks() -> None:
    decision = decided("touch note", rule("touch note"))
    assert decision.outcome is Outcome.ALLOW
    assert rule_ids(decision) == {"operator:touch note"}
    assert "Because." in decision.explanation
    assert decision.would_allow == ""


@pytest.mark.parametrize(
    ("command", "maturity", "outcome", "because"),
    [
        ("rm note", Maturity.STUDENT, Outcome.DENY, "matrix:delete:STUDENT"),
        ("touch /srv/other/note", Maturity.SUPERVISED, Outcome.ASK, "outside-roots"),
        ("touch .git/hooks/x", Maturity.SUPERVISED, Outcome.DENY, "protected-path"),
        ("touch --nonesuch note", Maturity.SUPERVISED, Outcome.ASK, "unknown-option"),
        ("make all", Maturity.SUPERVISED, Outcome.ASK, "matrix:build:SUPERVISED"),
        ("nonesuch note", Maturity.SUPERVISED, Outcome.ASK, "not-allowlisted"),
        ("nonesuch note", Maturity.STUDENT, Outcome.DENY, "not-allowlisted"),
        ("python3 -c 1", Maturity.SUPERVISED, Outcome.ASK, "never-read"),
        ("sudo ls", Maturity.AUTONOMOUS, Outcome.DENY, "blocked"),
    ],
)
def test_what_a_grant_never_lifts(command: str, maturity: Maturity, outcome: Outcome, because: str) -> None:
    program = command.split(maxsplit=1)[0]
    decision = decided(command, rule(program), maturity=maturity)
    assert decision.outcome is outcome
    assert decision.has_rule(because), decision.rules
    assert decision.outcome is decided(command, maturity=maturity).outcome


def test_a_rule_that_asks_or_denies_is_stricter_than_the_matrix() -> None:
    for outcome in (Outcome.ASK, Outcome.DENY):
        decision = decided("ls .", rule("ls", outcome), maturity=Maturity.AUTONOMOUS)
        assert decision.outcome is outcome
        assert decision.explanation.endswith("ls: Because.")
        assert decision.would_allow


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("touch a && touch b", Outcome.ALLOW),
        ("cat a | head && touch b", Outcome.ALLOW),
        ("touch a; mkdir b", Outcome.ASK),
        ("touch a > b", Outcome.ASK),
        ("touch a 2>&1", Outcome.ALLOW),
        ("timeout 5 touch a", Outcome.ASK),
        ("cat a > b && touch c", Outcome.ASK),
    ],
)
def test_a_grant_in_a_plan(command: str, outcome: Outcome) -> None:
    assert decided(command, rule("touch")).outcome is outcome


@pytest.mark.parametrize(
    "command", ["ls | cat a", "timeout 5 cat a", "ls && nice cat a", "/bin/cat a", "ls; ls || cat a > b"]
)
def test_a_denial_in_a_plan(command: str) -> None:
    assert decided(command, rule("cat", Outcome.DENY), maturity=Maturity.AUTONOMOUS).outcome is Outcome.DENY


def test_a_grant_of_a_folder_is_for_every_folder_that_a_plan_may_stand_in() -> None:
    grant = rule("touch", scope={"directories": [f"{FOLDER}/notes"]})
    assert decided("cd notes && touch a", grant).outcome is Outcome.ALLOW
    for command in ("touch a", "cd notes; touch a", "cd notes && cd .. && touch a", "cd notes | touch a"):
        assert decided(command, grant).outcome is Outcome.ASK, command


def test_the_version_of_a_policy_is_of_its_rules_too() -> None:
    versions = {
        policy_of(SHIPPED_MATRIX, SHIPPED_DIRECTORIES, POLICY.tables, POLICY.protection, rules).version
        for rules in (
            [],
            [rule("ls")],
            [rule("ls", Outcome.DENY)],
            [rule("ls", scope={"agents": ["a"]})],
            [rule("ls", name="b")],
        )
    }
    assert len(versions) == 5


# Examples.


@pytest.mark.parametrize(
    ("tokens", "outcome", "examples", "refuses", "said"),
    [
        ("touch", Outcome.ALLOW, ["touch a"], ["mkdir a"], []),
        ("touch", Outcome.DENY, ["touch a", "/bin/touch a"], ["mkdir touch"], []),
        ("touch", Outcome.ALLOW, ["mkdir a"], [], ["It must match"]),
        ("touch", Outcome.DENY, [], ["touch a"], ["It must not match"]),
        ("touch", Outcome.ALLOW, ["touch .env"], [], ["cannot cover it: protected-path"]),
        ("make", Outcome.ALLOW, ["make all"], [], ["cannot cover it: matrix:build"]),
        ("touch", Outcome.DENY, ["touch 'a"], [], ["It cannot be read"]),
        ("touch", Outcome.ALLOW, ["touch a"], ["touch a", "touch b"], ["It must not match"] * 2),
    ],
)
def test_examples(tokens: str, outcome: Outcome, examples: list[str], refuses: list[str], said: list[str]) -> None:
    scope = {"agents": ["a"], "hosts": ["h"], "least_maturity": "INTERN", "directories": ["~/work"]}
    problems = example_problems(rule(tokens, outcome, scope=scope), examples, refuses, POLICY)
    assert len(problems) == len(said)
    for (_text, why), expected in zip(problems, said, strict=True):
        assert expected in why


def test_every_argument_of_a_list_is_text_to_a_rule() -> None:
    (command,) = parse_argv(["touch", "*"]).commands()
    assert Pattern.read("touch '*'").matches(command)
