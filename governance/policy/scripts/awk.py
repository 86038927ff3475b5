"""Reading an awk program: its tokens are known, its functions are known, and each redirect names its file in quotes.

What an awk may do besides computing is found by tokens alone: run a command (`|`, `system`), read or write a file
(`getline <`, `print >`), load code (`@`), or change what it reads (`ARGV`). Where it depends on a value, or on which
awk it is, the program is not accepted.
"""

import re
from typing import Final, NamedTuple

from governance.policy.scripts.reading import MOST_PIECES, ScriptError, ScriptReading, shown

_TOKEN: Final = re.compile(
    r"""
    (?P<blank>(?:[ \t]|\\\n)+)
  | (?P<comment>\#[^\n]*)
  | (?P<newline>\n)
  | (?P<string>"(?:[^"\\\n]|\\[^\n])*")
  | (?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<operator>\*\*=|[-+*/%^=!<>]=|>>|\*\*|\+\+|--|&&|\|\||[-+*/%^<>!~?:,$=])
  | (?P<bracket>[(){}\[\];])
    """,
    re.VERBOSE,
)
#: Brackets are taken as far as every awk reads them alike: no `\]`, and no slash beside a class such as `[:alpha:]`.
_EXPRESSION: Final = re.compile(
    r"""
    / (?> [^/\\\n\[]
        | \\[^\n]
        | \[ \^? (?> (?:[^]\[\\\n]|\\[^]\n])++ \] | (?:[^]\[\\\n/]|\\[^]\n]|\[:[a-z]+:\])++ \] )
      )*+ /
    """,
    re.VERBOSE,
)
_CONTROL: Final = re.compile(r"[^\n\t -\x7e\x80-\U0010ffff]|[\x80-\x9f]")

_KEYWORDS: Final = frozenset(
    """BEGIN END BEGINFILE ENDFILE function func if else while for do break continue next nextfile exit return delete in
    print printf getline switch case default""".split()  # noqa: SIM905
)
_FUNCTIONS: Final = frozenset(
    """length substr index split patsplit sub gsub gensub match sprintf tolower toupper int sqrt exp log sin cos atan2
    rand srand systime strftime mktime and or xor lshift rshift compl strtonum asort asorti isarray typeof mkbool close
    fflush""".split()  # noqa: SIM905
)
#: Names that reach past the program's own data, and what each does.
_REFUSED: Final = {
    "system": "runs a command",
    "extension": "loads code",
    "ARGV": "can change which files are read",
    "SYMTAB": "reaches every variable by its name",
    "FUNCTAB": "reaches every function by its name",
}
#: A slash behind one of these begins a regular expression, behind any other name it divides.
_BEFORE_EXPRESSION: Final = frozenset(["print", "printf", "return", "in", "else", "do", "case", "exit"])
_UNCLEAR_BEFORE_SLASH: Final = (_KEYWORDS | _FUNCTIONS) - _BEFORE_EXPRESSION
_STATEMENTS: Final = frozenset(["print", "printf"])
_CONDITIONS: Final = frozenset(["if", "while", "for", "switch"])
_END: Final = frozenset(["", "\n", ";", "}"])
_AFTER_READ: Final = _END | {")", "&&", "||"}
_STREAMS: Final = frozenset(["/dev/stdin", "/dev/stdout", "/dev/stderr"])


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def ends_operand(self) -> bool:
        """Return whether a slash behind this token divides, and whether a newline behind it ends a statement."""
        if self.kind == "name":
            return self.text not in _BEFORE_EXPRESSION
        return self.kind in ("number", "string", "expression") or self.text in (")", "]", "++", "--")


_START: Final = _Token("newline", "\n")
_NOTHING: Final = _Token("", "")


def read_awk(text: str) -> ScriptReading:
    """Return what an awk program reads, writes and runs, besides its operands."""
    program = _Program()
    try:
        if found := _CONTROL.search(text):
            raise ScriptError(f"The awk program holds the control character {shown(found[0])}.")
        program.tokens = _tokens(text)
        program.read()
    except ScriptError as error:
        program.problems.append(str(error))
    return ScriptReading(
        tuple(dict.fromkeys(program.reads)),
        tuple(dict.fromkeys(program.writes)),
        tuple(dict.fromkeys(program.problems)),
    )


