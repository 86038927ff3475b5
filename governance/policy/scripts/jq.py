"""Reading a jq filter: jq can only compute, unless it loads a module, so every name in it has to be a known one."""

import re
from typing import Final, NamedTuple

from governance.policy.scripts.reading import MOST_PIECES, ScriptError, ScriptReading, shown

_TOKEN: Final = re.compile(
    r"""
    (?P<blank>[ \t\n\r]+)
  | (?P<comment>\#[^\n]*)
  | (?P<quote>")
  | (?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
  | (?P<variable>\$(?:__loc__|[A-Za-z_][A-Za-z0-9_]*))
  | (?P<format>@[A-Za-z0-9]+)
  | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*)
  | (?P<operator>\?//=|\?//|//=|\|=|[-+*/%=!<>]=|//|\.\.|[-+*/%=<>|,.?:;])
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
    """,
    re.VERBOSE,
)
_STRING: Final = re.compile(r'(?:[^"\\\x00-\x08\x0e-\x1f]|\\["\\/bfnrtu])*')
_UNPAIRED: Final = "The jq filter has a bracket without its pair."
_PAIRS: Final = {"(": ")", "[": "]", "{": "}", '"': ")"}

_KEYWORDS: Final = frozenset(
    "and or not if then elif else end as def reduce foreach try catch label break __loc__".split()  # noqa: SIM905
)
#: The functions of jq 1.6 to 1.8. `modulemeta` is left out: it reads a module's file.
_FUNCTIONS: Final = frozenset(
    """
    IN INDEX JOIN abs acos acosh add all any arrays ascii ascii_downcase ascii_upcase asin asinh atan atan2 atanh
    booleans bsearch builtins capture cbrt ceil combinations contains copysign cos cosh date dateadd datesub debug del
    delpaths drem empty endswith env erf erfc error exp exp10 exp2 explode expm1 fabs false fdim finites first flatten
    floor fma fmax fmin fmod format frexp from_entries fromdate fromdateiso8601 fromjson fromstream gamma
    get_jq_origin get_prog_origin get_search_list getpath gmtime group_by gsub halt halt_error has have_decnum
    have_literal_numbers hypot implode in index indices infinite input input_filename input_line_number inputs inside
    isempty isfinite isinfinite isnan isnormal isvalid iterables j0 j1 jn join keys keys_unsorted last ldexp
    leaf_paths length lgamma lgamma_r limit localtime log log10 log1p log2 logb ltrim ltrimstr map map_values match
    max max_by min min_by mktime modf nan nearbyint nextafter nexttoward normals not now nth null nulls numbers
    objects path paths pick pow pow10 range recurse recurse_down remainder repeat reverse rindex rint round rtrim
    rtrimstr scalars scalars_or_empty scalb scalbln scan select setpath significand sin sinh skip sort sort_by split
    splits sqrt startswith stderr strflocaltime strftime strings strptime sub tan tanh test tgamma to_entries toarray
    toboolean todate todateiso8601 tojson tonumber tostream tostring transpose trim trimstr true trunc truncate_stream
    type unique unique_by until utf8bytelength values walk while with_entries y0 y1 yn
    """.split()  # noqa: SIM905
)
_MODULES: Final = frozenset(["import", "include", "module", "modulemeta"])
_FORMATS: Final = frozenset("@text @json @html @uri @urid @csv @tsv @sh @base64 @base64d @base32 @base32d".split())  # noqa: SIM905


class _Token(NamedTuple):
    kind: str
    text: str
    #: It is the key of an object: `{key: …}` or `{key}`.
    is_key: bool


def read_jq(text: str) -> ScriptReading:
    """Return why a jq filter is not accepted; a filter names no paths itself."""
    try:
        tokens = _tokens(text)
    except ScriptError as error:
        return ScriptReading(problems=(str(error),))
    defined = {"empty"}
    for index, token in enumerate(tokens):
        if token.text == "def":
            defined.update(_parameters(tokens, index + 1))
    problems = [problem for token in tokens if (problem := _problem(token, defined))]
    return ScriptReading(problems=tuple(dict.fromkeys(problems)))


def _parameters(tokens: list[_Token], index: int) -> list[str]:
    """Return the names that `def name(a; $b):` gives: those up to its colon."""
    names: list[str] = []
    while index < len(tokens) and tokens[index].text not in (":", "def"):
        names.append(tokens[index].text.removeprefix("$"))
        index += 1
    return names


def _problem(token: _Token, defined: set[str]) -> str:
    if token.kind == "format" and token.text not in _FORMATS:
        return f"The jq format {shown(token.text)} is not known."
    if token.kind != "name" or token.is_key:
        return ""
    if token.text in _MODULES or "::" in token.text:
        return f"The jq filter loads a module, by {shown(token.text)}."
    if token.text in _KEYWORDS or token.text in _FUNCTIONS or token.text in defined:
        return ""
    return f"The jq function {shown(token.text)} is not known."


def _tokens(text: str) -> list[_Token]:
    """Return the tokens without blanks, comments and the text of strings. Raises ScriptError for what is none."""
    tokens: list[_Token] = []
    #: The brackets that are open; a quote stands for `\\(` in a string, whose end goes on with the string.
    brackets: list[str] = []
    position, last = 0, ""
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ScriptError(f"The jq filter cannot be read from {shown(text[position:].partition(chr(10))[0])} on.")
        position, kind = found.end(), found.lastgroup or ""
        if kind == "comment" and found[0].endswith("\\"):
            raise ScriptError("The jq filter has a comment that may go on in the next line.")
        if kind in ("blank", "comment"):
            continue
        if kind == "open":
            brackets.append(found[0])
        elif kind == "close":
            kind = "quote" if _close(brackets, found[0]) == '"' else kind
        else:
            is_key = bool(brackets) and brackets[-1] == "{" and last in ("{", ",")
            tokens.append(_Token(kind, found[0], is_key))
        if len(tokens) + len(brackets) > MOST_PIECES:
            raise ScriptError("The jq filter is too long to be read.")
        if kind == "quote":
            position, is_open = _string(text, position)
            brackets += ['"'] if is_open else []
        last = found[0]
    if brackets:
        raise ScriptError(_UNPAIRED)
    return tokens


def _close(brackets: list[str], bracket: str) -> str:
    """Close a bracket and return what opened it."""
    if not brackets or _PAIRS[brackets[-1]] != bracket:
        raise ScriptError(_UNPAIRED)
    return brackets.pop()


def _string(text: str, position: int) -> tuple[int, bool]:
    """Go through a string: return where it ends, and whether that is the `\\(` of a filter inside it."""
    found = _STRING.match(text, position)
    end = found.end() if found else position
    if text.startswith('"', end):
        return end + 1, False
    if text.startswith("\\(", end):
        return end + 2, True
    raise ScriptError("The jq filter has a string without its end.")
