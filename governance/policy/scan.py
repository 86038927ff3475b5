"""A linear scan of a command line that finds its words and names what is more than words and quotes.

It runs before the parser: hostile input is refused in one pass over the text, and its reading is the witness that the
parser's reading is held against. It repairs nothing: what it does not know is an error.
"""

import re
from dataclasses import dataclass
from typing import Final

from governance.policy.syntax import CommandSyntaxError, at, check_count

_BLANKS: Final = re.compile(r"[ \t]+")
_PLAIN: Final = re.compile(r"""[^ \t'"\\`$*?\[{()<>|&;~#]+""")
_IN_DOUBLE: Final = re.compile(r'[^"\\`$]+')
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_EXPANDS: Final = re.compile(r"\$(?:[A-Za-z0-9_@*#?$!({\[-])")
_RESERVED: Final = re.compile(
    r"(?:!|\}|if|then|else|elif|fi|case|esac|for|select|while|until|do|done|function|coproc|\[\[)(?=[ \t]|$)"
)
_OPERATORS: Final = (
    ("<<<", "here-string"),
    ("<<", "here-document"),
    ("<(", "process substitution"),
    (">(", "process substitution"),
    ("&>", "redirect"),
    ("&&", "command list (&&)"),
    ("||", "command list (||)"),
    ("|&", "pipe"),
    (";;", "case terminator"),
    ("|", "pipe"),
    ("&", "background job (&)"),
    (";", "command list (;)"),
    ("<", "redirect"),
    (">", "redirect"),
    ("(", "subshell"),
    (")", "closing parenthesis"),
    ("`", "command substitution"),
    ("{", "brace"),
    ("*", "glob (*)"),
    ("?", "glob (?)"),
    ("[", "glob ([)"),
)
_QUOTE_IT: Final = "Put single quotes around the word if you mean the character itself."
_ONE_COMMAND: Final = "Send one program with its arguments; send the other commands on their own."
_HINTS: Final = {
    "pipe": _ONE_COMMAND,
    "redirect": "Leave it out: the output is returned in the answer. " + _QUOTE_IT,
    "brace": "Write the words out. " + _QUOTE_IT,
    "command substitution": "Run that command first and put its output here.",
    "here-document": "Put the text into a file and name the file.",
    "here-string": "Put the text into a file and name the file.",
}


@dataclass(slots=True)
class Word:
    """One word: where its source starts and ends (characters from 0, end exclusive), and its value without quotes."""

    start: int
    end: int
    value: str


def scan(text: str) -> list[Word]:
    """Return the words of one simple command. Raises CommandSyntaxError for anything but words, quotes and escapes."""
    words: list[Word] = []
    position, length = 0, len(text)
    while position < length:
        if blanks := _BLANKS.match(text, position):
            position = blanks.end()
            continue
        _check_start(text, position, is_first=not words)
        word = _word(text, position)
        words.append(word)
        check_count(len(words))
        position = word.end
    return words


def _check_start(text: str, start: int, *, is_first: bool) -> None:
    if text[start] == "#":
        raise at(start + 1, "comment", "Leave the comment out. " + _QUOTE_IT)
    if text[start] == "~":
        raise at(start + 1, "tilde", "Write the absolute path. " + _QUOTE_IT)
    if not is_first:
        return
    if _ASSIGNMENT.match(text, start):
        raise at(start + 1, "assignment", "Send variables in `env`, beside the command.")
    if reserved := _RESERVED.match(text, start):
        construct = "negation (!)" if reserved[0] == "!" else f"shell keyword `{reserved[0]}`"
        raise at(start + 1, construct, "No shell runs the command. " + _ONE_COMMAND)


def _word(text: str, start: int) -> Word:
    parts: list[str] = []
    position, length = start, len(text)
    while position < length:
        character = text[position]
        if character in " \t":
            break
        if plain := _PLAIN.match(text, position):
            parts.append(plain[0])
            position = plain.end()
        elif character == "'":
            closing = text.find("'", position + 1)
            if closing < 0:
                raise _unclosed(position, "'")
            parts.append(text[position + 1 : closing])
            position = closing + 1
        elif character == '"':
            position = _double_quoted(text, position, parts)
        elif character == "\\":
            if position + 1 == length:
                raise at(position + 1, "unfinished escape", "Write two backslashes, or put the word in single quotes.")
            parts.append(text[position + 1])
            position += 2
        else:
            parts.append(_unquoted(text, position, start))
            position += 1
    return Word(start, position, "".join(parts))


def _double_quoted(text: str, start: int, parts: list[str]) -> int:
    position, length = start + 1, len(text)
    while position < length:
        if plain := _IN_DOUBLE.match(text, position):
            parts.append(plain[0])
            position = plain.end()
            continue
        character = text[position]
        if character == '"':
            return position + 1
        if character == "\\":
            follower = text[position + 1 : position + 2]
            parts.append(follower if follower and follower in '$`"\\' else "\\" + follower)
            position += 2
            continue
        if character == "`":
            raise at(position + 1, "command substitution", _HINTS["command substitution"])
        if _EXPANDS.match(text, position):
            raise _expansion(text, position)
        parts.append("$")
        position += 1
    raise _unclosed(start, '"')


def _unquoted(text: str, position: int, start: int) -> str:
    """Return the literal value of an unquoted special character where bash takes it literally, else raise."""
    character = text[position]
    if character == "#":
        return character
    if character == "~":
        if position > start and text[position - 1] in "=:":
            raise at(position + 1, "tilde", "Write the absolute path. " + _QUOTE_IT)
        return character
    if character == "$":
        follower = text[position + 1 : position + 2]
        if _EXPANDS.match(text, position) or (follower and follower in "'\""):
            raise _expansion(text, position)
        return character
    construct = next(name for operator, name in _OPERATORS if text.startswith(operator, position))
    hint = _HINTS.get(construct) or (_QUOTE_IT if construct.startswith("glob") else f"{_ONE_COMMAND} {_QUOTE_IT}")
    raise at(position + 1, construct, hint)


def _expansion(text: str, position: int) -> CommandSyntaxError:
    follower = text[position + 1]
    if text.startswith("$((", position) or follower == "[":
        construct = "arithmetic expansion"
    elif follower == "(":
        return at(position + 1, "command substitution", _HINTS["command substitution"])
    elif follower == "'":
        construct = "ANSI-C quote ($'…')"
    elif follower == '"':
        construct = 'translated quote ($"…")'
    else:
        construct = "variable"
    return at(position + 1, construct, "Write the value itself. Put single quotes around the word if you mean `$`.")


def _unclosed(position: int, quote: str) -> CommandSyntaxError:
    return at(position + 1, f"unclosed quote {quote}", "Close the quote, or escape it with a backslash.")