def _tokens(text: str) -> list[_Token]:
    """Return the tokens without blanks and comments. Raises ScriptError for what is none."""
    tokens: list[_Token] = []
    #: For each open bracket, whether it belongs to `if (…)` and the like, behind which an expression may begin.
    conditions: list[bool] = []
    position = 0
    last = _START
    closes_condition = False
    while position < len(text):
        found = None
        if text[position] == "/" and (closes_condition or last.text in _UNCLEAR_BEFORE_SLASH):
            raise ScriptError("The awk program has a `/` that may divide or begin a regular expression.")
        if text[position] == "/" and not last.ends_operand:
            found, kind = _EXPRESSION.match(text, position), "expression"
        elif found := _TOKEN.match(text, position):
            kind = found.lastgroup or ""
        if found is None:
            raise ScriptError(_unknown(text[position:]))
        position = found.end()
        if kind in ("blank", "comment"):
            continue
        token = _Token(kind, found[0])
        closes_condition = False
        if token.text in ("(", "["):
            conditions.append(last.text in _CONDITIONS)
        elif token.text in (")", "]") and conditions:
            closes_condition = conditions.pop()
        tokens.append(token)
        if len(tokens) > MOST_PIECES:
            raise ScriptError("The awk program is too long to be read.")
        last = token
    return tokens


def _unknown(rest: str) -> str:
    if rest.startswith("|"):
        return "The awk program runs a command, by `|`."
    if rest.startswith("@"):
        return "The awk program loads code or calls a function by a computed name, by `@`."
    return f"The awk program cannot be read from {shown(rest.partition(chr(10))[0])} on."


class _Program:
    """The tokens of a program, while what it does is found."""

    def __init__(self) -> None:
        self.tokens: list[_Token] = []
        self.reads: list[str] = []
        self.writes: list[str] = []
        self.problems: list[str] = []

    def at(self, index: int) -> _Token:
        """Return a token, or an empty one behind the end."""
        return self.tokens[index] if index < len(self.tokens) else _NOTHING

    def read(self) -> None:
        """Look at every token once. Raises ScriptError where a redirect cannot be told from a comparison."""
        functions = _FUNCTIONS | self.defined()
        depth = braces = 0
        printing: int | None = None
        last = _START
        for index, token in enumerate(self.tokens):
            braces += (token.text == "{") - (token.text == "}")
            if token.kind == "name":
                self.name(index, functions)
                if token.text in _STATEMENTS:
                    printing = depth
            elif token.text in ("(", "["):
                depth += 1
            elif token.text in (")", "]"):
                depth -= 1
            elif token.text in (";", "}") or (token.text == "\n" and last.ends_operand):
                printing = None
            elif token.text == ">>" or (token.text == ">" and printing is not None and depth <= printing):
                self.redirect(index + 1, self.writes, "writes to")
            last = token if token.text != "\n" or last.ends_operand else last
        if depth or braces:
            raise ScriptError("The awk program has a bracket without its pair.")

    def defined(self) -> set[str]:
        """Return the names of the functions that the program defines."""
        return {
            self.at(index + 1).text
            for index, token in enumerate(self.tokens)
            if token.kind == "name" and token.text in ("function", "func")
        }

    def name(self, index: int, functions: frozenset[str] | set[str]) -> None:
        """Look at a name: what it reaches, and whether it is a function that is not known."""
        text = self.tokens[index].text
        if text in _REFUSED:
            self.problems.append(f"The awk program uses `{text}`, which {_REFUSED[text]}.")
        elif text == "getline":
            self.getline(index)
        elif self.at(index + 1).text == "(" and text not in functions and text not in _KEYWORDS:
            self.problems.append(f"The awk function {shown(text)} is not known.")

    def getline(self, index: int) -> None:
        """Read `getline [variable] [< file]`: the first `<` in the same expression, outside brackets, names a file."""
        depth = 0
        while (token := self.at(index := index + 1)) is not _NOTHING:
            if token.text in ("(", "["):
                depth += 1
            elif token.text in (")", "]"):
                depth -= 1
            elif token.text == "getline":
                raise ScriptError("The awk program has a `getline` inside another.")
            elif token.text == "<" and not depth:
                self.redirect(index + 1, self.reads, "reads from")
            if depth < 0 or token.text in ("<", "&&", "||", "\n", ";", "{", "}"):
                return

    def redirect(self, index: int, found: list[str], what: str) -> None:
        """Note the file of a redirect: a text in quotes, and nothing behind it that could lengthen it."""
        target = self.at(index)
        path = target.text[1:-1]
        ends = _AFTER_READ if found is self.reads else _END
        may_end = self.at(index + 1).text in ends
        if target.kind != "string" or "\\" in path or not path or not may_end:
            self.problems.append(f"The awk program {what} a file whose name is computed.")
        elif path.startswith("/inet"):
            self.problems.append("The awk program reaches the network, by `/inet`.")
        elif path not in _STREAMS and not (path == "-" and found is self.reads):
            found.append(path)
