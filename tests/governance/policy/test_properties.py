"""What holds for every command and plan: no crash, more maturity is never stricter, one more word is never milder."""

import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.policy.decide import decide
from governance.policy.entries import Entry
from governance.policy.plan import Command, Join, Mode, Part, PartKind, Plan, Redirect, Step, Word
from governance.policy.types import Decision, Facts, Maturity, Outcome, Question

from .cases import FACTS, FOLDER, POLICY, ask


def everything(entries: list[Entry]) -> list[Entry]:
    """Return entries and all their subcommands."""
    return [one for entry in entries for one in (entry, *everything(list(entry.subcommands.values())))]


_ENTRIES = everything(list(POLICY.tables.programs.values()))
_PROGRAMS = st.sampled_from(sorted(POLICY.tables.programs))
_OPTIONS = sorted({name for entry in _ENTRIES for name in entry.options})
_SUBCOMMANDS = sorted({name for entry in _ENTRIES for name in entry.subcommands})
_WORDS = st.one_of(
    st.sampled_from(_OPTIONS),
    st.sampled_from(_OPTIONS).map(lambda name: name[: max(2, len(name) - 2)]),
    st.sampled_from(_SUBCOMMANDS),
    st.sampled_from(
        ["a", ".", "-", "--", "/etc/passwd", ".env", "3", "-5", "x=y", "https://x.org", "-uoF", "--o=b", "", "+x", "@a"]
    ),
    st.text(max_size=8),
)
_COMMANDS = st.tuples(_PROGRAMS | st.text(min_size=1, max_size=6), st.lists(_WORDS, max_size=5)).map(
    lambda pair: [pair[0], *pair[1]]
)
_PARTS = st.one_of(
    st.text(min_size=1, max_size=5).map(lambda text: Part(PartKind.TEXT, text)),
    st.sampled_from(["*", "?", "[a-c]"]).map(lambda glob: Part(PartKind.GLOB, glob)),
    st.sampled_from(["HOME", "PWD", "USER"]).map(lambda name: Part(PartKind.VARIABLE, name)),
)
_ANY_WORDS = _WORDS.map(Word.of) | st.lists(_PARTS, min_size=1, max_size=3).map(lambda parts: Word(tuple(parts)))
_REDIRECTS = st.one_of(
    st.tuples(st.sampled_from([Mode.READ, Mode.WRITE, Mode.APPEND]), _ANY_WORDS).map(
        lambda pair: Redirect(1, pair[0], pair[1])
    ),
    st.just(Redirect(2, Mode.COPY, 1)),
)
_PLAN_COMMANDS = st.builds(
    lambda program, words, redirects: Command((Word.of(program), *words), tuple(redirects)),
    _PROGRAMS | st.sampled_from(["cd", "cd", "timeout", "test", "unheard"]),
    st.lists(_ANY_WORDS, max_size=4),
    st.lists(_REDIRECTS, max_size=2),
)
_STEPS = st.builds(
    lambda pipeline, join, is_negated: Step(tuple(pipeline), join, is_negated),
    st.lists(_PLAN_COMMANDS, min_size=1, max_size=3),
    st.sampled_from([Join.AND, Join.OR, Join.THEN]),
    st.booleans(),
)
_PLANS = st.lists(_STEPS, min_size=1, max_size=4).map(lambda steps: Plan(tuple(steps)))


def option_may_lower(name: str) -> bool:
    """Return whether some table says that less is done with this option, alone or with its own row of operands."""
    options = [entry.options[name] for entry in _ENTRIES if name in entry.options]
    return any(option.alone or option.mode or option.operands is not None for option in options)


#: With these words a table says that less is done, or that what follows is read in another way.
_MILDER = frozenset(name for name in _OPTIONS if option_may_lower(name))


def decided(
    plan: Plan, maturity: Maturity = Maturity.AUTONOMOUS, facts: Facts = FACTS, folder: str = FOLDER
) -> Decision:
    """Return the decision on a plan of an agent whose own folder is FOLDER."""
    return decide(Question(plan, maturity, facts, folder, {}, (FOLDER,)), POLICY)


def assert_sound(decision: Decision) -> None:
    """Assert what every decision keeps to."""
    assert not decision.has_rule("engine-error"), decision.explanation
    assert decision.outcome is max((rule.outcome for rule in decision.rules), key=lambda outcome: outcome.strictness)
    assert decision.explanation.endswith(".")
    assert all(grant.path.startswith("/") and "\0" not in grant.path for grant in decision.grants)
    assert decision.tokens[decision.raised_by].category is decision.category
    assert all(token.effect for token in decision.tokens)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(_COMMANDS, st.sampled_from(Maturity), st.text(max_size=12), st.booleans())
def test_no_command_crashes_the_engine(argv: list[str], maturity: Maturity, folder: str, has_facts: bool) -> None:
    decision = decided(Plan.simple(*argv), maturity, FACTS if has_facts else Facts(), folder)
    assert_sound(decision)
    assert [token.text for token in decision.tokens] == argv


@settings(derandomize=True, max_examples=80, deadline=None)
@given(_PLANS, st.booleans())
def test_no_plan_crashes_the_engine_and_more_maturity_is_never_stricter(plan: Plan, has_facts: bool) -> None:
    decisions = [decided(plan, maturity, FACTS if has_facts else Facts()) for maturity in Maturity]
    for decision in decisions:
        assert_sound(decision)
        words = sum(len(command.argv) + len(command.redirects) for command in plan.commands())
        assert len(decision.tokens) == words
    outcomes = [decision.outcome.strictness for decision in decisions]
    assert outcomes == sorted(outcomes, reverse=True)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(_COMMANDS)
