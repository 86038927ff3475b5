"""The tokens of a line -> a plan: pipelines, joins, negation and redirects, with bash's precedence."""

import re
from collections.abc import Iterator
from typing import Final

from governance.policy import refusals
from governance.policy.plan import KEYWORDS, Command, Join, Mode, Plan, Redirect, Step, Word
from governance.policy.scan import Token
from governance.policy.secret_shapes import SHORTEST, find_secret
from governance.policy.syntax import CommandSyntaxError, at, check_commands

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*(?:\[[^\]]*\])?\+?=", re.ASCII)
_JOINS: Final = {"&&": Join.AND, "||": Join.OR, ";": Join.THEN}
_MODES: Final = {"<": Mode.READ, ">": Mode.WRITE, ">|": Mode.WRITE, ">>": Mode.APPEND}
_BOTH: Final = {"&>": Mode.WRITE, "&>>": Mode.APPEND}
_COPIES: Final = {"<&": 0, ">&": 1}
_NUMBER: Final = re.compile(r"[0-9]+-?|-")
_NAME_IT: Final = "Name the file behind it."
_ERRORS_TOO: Final = Redirect(2, Mode.COPY, 1)


def build(text: str, tokens: Iterator[Token]) -> Plan:
    """Return the plan of a line's tokens. Raises CommandSyntaxError at the first place where they are none."""
    return _Builder(text, tokens).plan()


class _Builder:
    """Reads tokens from left to right; the command, pipeline and step in the making are attributes."""

    def __init__(self, text: str, tokens: Iterator[Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.last: Token | None = None
        self.steps: list[Step] = []
        self.pipeline: list[Command] = []
        self.argv: list[Word] = []
        self.redirects: list[Redirect] = []
        #: The command's program, or its first redirect while it has none.
        self.first: Token | None = None
        self.join = Join.FIRST
        self.is_negated = False
        self.count = 0

    def plan(self) -> Plan:
        """Read every token."""
        for token in self.tokens:
            self.last = token
            if token.word is not None:
                self.word(token, token.word)
            elif token.operator in _JOINS:
                self.end_step(token)
                self.join = _JOINS[token.operator]
            elif token.operator in ("|", "|&"):
                if token.operator == "|&":
                    self.redirects.append(_ERRORS_TOO)
                self.end_command(token)
            else:
                self.redirect(token)
        is_ended = self.join is Join.THEN and not (self.pipeline or self.argv or self.redirects or self.is_negated)
        if not is_ended:
            self.end_step(None)
        return Plan(tuple(self.steps))

    def word(self, token: Token, word: Word) -> None:
        """Add a word to the command; where a program may stand, bash gives some words a meaning of their own."""
        _check_secret(token, word)
        if self.argv:
            self.argv.append(word)
            return
        column = token.start + 1
        if token.bare in KEYWORDS:
            if token.bare != "!" or self.is_negated or self.pipeline or self.redirects:
                raise refusals.keyword(token.bare, column)
            self.is_negated = True
            return
        if _ASSIGNMENT.match(self.text, token.start):
            raise refusals.assignment(column)
        if token.bare == "$":
            raise at(column, "prompt ($)", "Leave the prompt out.")
        if word.literal is None:
            hint = "Write the program's name as it is, without globs, `~` or variables."
            raise at(column, "program that is not named", hint)
        if not word.literal:
            raise refusals.unnamed(column)
        self.argv.append(word)
        self.first = token

    def redirect(self, token: Token) -> None:
        """Read a redirect: a descriptor or none, the operator, and the target."""
        operator = token if token.descriptor is None else next(self.tokens)
        target = next(self.tokens, None)
        if target is None or target.word is None:
            raise at(operator.start + 1, "redirect without a target", _NAME_IT)
        _check_secret(target, target.word)
        self.first = self.first or token
        self.redirects += _redirects(operator, token.descriptor, target, target.word)

    def end_command(self, token: Token | None) -> None:
        """Close the command in front of `token`, or at the end of the line."""
        if not self.argv:
            raise self.nothing(token)
        column = self.first.start + 1 if self.first else None
        command = Command(tuple(self.argv), tuple(self.redirects))
        if known := refusals.builtin(tuple(word.literal for word in command.argv[:2])):
            raise at(column, *known)
        self.pipeline.append(command)
        self.argv, self.redirects, self.first = [], [], None
        self.count += 1
        check_commands(self.count)

    def end_step(self, token: Token | None) -> None:
        """Close the pipeline in front of `token`, or at the end of the line."""
        self.end_command(token)
        self.steps.append(Step(tuple(self.pipeline), self.join, self.is_negated))
        self.pipeline, self.is_negated = [], False

    def nothing(self, token: Token | None) -> CommandSyntaxError:
        """Return the error for a place where a command is missing."""
        if self.first:
            return at(self.first.start + 1, "redirect without a command", "Write `: > FILE` to empty a file.")
        if token is None:
            if self.last is None:
                return refusals.empty()
            what = self.last.operator or self.last.bare
            return at(self.last.start + 1, f"missing command after {what}", "Write a command behind it.")
        return at(token.start + 1, f"missing command before {token.operator}", "Write a command in front of it.")


def _check_secret(token: Token, word: Word) -> None:
    if token.end - token.start < SHORTEST:
        return
    literal = word.literal
    text = "".join(part.text for part in word.parts) if literal is None else literal
    if shape := find_secret(text):
        raise refusals.secret("the word", shape, token.start + 1)


def _redirects(operator: Token, descriptor: int | None, target: Token, word: Word) -> list[Redirect]:
    """Return what a redirect of bash does, in the order in which it takes effect."""
    name = operator.operator
    if name in _COPIES:
        if _NUMBER.fullmatch(word.literal or ""):
            return [_copy(name, descriptor, target)]
        if name == "<&" or descriptor is not None or word.literal is None:
            hint = "Write `< FILE`." if name == "<&" else "Write `&> FILE` for both outputs."
            raise at(operator.start + 1, f"redirect ({name})", hint)
        name = "&>"
    if word.has_glob:
        raise at(target.start + 1, "glob in a redirect", "Name the one file that is meant.")
    if not word.parts:
        raise at(target.start + 1, "redirect without a target", _NAME_IT)
    if name in _BOTH:
        return [Redirect(1, _BOTH[name], word), _ERRORS_TOO]
    mode = _MODES[name]
    return [Redirect((0 if mode is Mode.READ else 1) if descriptor is None else descriptor, mode, word)]


def _copy(operator: str, descriptor: int | None, target: Token) -> Redirect:
    if target.bare not in ("0", "1", "2"):
        raise at(target.start + 1, "descriptor", "Name descriptor 0, 1 or 2; to drop an output use `> /dev/null`.")
    return Redirect(_COPIES[operator] if descriptor is None else descriptor, Mode.COPY, int(target.bare))
