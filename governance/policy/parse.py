"""Text or an argv list -> a plan.

A line is read twice: by a linear scan of our own, which the plan is made of, and by tree-sitter-bash, which must find
the same words, quotes, variables and operators at the same places. Where the two readings differ, it is refused.
"""

import time
from collections.abc import Sequence

from governance.policy import grammar, refusals, witness
from governance.policy.plan import Plan
from governance.policy.scan import Mark, scan
from governance.policy.secret_shapes import find_secret
from governance.policy.syntax import (
    MAX_ARGUMENTS,
    MAX_BYTES,
    MAX_COMMANDS,
    CommandSyntaxError,
    at,
    check_characters,
    check_count,
    check_size,
    refused_character,
)

__all__ = ["MAX_ARGUMENTS", "MAX_BYTES", "MAX_COMMANDS", "CommandSyntaxError", "parse_argv", "parse_text"]


def parse_text(text: str) -> Plan:
    """Return the plan of one line of text, as bash would read it.

    Raises CommandSyntaxError for what no plan holds, with the column and what to send instead.
    """
    started = time.monotonic()
    check_size(len(text))
    check_characters(text)
    check_size(len(text) if text.isascii() else len(text.encode()))
    marks: list[Mark] = []
    plan = grammar.build(text, scan(text, marks))
    witness.check(text, marks, started)
    return plan


def parse_argv(argv: Sequence[str]) -> Plan:
    """Return the plan of an argv list; every argument is literal. Raises CommandSyntaxError as `parse_text` does."""
    if isinstance(argv, str) or not all(isinstance(word, str) for word in argv):
        raise CommandSyntaxError("argv is a list of texts", construct="argv", hint='Send for example ["ls", "-l"].')
    if not argv:
        raise refusals.empty()
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
    if not argv[0]:
        raise refusals.unnamed(None)
    if known := refusals.builtin(tuple(argv[:2])):
        raise at(None, *known)
    for number, word in enumerate(argv):
        if shape := find_secret(word):
            raise refusals.secret(f"argument {number}", shape, None)
    return Plan.simple(*argv)
