"""Scripts in arguments: what sed, awk and jq texts read, write and run is known, or they are not accepted."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.policy.scripts.awk import read_awk
from governance.policy.scripts.jq import read_jq
from governance.policy.scripts.reading import ScriptReading
from governance.policy.scripts.sed import read_sed

Reader = Callable[[str], ScriptReading]
READERS: dict[str, Reader] = {"sed": read_sed, "awk": read_awk, "jq": read_jq}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p",
        "5q",
        "$d",
        "1~2p",
        "/^#/d;/^$/d",
        "2,5p",
        "/a/,/b/{s/x/y/gI;p}",
        "0,/x/s//y/",
        "/a/,+3!d",
        "s/[^/]*$//",
        "s|/usr|/opt|g",
        "s/[[:space:]]*$//",
        r"s/\(a\)\(b\)/\2\1/2p",
        r":a;N;$!ba;s/\n/ /g",
        "y/abc/xyz/",
        "$!N;P;D",
        "1i\\\nfirst line; w x",
        "a appended } ; w x",
        "#n\n# w x\np",
        r"\%a%d",
        "w /dev/stdout",
        "s/a/b/w /dev/stderr",
    ],
)
def test_sed_that_only_prints(text: str) -> None:
    assert read_sed(text) == ScriptReading()


@pytest.mark.parametrize(
    ("text", "reads", "writes"),
    [
        ("r other", ("other",), ()),
        ("$r /etc/x y", ("/etc/x y",), ()),
        ("R lines", ("lines",), ()),
        ("w out", (), ("out",)),
        ("/x/W out;p", (), ("out;p",)),
        ("s/a/b/gw out", (), ("out",)),
        ("s/a/b/ g w out", (), ("out",)),
        ("a\\text\nw out", (), ("out",)),
        ("{p;w out\n}", (), ("out",)),
        # With and without a meaning of brackets, one of two readings writes.
        ("s/[/]/w out\n;#]/x/", (), ("out",)),
    ],
)
def test_sed_names_its_files(text: str, reads: tuple[str, ...], writes: tuple[str, ...]) -> None:
    reading = read_sed(text)
    assert (reading.reads, reading.writes) == (reads, writes)


@pytest.mark.parametrize(
    "text",
    [
        "e",
        "1e ls",
        "s/.*/ls/e",
        "s/a/b/ge;p",
        "s/a/b/ p e",
        "s/[/]/ls/e;#]/x/",
        "k",
        "v 4.2",
        "L",
        "p p",
        "s/a/b",
        "s/a/b/x",
        "s\na\nb\n",
        "sxaxbx",
        "y/a/b",
        "{p",
        "p}",
        "r",
        "w a\\b",
        "a",
        "a\\",
        "a\\ \nw out",
        "a text\\",
        "1,p",
        "/a",
        "/[a/p",
        "p\x0b",
        "p\x00",
        "p\u0085",
        "s\u00e9a\u00e9b\u00e9",
    ],
)
def test_sed_that_is_not_accepted(text: str) -> None:
    reading = read_sed(text)
    assert reading.problems
    assert all(problem.endswith(".") and "\n" not in problem for problem in reading.problems)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{print $1, $NF}",
        "NR>1 && $3 > 100 {n++; s += $3} END {print n, s/n}",
        "!seen[$0]++",
        "length($0) > 80",
        "/a\\/b|c/ {print}",
        "$1 ~ /^[^\\/]+$/ || /[/]x/",
        '{a[$1] = $2} END {for (k in a) print k " > " a[k]}',
        'BEGIN {FS = ":"} {printf "%s|%s\\n", $1, $2}',
        "function f(x) {return x / 2}\n{print f($1)}",
        "{print (a > b)}",
        "{gsub(/[[:space:]]+/, \" \"); print toupper(substr($0, 1, 3))} # system('x')",
        '{print > "/dev/stderr"}',
        "{while (i <= NF) i++}",
        "{getline; print}",
        'BEGIN {while ((getline line < "-") > 0) print line}',
        '{print ENVIRON["HOME"]}',
        "{x = $1\n  /y/ ? 1 : 2}",
    ],
)
def test_awk_that_only_computes(text: str) -> None:
    assert read_awk(text) == ScriptReading()


@pytest.mark.parametrize(
    ("text", "reads", "writes"),
    [
        ('BEGIN {while ((getline line < "in") > 0) n++}', ("in",), ()),
        ('BEGIN {getline a[1][2] < "in"; getline < "two"}', ("in", "two"), ()),
        ('{print > "out"}', (), ("out",)),
        ('{print $1,\n $2 >> "out"}', (), ("out",)),
        ('{printf("%s", $1) > "out" # text\n}', (), ("out",)),
        ('{print $1, # text\n $2 > "out"}', (), ("out",)),
        ('{if ($1 > 2) print; else print $2 > "out"}', (), ("out",)),
    ],
)
def test_awk_names_its_files(text: str, reads: tuple[str, ...], writes: tuple[str, ...]) -> None:
    assert read_awk(text) == ScriptReading(reads, writes)


@pytest.mark.parametrize(
    "text",
    [
        '{system("ls")}',
        'BEGIN {awk::system("ls")}',
        '{print | "sh"}',
        '"date" | getline x',
        '{print |& "sh"}',
        '@load "filefuncs"',
        '@include "x"',
        'BEGIN {f = "system"; @f("ls")}',
        'BEGIN {ARGV[1] = "/etc/passwd"}',
        'BEGIN {SYMTAB["ARGV"][1] = "x"}',
        '{print > $1 ".txt"}',
        '{print > "a" "b"}',
        '{print > "a\\x2fb"}',
        "{getline x < $1}",
        '{getline (x) < "a" "b"}',
        '{print > "/inet/tcp/0/127.0.0.1/80"}',
        'BEGIN {frobnicate("x")}',
        'BEGIN {extension("x")}',
        # A slash that one awk takes for a division and another for the beginning of an expression.
        '{if (x) /"/ ; system("ls") #"/}',
        '{length /"/ ; system("ls") #"/}',
        '/[\\]/ ~ "/]/ ; system(1) #"',
        '{print "a\n"}',
        '{print "a',
        "{print /a}",
        "{print $1",
        "{print (1}",
        "{print `ls`}",
        "{print 1 & 2}",
        "{print 1}\x00",
        "{print 1}\r",
    ],
)
def test_awk_that_is_not_accepted(text: str) -> None:
    assert read_awk(text).problems


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        ".a.b[0]?",
        '.["a b"] // "none"',
        '.[] | select(.n > 1 and .s != "import") | {a, b: .c, "d": 1, (.e): 2, $__loc__}',
        '"a\\(.x + "b\\(.y | tojson)")c"',
        "def f(g; $x): g + $x; f(.; 1)",
        "reduce .[] as {a: $x, b: [$y]} (0; . + $x * $y)",
        "if .a then 1 elif .b then 2 else empty end",
        'to_entries[] | @sh "\\(.key)=\\(.value)"',
        "{import: 1, a: 2, include} | .import",
        "$ENV.PATH, env.HOME, input_filename, input_line_number",
        "label $out | foreach .[] as $i (0; . + 1; if . > 3 then ., break $out else . end)",
        'try error("x") catch . # import "x"; \n| ascii_downcase',
        ".. | numbers | -. | . %= 2",
        '[limit(3; inputs)] | getpath([0]) | ltrimstr("x") | halt_error',
    ],
)
def test_jq_that_only_computes(text: str) -> None:
    assert read_jq(text) == ScriptReading()


@pytest.mark.parametrize(
    "text",
    [
        'import "a" as a; .',
        'include "a"; .',
        "module {}; .",
        '"a" | modulemeta',
        "a::b",
        '"\\(import "a" as a; .)"',
        "{a: import}",
        "frobnicate",
        "@frob",
        "# text\\\n| .",
        '"a',
        '"a\\(1',
        '"a\\q"',
        "{a: [1}",
        ")",
        ". ` .",
        "\x00",
    ],
)
def test_jq_that_is_not_accepted(text: str) -> None:
    assert read_jq(text).problems


_PIECES = """s/a/b/ [/] [ ] / \\ ; { } ( ) w\u2423out e a\\ " \\( #x def f: import .a $x print getline < > >> "out"
| || @f system( /x/ function in . .. :a 1 ~ ! , ++ [:alpha:] \u00e9 \ud800 \x00"""
hostile = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([piece.replace("\u2423", " ") for piece in _PIECES.split()] + ["\n", " "])).map("".join),
)


@given(text=hostile, name=st.sampled_from(sorted(READERS)))
def test_no_text_makes_a_reader_raise(text: str, name: str) -> None:
    reading = READERS[name](text)
    assert all(isinstance(path, str) and path for path in (*reading.reads, *reading.writes))


@pytest.mark.parametrize("name", sorted(READERS))
def test_hostile_texts_at_the_size_limit_take_a_moment(name: str) -> None:
    units = [
        "[",
        "[[:",
        "[a]",
        "s/[a]/b/;",
        "/[a]",
        "(",
        '"\\(',
        "getline ",
        "def ",
        "a\\\n",
        "[[:a:]]/",
        "x[",
        "{",
        "$!",
    ]
    texts = [(prefix + unit * 8192)[:8192] for unit in units for prefix in ("", "/", "s/", '"', "{print ")]
    # Each takes milliseconds; what is not linear takes seconds.
    assert max(took(READERS[name], text) for text in texts) < 1


def took(read: Reader, text: str) -> float:
    started = time.thread_time()
    read(text)
    return time.thread_time() - started
