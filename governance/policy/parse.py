"""Text or an argv list -> a plan.

tree-sitter-bash reads the text. Only words and their leaves are taken from its tree, because the tree's structure is
not always bash's: every byte must belong to a word or be a blank between two words, and the words must be the ones
that the linear scan found. Where the two readings differ, the command is refused.
"""

import time
from collections.abc import Sequence
from typing import Final

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from governance.policy.plan import Plan
from governance.policy.scan import Word, scan
from governance.policy.secret_shapes import find_secret
from governance.policy.syntax import (
    MAX_ARGUMENTS,
    MAX_BYTES,
    CommandSyntaxError,
    at,
    check_characters,
    check_count,
    check_size,
    refused_character,
)

__all__ = ["MAX_ARGUMENTS", "MAX_BYTES", "CommandSyntaxError", "parse_argv", "parse_text"]

PARSE_DEADLINE_SECONDS: Final = 0.04
_LANGUAGE: Final = Language(tree_sitter_bash.language())
_DOUBLE_ESCAPES: Final = '$`"\\'
#: Leaves that stand for themselves; the grammar gives some words of punctuation a type of their own.
_LITERAL_LEAVES: Final = frozenset(["word", "number", "$", "==", "=~", "test_operator", "special_variable_name"])
#: Builtins that change a shell's own variables. There is no shell, and the parser reads what follows them differently.
_VARIABLE_BUILTINS: Final = frozenset(["declare", "typeset", "export", "readonly", "local", "unset", "unsetenv"])


def parse_text(text: str) -> Plan:
    """Return the plan of one line of text: one program and its arguments, as words, quotes and escapes.

    Raises CommandSyntaxError for anything else, with the column and what to send instead.
    """
    check_size(len(text))
    check_characters(text)
    source = text.encode()
    check_size(len(source))
    words = scan(text)
    if not words:
        raise _empty()
    _check_program(words[0].value, column=words[0].start + 1)
    _compare(text, source, words)
    argv = tuple(word.value for word in words)
    _check_secrets(argv)
    return Plan.simple(*argv)


def parse_argv(argv: Sequence[str]) -> Plan:
    """Return the plan of an argv list; every argument is literal. Raises CommandSyntaxError as `parse_text` does."""
    if isinstance(argv, str) or not all(isinstance(word, str) for word in argv):
        raise CommandSyntaxError("argv is a list of texts", construct="argv", hint='Send for example ["ls", "-l"].')
    if not argv:
        raise _empty()
    check_count(len(argv))
    for number, word in enumerate(argv):
        for character in "" if word.isascii() and word.isprintable() else word:
            name = refused_character(character)
            if name is not None:
                raise CommandSyntaxError(
                    f"argument {number} holds a {name} U+{ord(character):04X}",
                    construct=name,
                    hint="Leave it out: only characters that a person can see are accepted.",
                )
    check_size(sum(len(word.encode()) + 1 for word in argv) - 1)
    _check_program(argv[0], column=None)
    _check_secrets(argv)
    return Plan.simple(*argv)


def _empty() -> CommandSyntaxError:
    return CommandSyntaxError("the command is empty", construct="empty", hint="Send a program and its arguments.")


def _check_program(name: str, *, column: int | None) -> None:
    if not name:
        raise CommandSyntaxError(
            "the program's name is empty", construct="empty", hint="Name the program first.", column=column
        )
    if name in _VARIABLE_BUILTINS:
        raise CommandSyntaxError(
            f"`{name}` is a shell builtin, and no shell runs the command",
            construct="shell builtin",
            hint="Send variables in `env`, beside the command.",
            column=column,
        )


def _check_secrets(argv: Sequence[str]) -> None:
    for number, word in enumerate(argv):
        shape = find_secret(word)
        if shape is not None:
            # The value itself stays out of the message: messages are stored and shown.
            raise CommandSyntaxError(
                f"argument {number} has the shape of a secret: {shape}",
                construct="secret",
                hint="Name the secret instead of sending it; what is sent is stored and shown to approvers.",
            )


def _compare(text: str, source: bytes, words: list[Word]) -> None:
    """Raise CommandSyntaxError unless the parser reads exactly the same words at the same places."""
    nodes = _word_nodes(source)
    offsets = _byte_offsets(text) if len(text) != len(source) else None
    for index, word in enumerate(words):
        start, end = (offsets[word.start], offsets[word.end]) if offsets else (word.start, word.end)
        node = nodes[index] if index < len(nodes) else None
        if node is None or node.start_byte != start or node.end_byte != end or _value(node, source) != word.value:
            raise _unclear(word.start + 1)
    if len(nodes) != len(words):
        raise _unclear(None)


def _byte_offsets(text: str) -> list[int]:
    offsets, total = [0], 0
    for character in text:
        total += len(character.encode())
        offsets.append(total)
    return offsets


def _word_nodes(source: bytes) -> list[Node]:
    deadline = time.monotonic() + PARSE_DEADLINE_SECONDS
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
    command = root.children[0] if root.child_count == 1 else None
    if root.has_error or command is None or command.type != "command":
        raise _unclear(None)
    return [child.children[0] if child.type == "command_name" else child for child in command.children]


def _value(node: Node, source: bytes) -> str | None:
    """Return the word that a node stands for, or None where its type is none of the closed set."""
    if node.type == "concatenation":
        parts, position = [], node.start_byte
        for child in node.children:
            part = _value(child, source)
            if part is None or child.start_byte != position:
                return None
            parts.append(part)
            position = child.end_byte
        return "".join(parts) if position == node.end_byte else None
    raw = source[node.start_byte : node.end_byte].decode()
    if node.type == "raw_string":
        return raw[1:-1]
    if node.type == "string":
        return _without_escapes(raw[1:-1], _DOUBLE_ESCAPES)
    if node.type in _LITERAL_LEAVES:
        return _without_escapes(raw, None)
    return None


def _without_escapes(raw: str, escapable: str | None) -> str:
    """Return `raw` without the backslashes that quote: before any character, or before one of `escapable`."""
    if "\\" not in raw:
        return raw
    parts, position = [], 0
    while position < len(raw):
        if raw[position] == "\\" and (escapable is None or raw[position + 1 : position + 2] in escapable):
            position += 1
        parts.append(raw[position : position + 1])
        position += 1
    return "".join(parts)


def _unclear(column: int | None) -> CommandSyntaxError:
    hint = "Put single quotes around every word that holds punctuation."
    if column is not None:
        return at(column, "unclear syntax", hint)
    return CommandSyntaxError("the command is not one that can be read", construct="unclear syntax", hint=hint)
