"""Lines to plans: structure, redirects in the order in which they take effect, and the way back to text and JSON."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.policy.grammar import build
from governance.policy.parse import CommandSyntaxError, parse_text
from governance.policy.plan import VARIABLES, Command, Join, Mode, Part, PartKind, Plan, PlanError, Redirect, Step, Word
from governance.policy.scan import scan


def drawn(plan: Plan) -> str:
    """Return a plan's structure: its steps with what joins and negates them, each command's program only."""
    steps = [
        f"{step.join}{'!' if step.is_negated else ''}({' '.join(command.program for command in step.pipeline)})"
        for step in plan.steps
    ]
    return "".join(steps)


@pytest.mark.parametrize(
    ("text", "structure"),
    [
        ("a", "(a)"),
        ("a;", "(a)"),
        ("a ; # b", "(a)"),
        ("a|b", "(a b)"),
        ("a && b || c; d", "(a)&&(b)||(c);(d)"),
        ("! a | b", "!(a b)"),
        ("a && ! b | c && d", "(a)&&!(b c)&&(d)"),
        ("a && b 2>&1 | c", "(a)&&(b c)"),
        ("a && b > f", "(a)&&(b)"),
        ("a > f b | c;d", "(a c);(d)"),
        ("> f a; < f b", "(a);(b)"),
        ("a|&b|&c", "(a b c)"),
    ],
)
def test_structure(text: str, structure: str) -> None:
    assert drawn(parse_text(text)) == structure


@pytest.mark.parametrize(
    ("text", "redirects"),
    [
        ("a < f", "0<f"),
        ("a > f", "1>f"),
        ("a >| f", "1>f"),
        ("a >> f", "1>>f"),
        ("a 0> f", "0>f"),
        ("a 2>f", "2>f"),
        ("a 2 >f", "1>f"),
        ("a 2>&1 > f", "2>&1 1>f"),
        ("a > f 2>&1", "1>f 2>&1"),
        ("a 2>&1>f", "2>&1 1>f"),
        ("a &> f", "1>f 2>&1"),
        ("a &>> f", "1>>f 2>&1"),
        ("a >& f", "1>f 2>&1"),
        ("a 2&>f", "1>f 2>&1"),
        ("a >&2f", "1>2f 2>&1"),
        ("a >&2", "1>&2"),
        ("a 0<&1", "0>&1"),
        ("a <&0", "0>&0"),
        ("a > f |& b", "1>f 2>&1"),
        ("2>f a <'g h' >~/x", "2>f 0<'g h' 1>~/x"),
        ('a >"$HOME"/x', '1>"$HOME"/x'),
    ],
)
def test_redirects_in_effect_order(text: str, redirects: str) -> None:
    command = parse_text(text).steps[0].pipeline[0]
    shown = [
        f"{redirect.descriptor}{redirect.mode}"
        f"{redirect.target if isinstance(redirect.target, int) else redirect.target.source()}"
        for redirect in command.redirects
    ]
    assert " ".join(shown) == redirects


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("find . -exec rm {} \\; ! -name '*.c'", "find . -exec rm {} ';' ! -name '*.c'"),
        ("a|&b&&! c;d||e", "a 2>&1 | b && ! c; d || e"),
        ("a 1>f 0<g 2>>h 1>&2", "a > f < g 2>> h >&2"),
        ("'if' x; 'A=1'; '!' y", "'if' x; 'A=1'; '!' y"),
        ("[ \"$HOME\" = ~/x ] && ls *'a b'[c]", "[ \"$HOME\" = ~/x ] && ls *'a b'[c]"),
        ("echo '' '~' a'$'b", "echo '' '~' 'a$b'"),
    ],
)
def test_the_text_of_a_plan(text: str, source: str) -> None:
    assert parse_text(text).source() == source
    assert parse_text(source) == parse_text(text)


_LETTERS = st.text(st.sampled_from("ab1 '\"\\$`*?[]{}()<>|&;~#!=:-/é"), min_size=1, max_size=6)
_PARTS = st.one_of(
    _LETTERS.map(lambda text: Part(PartKind.TEXT, text)),
    st.sampled_from(["*", "?", "[a-c]", "[!x]", "[[:alpha:]_]"]).map(lambda text: Part(PartKind.GLOB, text)),
    st.sampled_from(VARIABLES).map(lambda name: Part(PartKind.VARIABLE, name)),
)
_TILDES = st.sampled_from([(), (Part(PartKind.TILDE, "~"), Part(PartKind.TEXT, "/"))])


def _word(parts: list[Part], tilde: tuple[Part, ...]) -> Word:
    found = list(tilde)
    for part in parts:
        if found and found[-1].kind is part.kind is PartKind.TEXT:
            part = Part(PartKind.TEXT, found.pop().text + part.text)  # noqa: PLW2901
        found.append(part)
    return Word(tuple(found))


_WORDS = st.builds(_word, st.lists(_PARTS, max_size=4), _TILDES)
_FILES = _WORDS.filter(lambda word: bool(word.parts) and not word.has_glob)
_REDIRECTS = st.one_of(
    st.builds(Redirect, st.integers(0, 2), st.sampled_from([Mode.READ, Mode.WRITE, Mode.APPEND]), _FILES),
    st.builds(Redirect, st.integers(0, 2), st.just(Mode.COPY), st.integers(0, 2)),
)
_PROGRAMS = (_LETTERS | st.sampled_from(["if", "!", "A=1", "time", "{", "[", "[["])).filter(lambda name: name != ".")
_COMMANDS = st.builds(
    lambda name, words, redirects: Command((Word.of(name), *words), tuple(redirects)),
    _PROGRAMS,
    st.lists(_WORDS, max_size=3),
    st.lists(_REDIRECTS, max_size=2),
)
_STEPS = st.tuples(
    st.lists(_COMMANDS, min_size=1, max_size=3), st.sampled_from([Join.AND, Join.OR, Join.THEN]), st.booleans()
)
_PLANS = st.lists(_STEPS, min_size=1, max_size=3).map(
    lambda steps: Plan(
        tuple(
            Step(tuple(commands), join if number else Join.FIRST, is_negated)
            for number, (commands, join, is_negated) in enumerate(steps)
        )
    )
)


@settings(derandomize=True, max_examples=120, deadline=None)
@given(_PLANS)
def test_the_text_of_a_plan_is_read_as_that_plan(plan: Plan) -> None:
    source = plan.source()
    assert build(source, scan(source, [])) == plan
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


_PIECES = [
    *("a", "b", "!", "2", "f", "=", "==", "[", "]", "-f", "{}", "~", "~/'x'", "*", "?", "[a-c]", "$HOME", "''", "' a'"),
    *("|", "|&", "&&", "||", ";", "&", ">", ">>", "2>&1", "&>", ">&", "<", "<&0", "#", "{"),
]


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=9))
def test_whatever_is_read_can_be_told_again(pieces: list[str]) -> None:
    try:
        plan = parse_text(" ".join(pieces))
    except CommandSyntaxError:
        return
    assert parse_text(plan.source()) == plan


def _plan_of(word: object) -> dict[str, object]:
    return {"steps": [{"join": "", "pipeline": [{"argv": ["x", word]}]}]}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"steps": []},
        {"steps": [{"join": "&&", "pipeline": [{"argv": ["x"]}]}]},
        {"steps": [{"join": "", "pipeline": []}]},
        {"steps": [{"join": "", "pipeline": [{"argv": []}]}]},
        {"steps": [{"join": "", "pipeline": [{"argv": [""]}]}]},
        {"steps": [{"join": "", "pipeline": [{"argv": [{"parts": [{"glob": "*"}]}]}]}]},
        {"steps": [{"join": "", "pipeline": [{"argv": ["x"], "redirects": [{"descriptor": 3, "mode": ">"}]}]}]},
        {"steps": [{"join": "", "negated": 1, "pipeline": [{"argv": ["x"]}]}]},
        _plan_of(1),
        _plan_of({"parts": []}),
        _plan_of({"parts": [{"glob": "a*"}]}),
        _plan_of({"parts": [{"glob": "[]"}]}),
        _plan_of({"parts": [{"glob": "[a]b]"}]}),
        _plan_of({"parts": [{"variable": "PATH"}]}),
        _plan_of({"parts": [{"text": "a"}, {"tilde": "~"}]}),
        _plan_of({"parts": [{"tilde": "~"}, {"glob": "*"}]}),
        _plan_of({"parts": [{"tilde": "~"}, {"text": "ada"}]}),
        _plan_of({"parts": [{"text": "a"}, {"text": "b"}]}),
        _plan_of({"parts": [{"code": "b"}]}),
    ],
)
def test_json_that_is_no_plan(data: object) -> None:
    with pytest.raises(PlanError):
        Plan.from_json(data)
