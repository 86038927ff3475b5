"""The reading of a line beside bash's own: the words that it finds, what it accepts, and what it then does."""

import glob
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.policy.parse import CommandSyntaxError, parse_text
from governance.policy.plan import Join, PartKind, Word

_NAMES = ("a", "ab", "b1", ".h", "a b", "*", "[a]", "-x", "d/a", "d/.a", "é")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with names that are hard on globs; it is HOME too."""
    made = tmp_path_factory.mktemp("words")
    for name in _NAMES:
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).touch()
    return made


def _variables(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder), "PWD": str(folder), "USER": "ada"}


def _bash(text: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    env = {**_variables(folder), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["bash", "--norc", "-c", text],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )


def _expanded(word: Word, folder: Path) -> list[str]:
    """Return what the host makes of a word, by other means than the host's."""
    parts = word.resolved(_variables(folder)).parts
    literal = "".join(part.text for part in parts)
    if not word.has_glob:
        return [literal]
    pattern = "".join(
        glob.escape(part.text) if part.kind is PartKind.TEXT else part.text.replace("[^", "[!", 1) for part in parts
    )
    return sorted(glob.glob(pattern, root_dir=folder), key=os.fsencode) or [literal]


_PIECES = [*"ab1.-/=:,%@+^é", " ", " ", "'", '"', "\\", "$", "*", "?", "[", "]", "[a-b]", "[!a]", "{}", "{", "}"]
_TEXTS = st.lists(
    st.sampled_from([*_PIECES, "~", "~/", "$HOME", '"$USER"', "${PWD}", "#", "!", "'a b'", "d/", "\\ ", "="]),
    max_size=12,
).map("".join)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(text=_TEXTS)
def test_words_are_the_ones_that_bash_finds(folder: Path, text: str) -> None:
    line = "printf '%s\\0' : " + text
    try:
        plan = parse_text(line)
    except CommandSyntaxError:
        return
    argv = [value for word in plan.steps[0].pipeline[0].argv[2:] for value in _expanded(word, folder)]
    assert _bash(line, folder).stdout.split("\0")[:-1] == argv


_COMMANDS = ["echo a", "echo b >&2", "cat", "cat in", "true", "false", "wc -c", "nothing", "echo '&&'", "[ a = b ]"]
_REDIRECTS = [
    "> o{}",
    ">> o{}",
    "2> o{}",
    "2>&1",
    ">&2",
    "< in",
    "< none",
    "&> o{}",
    "&>>o{}",
    ">& o{}",
    "1>o{}",
    "0<in",
]
_OPERATORS = ["|", "|&", "&&", "||", ";", "&& !", "; !", "|"]
_ITEM = st.tuples(
    st.lists(st.sampled_from(_REDIRECTS), max_size=1),
    st.sampled_from(_COMMANDS),
    st.lists(st.sampled_from(_REDIRECTS), max_size=2),
    st.sampled_from(_OPERATORS),
)


def _line(items: list[tuple[list[str], str, list[str], str]], is_negated: bool) -> str:
    pieces = ["!"] if is_negated else []
    for number, (before, command, after, operator) in enumerate(items):
        targets = [redirect.format(number) for redirect in (*before, "", *after)]
        place = len(before)
        pieces += [*targets[:place], command, *targets[place + 1 :], operator]
    return " ".join(pieces[:-1])


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(_ITEM, min_size=1, max_size=4), st.booleans())
def test_bash_does_the_same_with_the_text_of_the_plan(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[list[str], str, list[str], str]], is_negated: bool
) -> None:
    line = _line(items, is_negated)
    plan = parse_text(line)
    assert sum(step.is_negated for step in plan.steps) == line.split().count("!")
    assert [step.join for step in plan.steps].count(Join.AND) == sum("&&" in item[3] for item in items[:-1])
    results = []
    for text in (line, plan.source()):
        place = tmp_path_factory.mktemp("run")
        (place / "in").write_text("in\n")
        # Without pipefail, because a writer whose reader is gone may or may not notice.
        done = _bash(text, place)
        # Commands of one pipeline write side by side: the order of their lines is nobody's.
        outputs = [sorted(output.replace(str(place), "").splitlines()) for output in (done.stdout, done.stderr)]
        files = {path.name: sorted(path.read_text().splitlines()) for path in place.iterdir()}
        results.append((done.returncode, outputs, files))
    assert results[0] == results[1]
