"""A linear scan of a command line that finds its words and operators, and names what a plan cannot hold.

It runs before the parser: hostile input is refused in one pass over the text, and its reading is the witness that the
parser's reading is held against. It repairs nothing: what it does not know is an error.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from governance.policy.plan import GLOB, Part, PartKind, Word
from governance.policy.refusals import QUOTE_IT, brace, expansion, operator_refused, parenthesis, unclosed_quote
from governance.policy.syntax import MAX_ARGUMENTS, MAX_GLOBS, at, check_count

_PLAIN: Final = re.compile(r"""[^ \t'"\\`$*?\[{()<>|&;~#]+""")
#: A whole word without anything that needs a closer look.
_WORD: Final = re.compile(r"""[^ \t'"\\`$*?\[{()<>|&;~#]+(?=[ \t|;]|\Z)""")
_IN_DOUBLE: Final = re.compile(r'[^"\\`$]+')
_VARIABLE: Final = re.compile(r"\$(?:(HOME|PWD|USER)(?![A-Za-z0-9_])|\{(HOME|PWD|USER)\})")
_EXPANDS: Final = re.compile(r"\$[A-Za-z0-9_@*#?$!({\[-]")
#: Braces without a comma or a range between them stand for themselves, as in `{}` and `stash@{0}`.
_LITERAL_BRACES: Final = re.compile(r"\{(?:[\w:@%+/=-]|\.(?!\.))*\}")
#: Brackets that nothing closes before the word ends.
_OPEN_BRACKETS: Final = re.compile(r"""(\[{1,2})[^\]\[\\'"`$ \t<>|&;()]*+(?=[ \t<>|&;()]|\Z)""")
_BRACKETS: Final = re.compile(r"""([^ \t'"\\`$*?{()<>|&;~#]+)""")
_NAMED_DESCRIPTOR: Final = re.compile(r"\{[A-Za-z_]\w*\}[<>]")
_OPERATOR: Final = re.compile(r"\|\||\|&|\||&&|&>>|&>|&|;;&|;;|;&|;|<<<|<<|<&|<>|<\(|<|>\(|>>|>&|>\||>|\)")
_ENDS_WORD: Final = frozenset(" \t<>|&;()")
_ESCAPED_IN_DOUBLE: Final = frozenset('$`"\\')


class MarkKind(IntEnum):
    """What a stretch of the source is, for comparing two readings of it."""

    BARE = 0
    SINGLE = 1
    DOUBLE = 2
    VARIABLE = 3
    OPERATOR = 4
    DESCRIPTOR = 5
    COMMENT = 6


#: A stretch of the source: where it starts and ends (from 0, end exclusive), and what it is.
Mark = tuple[int, int, MarkKind]


@dataclass(slots=True)
class Token:
    """A word, an operator, or the digits of a descriptor: `start` and `end` count characters from 0, end exclusive."""

    start: int
    end: int
    #: The operator, or "" for a word or a descriptor.
    operator: str = ""
    word: Word | None = None
    #: The word's text where nothing in it is quoted or filled in, else "".
    bare: str = ""
    #: The number in front of a redirect.
    descriptor: int | None = None


def scan(text: str, marks: list[Mark]) -> Iterator[Token]:
    """Yield the tokens of one line, and append to `marks` the stretches that they are made of.

    Raises CommandSyntaxError at the first construct that no plan holds.
    """
    position, length, words = 0, len(text), 0
    while position < length:
        character = text[position]
        if character in " \t":
            position += 1
            continue
        if character == "#":
            marks.append((position, length, MarkKind.COMMENT))
            return
        if character in _ENDS_WORD:
            token = _operator(text, position, marks)
        else:
            token = _word(text, position, marks)
            words += token.word is not None
            if words > MAX_ARGUMENTS:
                check_count(words)
        yield token
        position = token.end


def _word(text: str, start: int, marks: list[Mark]) -> Token:
    if plain := _WORD.match(text, start):
        end, bare = plain.end(), plain[0]
        marks.append((start, end, MarkKind.BARE))
        return Token(start, end, "", Word((Part(PartKind.TEXT, bare),)), bare)
    return _WordScan(text, start, marks).token()


def _operator(text: str, start: int, marks: list[Mark]) -> Token:
    matched = _OPERATOR.match(text, start)
    operator = matched[0] if matched else "("
    if operator == "(":
        raise parenthesis(text, start)
    if refused := operator_refused(operator, start):
        raise refused
    marks.append((start, start + len(operator), MarkKind.OPERATOR))
    return Token(start, start + len(operator), operator)


class _WordScan:
    """Reads one word. Marks are added as it goes; `parts` and `literal` hold what was read."""

    def __init__(self, text: str, start: int, marks: list[Mark]) -> None:
        self.text = text
        self.start = self.position = start
        self.marks = marks
        self.parts: list[Part] = []
        self.literal: list[str] = []
        #: Where the unquoted stretch began that has no mark yet.
        self.bare_from = start
        self.is_bare = True
        self.has_braces = False
        self.globs = 0

    def token(self) -> Token:
        """Return the word that starts here, or the descriptor in front of a redirect."""
        text, length = self.text, len(self.text)
        while self.position < length:
            if plain := _PLAIN.match(text, self.position):
                if self.has_braces and "}" in plain[0]:
                    # Bash may pair it with a brace that stood for itself until then, as in `{a},b}`.
                    raise brace(text, text.index("}", self.position))
                self.literal.append(plain[0])
                self.position = plain.end()
                continue
            character = text[self.position]
            if character in _ENDS_WORD:
                break
            _READERS[character](self)
        start, end = self.start, self.position
        if self.is_bare and text[end : end + 1] in ("<", ">") and text[start:end].isdecimal() and text[start].isascii():
            return self.number()
        self.mark_bare(end)
        self.end_literal()
        return Token(start, end, "", Word(tuple(self.parts)), text[start:end] if self.is_bare else "")

    def number(self) -> Token:
        """Return digits that touch a redirect: its descriptor, but a word where a descriptor is to be copied."""
        text, start, end = self.text, self.start, self.position
        before = self.marks[-1] if self.marks else None
        if before is not None and before[2] is MarkKind.OPERATOR and text[before[0] : before[1]] in (">&", "<&"):
            self.mark_bare(end)
            return Token(start, end, "", Word.of(text[start:end]), text[start:end])
        # The parser takes the digit 0 for a word there; only the stretch counts.
        self.marks.append((start, end, MarkKind.BARE if text[start:end] == "0" else MarkKind.DESCRIPTOR))
        if text[start:end] not in ("0", "1", "2"):
            raise at(start + 1, "descriptor", "Only the descriptors 0, 1 and 2 can be redirected.")
        return Token(start, end, descriptor=int(text[start:end]))

    def mark_bare(self, end: int) -> None:
        """Mark the unquoted stretch that ends here."""
        if end > self.bare_from:
            self.marks.append((self.bare_from, end, MarkKind.BARE))

    def end_literal(self) -> None:
        """Make one part of the text read so far."""
        if text := "".join(self.literal):
            self.parts.append(Part(PartKind.TEXT, text))
        self.literal = []

    def add_part(self, kind: PartKind, text: str) -> None:
        """Add what the host fills in."""
        self.is_bare = False
        self.end_literal()
        self.parts.append(Part(kind, text))

    def add_variable(self, name: str, end: int) -> None:
        """Add a variable whose source ends at `end`."""
        self.marks.append((self.position, end, MarkKind.VARIABLE))
        self.add_part(PartKind.VARIABLE, name)
        self.position = end

    def single_quoted(self) -> None:
        """Read `'…'`."""
        self.is_bare = False
        closing = self.text.find("'", self.position + 1)
        if closing < 0:
            raise unclosed_quote(self.position, "'")
        self.mark_bare(self.position)
        self.marks.append((self.position, closing + 1, MarkKind.SINGLE))
        self.literal.append(self.text[self.position + 1 : closing])
        self.position = self.bare_from = closing + 1

    def double_quoted(self) -> None:
        """Read `"…"`."""
        text, start = self.text, self.position
        self.is_bare = False
        self.mark_bare(start)
        place = len(self.marks)
        self.marks.append((start, start, MarkKind.DOUBLE))
        self.position += 1
        while self.position < len(text):
            if plain := _IN_DOUBLE.match(text, self.position):
                self.literal.append(plain[0])
                self.position = plain.end()
                continue
            if text[self.position] == '"':
                self.position = self.bare_from = self.position + 1
                self.marks[place] = (start, self.position, MarkKind.DOUBLE)
                return
            self.special_in_double()
        raise unclosed_quote(start, '"')

    def special_in_double(self) -> None:
        """Read a backslash, `$` or backquote between double quotes."""
        text, position = self.text, self.position
        if text[position] == "\\":
            follower = text[position + 1 : position + 2]
            self.literal.append(follower if follower in _ESCAPED_IN_DOUBLE else "\\" + follower)
            self.position += 2
        elif text[position] == "`":
            raise expansion(text, position)
        elif name := _VARIABLE.match(text, position):
            self.add_variable(name[1] or name[2], name.end())
        elif _EXPANDS.match(text, position):
            raise expansion(text, position)
        else:
            self.literal.append("$")
            self.position += 1

    def escaped(self) -> None:
        """Read a backslash and what it quotes."""
        self.is_bare = False
        follower = self.text[self.position + 1 : self.position + 2]
        if not follower:
            hint = "Write two backslashes, or put the word in single quotes."
            raise at(self.position + 1, "unfinished escape", hint)
        self.literal.append(follower)
        self.position += 2

    def dollar(self) -> None:
        """Read an unquoted `$`."""
        if name := _VARIABLE.match(self.text, self.position):
            self.mark_bare(self.position)
            self.add_variable(name[1] or name[2], name.end())
            self.bare_from = self.position
            return
        follower = self.text[self.position + 1 : self.position + 2]
        if _EXPANDS.match(self.text, self.position) or (follower and follower in "'\""):
            raise expansion(self.text, self.position)
        self.take("$")

    def backquote(self) -> None:
        """Refuse a substitution."""
        raise expansion(self.text, self.position)

    def glob(self) -> None:
        """Read `*`, `?` or a bracket expression."""
        text, position = self.text, self.position
        if pattern := GLOB.match(text, position):
            self.globs += 1
            if self.globs > MAX_GLOBS:
                raise at(position + 1, "too many globs", f"Write at most {MAX_GLOBS} patterns in a word.")
            self.add_part(PartKind.GLOB, pattern[0])
            self.position = pattern.end()
        elif unclosed := _OPEN_BRACKETS.match(text, position) or (
            _BRACKETS.match(text, position) if text.find("]", position) < 0 else None
        ):
            # Without a closing bracket it stands for itself, as the program `[` does.
            self.take(unclosed[1])
        else:
            raise at(position + 1, "glob ([)", "Only plain characters, ranges and classes fit in [ ]. " + QUOTE_IT)

    def brace(self) -> None:
        """Read braces that bash leaves as they are."""
        literal = _LITERAL_BRACES.match(self.text, self.position)
        if literal is None or _NAMED_DESCRIPTOR.match(self.text, self.position):
            raise brace(self.text, self.position)
        self.has_braces = True
        self.take(literal[0])

    def tilde(self) -> None:
        """Read `~`: the home folder at the start of a word, the character itself elsewhere."""
        text, position = self.text, self.position
        follower = text[position + 1 : position + 2]
        if position == self.start:
            if follower and follower != "/" and follower not in _ENDS_WORD:
                raise at(
                    position + 1, "tilde", "Only `~` and `~/…` are filled in. Write the absolute path. " + QUOTE_IT
                )
            self.add_part(PartKind.TILDE, "~")
            self.position += 1
        elif text[position - 1] in "=:":
            raise at(position + 1, "tilde", "Write $HOME or the absolute path. " + QUOTE_IT)
        else:
            self.take("~")

    def hash(self) -> None:
        """Read a `#` inside a word, where it starts no comment."""
        self.take("#")

    def take(self, text: str) -> None:
        """Take characters as they stand."""
        self.literal.append(text)
        self.position += len(text)


_READERS: Final = {
    "'": _WordScan.single_quoted,
    '"': _WordScan.double_quoted,
    "\\": _WordScan.escaped,
    "$": _WordScan.dollar,
    "`": _WordScan.backquote,
    "*": _WordScan.glob,
    "?": _WordScan.glob,
    "[": _WordScan.glob,
    "{": _WordScan.brace,
    "~": _WordScan.tilde,
    "#": _WordScan.hash,
}
