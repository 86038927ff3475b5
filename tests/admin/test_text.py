"""Whatever governance refuses to read, the admin never shows as itself; and nothing becomes markup."""

import re
import sys

import pytest
from django.template.loader import render_to_string

from atomsite.templatetags.atom import distance, explained
from audit.admin_text import visible, visible_block
from governance.policy.parse import parse_text
from governance.policy.plan import Command, Join, Plan, Step
from governance.policy.syntax import refused_character
from shellagent.admin_plans import plan_line, plan_steps


def test_every_character_that_is_refused_is_shown_as_an_escape() -> None:
    wrong = []
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        if refused_character(character) is not None and character in visible(character):
            wrong.append(f"U+{point:04X}")
    assert not wrong


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b"),
        ("\u202egpj", r"\u202e"),
        ("\u200b", r"\u200b"),
        ("\U000e0041", r"\U000e0041"),
        ("\u3164", r"\u3164"),
        ("a\nb", r"\n"),
        ("\xa0", r"\xa0"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_cannot_be_seen_is_an_escape_in_a_span(text: str, shown: str) -> None:
    assert f'<span class="atom-escape">{shown}</span>' in visible(text)


def test_markup_stays_text_and_letters_stay_letters() -> None:
    assert visible("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert visible("naïve 日本 🙂 \\x1b") == "naïve 日本 🙂 \\x1b"
    assert visible_block("a\n\tb\r") == 'a\n\tb<span class="atom-escape">\\r</span>'


def test_quoted_words_of_an_explanation_are_code_and_still_escaped() -> None:
    assert explained("`<ls>` lists.") == "<code>&lt;ls&gt;</code> lists."


def test_a_plan_shows_where_each_word_ends() -> None:
    apart = plan_line(Plan.simple("rm", "-rf /"))
    joined = plan_line(Plan.simple("rm", "-rf", "/"))
    assert apart != joined
    assert "&#x27;-rf /&#x27;" in apart
    assert plan_line(Plan.simple("echo", "")) == '<b class="atom-program">echo</b> &#x27;&#x27;'


def test_a_plan_is_drawn_as_steps() -> None:
    listing, counting, cleaning = Command.of("ls"), Command.of("wc", "-l"), Command.of("rm", "\x1b")
    steps = plan_steps(Plan((Step((listing, counting)), Step((cleaning,), Join.OR))))
    assert [(step.join, len(step.commands)) for step in steps] == [("", 2), ("then, only if that failed", 1)]
    assert r"\x1b" in steps[1].commands[0]


def test_what_the_host_fills_in_is_told_from_text() -> None:
    line = plan_line(parse_text('cat \'*\'[a-c] ~/x "$USER" 2>>"$HOME"/e >&2'))
    assert line == (
        '<b class="atom-program">cat</b> &#x27;*&#x27;<span class="atom-glob">[a-c]</span>'
        ' <span class="atom-variable">~</span>/x <span class="atom-variable">&quot;$USER&quot;</span>'
        ' <span class="atom-redirect">2&gt;&gt;</span> <span class="atom-variable">&quot;$HOME&quot;</span>/e'
        ' <span class="atom-redirect">&gt;&amp;2</span>'
    )


def test_a_negated_pipeline_says_so() -> None:
    plan = parse_text("a && ! b | c")
    assert [step.negation for step in plan_steps(plan)] == ["", "success counts as failure, and failure as success"]
    drawn = render_to_string("atom/plan.html", {"steps": plan_steps(plan)})
    shown = [" ".join(line.split()) for line in re.sub(r"<[^>]+>", "", drawn.replace("<code", "\n<code")).splitlines()]
    wanted = ["a", "then, only if that succeeded success counts as failure, and failure as success", "! b", "| c"]
    assert [line for line in shown if line] == wanted
    assert "&amp;&amp;</span> <span" in plan_line(plan)


def test_a_distance_without_a_moment_is_never() -> None:
    assert distance(None) == "never"