def test_more_maturity_is_never_stricter(argv: list[str]) -> None:
    outcomes = [decided(Plan.simple(*argv), maturity).outcome.strictness for maturity in Maturity]
    assert outcomes == sorted(outcomes, reverse=True)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(_COMMANDS, _WORDS)
def test_one_more_word_never_lowers_the_category(argv: list[str], word: str) -> None:
    if _MILDER & {word, *argv} or any(
        set(name[1:]) & set(word) for name in _MILDER if word[:1] == "-" and len(name) == 2
    ):
        return
    before, after = (decided(Plan.simple(*words)) for words in (argv, [*argv, word]))
    missing = {"invalid-value", "unknown-operand", "never-read", "needs-option"}
    if any(before.has_rule(rule) for rule in missing):
        return  # the word may be the value, operand or option that was missing
    assert after.category.severity >= before.category.severity


@settings(derandomize=True, max_examples=50, deadline=None)
@given(_PLANS, _STEPS)
def test_one_more_step_never_makes_a_plan_milder(plan: Plan, step: Step) -> None:
    before, after = decided(plan), decided(Plan((*plan.steps, step)))
    assert after.outcome.strictness >= before.outcome.strictness
    assert after.category.severity >= before.category.severity


@settings(derandomize=True, max_examples=50, deadline=None)
@given(_PLANS, _REDIRECTS)
def test_one_more_redirect_never_makes_a_plan_milder(plan: Plan, redirect: Redirect) -> None:
    first = plan.steps[0]
    command = first.pipeline[-1]
    longer = Command(command.argv, (*command.redirects, redirect))
    more = Plan((Step((*first.pipeline[:-1], longer), first.join, first.is_negated), *plan.steps[1:]))
    before, after = decided(plan), decided(more)
    assert after.outcome.strictness >= before.outcome.strictness
    assert after.category.severity >= before.category.severity


@pytest.mark.parametrize(
    "spellings",
    [
        ["rm x", "'rm' x", '"rm" x', "r\\m x", "r''m x", "r\"m\" 'x'"],
        ["cat .env", "cat '.env'", 'cat ".e"nv', "cat .\\env", "cat ''.env"],
        ["cat ~/x", "cat ~/'x'", 'cat ~/"x"'],
        ["cat $HOME/x", 'cat "$HOME/x"', 'cat "$HOME"/x', "cat $HOME'/x'"],
        ["cat /etc/shadow", "cat /etc/'shadow'", "cat /e\\tc/sh'a'dow"],
        ["sort -o out a", "sort -'o' out a", "sort '-o' out a", "sort -\\o out a"],
    ],
)
def test_words_are_judged_by_what_they_are_not_by_their_quotes(spellings: list[str]) -> None:
    decisions = {(ask(text).outcome, ask(text).category, ask(text).rules, ask(text).grants) for text in spellings}
    assert len(decisions) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat /etc//passwd", "cat /etc/passwd"),
        ("cat /etc/./passwd", "cat /etc/passwd"),
        ("cat /tmp/../etc/passwd", "cat /etc/passwd"),
        ("cat //etc/passwd", "cat /etc/passwd"),
        ("cat /srv/agent/x/../../../etc/shadow", "cat /etc/shadow"),
        ("cat /proc/self/root/etc/shadow", "cat /proc/1/mem"),
        ("cat ~/.SSH/id", "cat ~/.ssh/id"),
        ("cat .ENV", "cat .env"),
        ("cat /ETC/SHADOW", "cat /etc/shadow"),
        ("cat /HOME/ADA/.Docker/config.json", "cat /home/ada/.docker/config.json"),
        ("cat ~/.docker/./config.json", "cat ~/.docker/config.json"),
        ("cat /OPT/Atom/x", "cat /opt/atom/x"),
    ],
)
def test_other_spellings_of_a_path_change_nothing(one: str, other: str) -> None:
    assert ask(one).outcome is ask(other).outcome
    assert {rule.id for rule in ask(one).rules} == {rule.id for rule in ask(other).rules}


def test_no_input_of_the_greatest_size_takes_long() -> None:
    """256 words and 8 KiB in each of the shapes that cost most; the figures are `make bench`'s."""
    heavy = [
        Plan.simple("cat", *["/" + "a/" * 14] * 255),
        Plan.simple("cat", *["../" * 10] * 255),
        Plan(
            (
                Step(
                    (
                        Command(
                            (Word.of("cat"), *[Word((Part(PartKind.GLOB, "*"), Part(PartKind.TEXT, "a")) * 12)] * 255)
                        ),
                    )
                ),
            )
        ),
        Plan.simple("unheard", *["a=@:/b"] * 255),
        Plan.simple("sed", "s/a/b/;" * 1100),
        Plan.simple("sed", *[word for number in range(127) for word in ("-e", f"s/a/b/w o{number}")]),
        Plan.simple("sed", "-n", "\n".join(f"w {number}" for number in range(1200))),
        Plan.simple("awk", "{print $1}" * 800),
        Plan.simple("jq", "." + "|.a" * 2600),
        Plan(
            tuple(
                Step(
                    (Command.of("cd", f"d{number}"), Command.of("cp", "-r", *"abcde", f"x{number}"))[number % 2 :],
                    Join.THEN,
                )
                for number in range(32)
            )
        ),
    ]
    for plan in heavy:
        best = min(_seconds(plan) for _ in range(3))
        # What is slow by its shape takes seconds; who measures coverage slows all of it several times.
        assert best < (0.05 if sys.gettrace() is None else 0.5), (best, plan.source()[:60])


def _seconds(plan: Plan) -> float:
    started = time.perf_counter()
    decision = decided(plan, Maturity.SUPERVISED)
    assert decision.outcome in Outcome
    return time.perf_counter() - started
