"""What holds for every command: no crash, more maturity is never stricter, one more word is never milder."""

from hypothesis import given, settings
from hypothesis import strategies as st

from governance.policy.decide import decide
from governance.policy.plan import Plan
from governance.policy.types import Facts, Maturity, Outcome, Question

from .cases import FACTS, FOLDER, POLICY, ask

_PROGRAMS = st.sampled_from(sorted(POLICY.tables.programs))
_OPTIONS = sorted({name for entry in POLICY.tables.programs.values() for name in entry.options})
_SUBCOMMANDS = sorted({name for entry in POLICY.tables.programs.values() for name in entry.subcommands})
_WORDS = st.one_of(
    st.sampled_from(_OPTIONS),
    st.sampled_from(_SUBCOMMANDS),
    st.sampled_from(
        ["a", ".", "-", "--", "/etc/passwd", ".env", "3", "-5", "x=y", "https://x.org", "-uoF", "--o=b", ""]
    ),
    st.text(max_size=8),
)
_COMMANDS = st.tuples(_PROGRAMS | st.text(min_size=1, max_size=6), st.lists(_WORDS, max_size=5)).map(
    lambda pair: [pair[0], *pair[1]]
)
#: With these words a table says that less is done.
_MILDER = {"--help", "--version", "-h", "-v", "-V", "-VV", "-help", "-version", "-l", "--list"}


@settings(derandomize=True, max_examples=400, deadline=None)
@given(_COMMANDS, st.sampled_from(Maturity), st.text(max_size=12), st.booleans())
def test_no_command_crashes_the_engine(argv: list[str], maturity: Maturity, folder: str, has_facts: bool) -> None:
    facts = FACTS if has_facts else Facts()
    decision = decide(Question(Plan.simple(*argv), maturity, facts, folder, {}, (FOLDER,)), POLICY)
    assert not decision.has_rule("engine-error"), decision.explanation
    assert decision.outcome is max((rule.outcome for rule in decision.rules), key=lambda outcome: outcome.strictness)
    assert [token.text for token in decision.tokens] == argv
    assert decision.explanation.endswith(".")
    assert all(grant.path.startswith("/") and "\0scratch" not in grant.path for grant in decision.grants)


@settings(derandomize=True, max_examples=250, deadline=None)
@given(_COMMANDS)
def test_more_maturity_is_never_stricter(argv: list[str]) -> None:
    outcomes = [
        decide(Question(Plan.simple(*argv), maturity, FACTS, FOLDER, {}, (FOLDER,)), POLICY).outcome.strictness
        for maturity in Maturity
    ]
    assert outcomes == sorted(outcomes, reverse=True)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(_COMMANDS, _WORDS)
def test_one_more_word_never_lowers_the_category(argv: list[str], word: str) -> None:
    if _MILDER & {word, *argv}:
        return
    before, after = (
        decide(Question(Plan.simple(*words), Maturity.AUTONOMOUS, FACTS, FOLDER, {}, (FOLDER,)), POLICY)
        for words in (argv, [*argv, word])
    )
    missing = {"invalid-value", "unknown-operand", "never-read"}
    if any(before.has_rule(rule) for rule in missing):
        return  # the word may be the value or operand that was missing
    assert after.category.severity >= before.category.severity


def test_a_name_is_judged_by_its_bytes_not_by_its_quotes() -> None:
    spellings = ["rm x", "'rm' x", '"rm" x', "r\\m x", "r''m x", "r\"m\" 'x'"]
    decisions = {(ask(text).outcome, ask(text).plan, ask(text).rules) for text in spellings}
    assert len(decisions) == 1
    assert ask("rm x").outcome is Outcome.ASK
