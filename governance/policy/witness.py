"""The second reading of a line, by tree-sitter-bash. Where it differs from the scan's, the line is refused.

Only leaves are taken from the tree, because its structure is not always bash's: words, quotes, variables, operators and
comments in source order. They must be the stretches that the scan found, to the byte; between them are only blanks.
"""

import time
from typing import Final

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from governance.policy.scan import Mark, MarkKind
from governance.policy.syntax import CommandSyntaxError, at

#: For both readings together; the scan comes first, and is linear.
DEADLINE_SECONDS: Final = 0.04
_LANGUAGE: Final = Language(tree_sitter_bash.language())
_BARE: Final = ["word", "number", "test_operator", "special_variable_name", "regex", "extglob_pattern"]
_LEAVES: Final = {
    # The grammar gives words of punctuation, and those inside `[ … ]`, a type of their own.
    **dict.fromkeys([*_BARE, "$", "!", "[", "]", "=", "==", "!=", "=~", "~", "+", "-", "*", "/"], MarkKind.BARE),
    **dict.fromkeys(["|", "|&", "||", "&&", ";", "<", ">", ">>", ">|", "&>", "&>>", "<&", ">&"], MarkKind.OPERATOR),
    "raw_string": MarkKind.SINGLE,
    "simple_expansion": MarkKind.VARIABLE,
    "expansion": MarkKind.VARIABLE,
    "file_descriptor": MarkKind.DESCRIPTOR,
    "comment": MarkKind.COMMENT,
}
_BRANCHES: Final = frozenset(
    (
        *("program", "list", "pipeline", "redirected_statement", "negated_command", "command", "command_name"),
        *("concatenation", "file_redirect", "test_command", "unary_expression", "binary_expression"),
    )
)
_IN_STRINGS: Final = frozenset(['"', "string_content", "$"])
_HINT: Final = "Put single quotes around every word that holds punctuation."


def check(text: str, marks: list[Mark], started: float) -> None:
    """Raise CommandSyntaxError unless the parser finds exactly these stretches before its time is over.

    `started` is when the reading of the line began, in seconds of `time.monotonic`.
    """
    source = text.encode()
    if len(source) != len(text):
        offsets = _byte_offsets(text)
        marks = [(offsets[start], offsets[end], kind) for start, end, kind in marks]
    found = _leaves(_root(source, started + DEADLINE_SECONDS))
    if found == marks or found == _without_lost_dashes(source, marks, found):
        return
    for wanted, seen in zip(marks, found, strict=False):
        if wanted != seen:
            start = min(wanted[0], seen[0])
            raise at(len(source[:start].decode(errors="ignore")) + 1, "unclear syntax", _HINT)
    raise _unclear()


def _without_lost_dashes(source: bytes, marks: list[Mark], found: list[Mark]) -> list[Mark]:
    """Return the stretches without those that the grammar drops in silence: a lone `-` in front of `2>`."""
    seen = set(found)
    followers = [kind for _, _, kind in marks[1:]]
    followers.append(MarkKind.BARE)
    return [
        mark
        for mark, follower in zip(marks, followers, strict=True)
        if mark in seen or follower is not MarkKind.DESCRIPTOR or source[mark[0] : mark[1]] != b"-"
    ]


def _byte_offsets(text: str) -> list[int]:
    offsets, total = [0], 0
    for character in text:
        total += len(character.encode())
        offsets.append(total)
    return offsets


def _leaves(root: Node) -> list[Mark]:
    """Return the stretches that the parser finds, in source order."""
    marks: list[Mark] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        kind = _LEAVES.get(node.type)
        if kind is not None:
            start = node.start_byte
            if kind is MarkKind.BARE and marks and marks[-1][1] == start and marks[-1][2] is MarkKind.BARE:
                start = marks.pop()[0]
            marks.append((start, node.end_byte, kind))
        elif node.type in _BRANCHES:
            waiting += reversed(node.children)
        elif node.type == "string":
            marks.append((node.start_byte, node.end_byte, MarkKind.DOUBLE))
            waiting += reversed([child for child in node.children if child.type not in _IN_STRINGS])
        else:
            raise _unclear()
    return marks


def _root(source: bytes, deadline: float) -> Node:
    try:
        root = (
            Parser(_LANGUAGE)
            .parse(lambda offset, _: source[offset:], progress_callback=lambda *_: time.monotonic() > deadline)
            .root_node
        )
    except ValueError as error:
        raise CommandSyntaxError(
            "reading the command took too long", construct="too complex", hint="Send a simpler command."
        ) from error
    if root.has_error:
        raise _unclear()
    return root


def _unclear() -> CommandSyntaxError:
    return CommandSyntaxError("the command is not one that can be read", construct="unclear syntax", hint=_HINT)
