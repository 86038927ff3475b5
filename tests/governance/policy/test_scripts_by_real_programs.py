"""Scripts that are accepted as reading, run by the real sed and the real awks: no file may appear."""

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from governance.policy.scripts.awk import read_awk
from governance.policy.scripts.reading import ScriptReading
from governance.policy.scripts.sed import read_sed

RUNS = 60
SED_PIECES = [
    *("s/a/b/", "s/[/]/x/", "s/[^/]*$//", "[", "]", "/", "\\", "\n", ";", " ", "w out", "e touch out", "e", "a", "a\\"),
    *("i\\\n", "c x", "}", "{", "y/a/b/", "p", "#", "1", "$", "!", ",", "w", "[:alpha:]", "g", "s", "/w out", "\\\n"),
    *("s/.*/touch out/e", "s/[", "/]", "\\/", "]/", "[]", "s/x/[/w out\n", "+1", "/x/", "I", "N", "=", "~2", "&"),
]
AWK_PIECES = [
    *("{", "}", "(", ")", "[", "]", "/", "\\", "\n", ";", " ", "print ", "> ", '"out"', 'system("touch out")', "/a/"),
    *('| "touch out"', '"touch out" | getline', "getline ", "x", "$1", "1", "++", '"', '\\"', "#", "[/]", "if(1) "),
    *(
        "~",
        "!",
        '"a"',
        "BEGIN",
        "length ",
        "in ",
        "?",
        ":",
        ",",
        "&&",
        "]/",
        '"x',
        'print 1>"out"',
        "[\\]",
        '"]/ ',
        "#\n",
    ),
]


def accepted(pieces: list[str], read: Callable[[str], ScriptReading], *, wrap: str) -> list[str]:
    """Return random scripts that are said to write nothing, and that speak of the file all the same."""
    chance = random.Random(20261122)  # noqa: S311 - the same scripts in every run
    found: dict[str, None] = {}
    while len(found) < RUNS:
        text = wrap % "".join(chance.choice(pieces) for _ in range(chance.randint(2, 9)))
        reading = read(text)
        if "out" in text and not reading.problems and not reading.writes:
            found[text] = None
    return list(found)


@pytest.mark.parametrize(
    ("program", "read", "pieces", "wrap"),
    [
        (("sed",), read_sed, SED_PIECES, "%s"),
        (("sed", "--posix"), read_sed, SED_PIECES, "%s"),
        (("gawk",), read_awk, AWK_PIECES, "%s"),
        (("gawk",), read_awk, AWK_PIECES, "BEGIN {%s}"),
        (("mawk",), read_awk, AWK_PIECES, "%s"),
        (("mawk",), read_awk, AWK_PIECES, "{%s}"),
        (("busybox", "sed"), read_sed, SED_PIECES, "%s"),
        (("busybox", "awk"), read_awk, AWK_PIECES, "{%s}"),
    ],
)
def test_an_accepted_script_makes_no_file(
    program: tuple[str, ...],
    read: Callable[[str], ScriptReading],
    pieces: list[str],
    wrap: str,
    tmp_path: Path,
) -> None:
    path = shutil.which(program[0])
    if path is None:
        pytest.skip(f"{program[0]} is not installed")
    (tmp_path / "in").write_text("a/b x\nfoo\ntouch out\n")
    for text in accepted(pieces, read, wrap=wrap):
        argv = [path, *program[1:], text, "in"]
        subprocess.run(argv, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
        assert [file.name for file in tmp_path.iterdir()] == ["in"], text
