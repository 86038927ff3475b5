"""What a plan cannot hold: the name of each construct, and what to send instead."""

import re
from typing import Final

from governance.policy.syntax import CommandSyntaxError, at

QUOTE_IT: Final = "Put single quotes around the word if you mean the character itself."
NO_SHELL: Final = "No shell runs the command."

_SUBSTITUTION: Final = "Run that command first and put its output here."
_TEXT_IN: Final = "Send the text through a pipe, as in `printf '%s\\n' 'text' | program`, or put it into a file."
_BOTH_FILES: Final = "Write the output into a file first, and name the file."
_NO_CASE: Final = "Join commands with one `;`."
#: Operators that no plan holds: what they are called, and what to send instead.
_OPERATORS: Final = {
    "&": ("background job (&)", "Leave it out: every command is waited for. " + QUOTE_IT),
    "<<<": ("here-string", _TEXT_IN),
    "<<": ("here-document", _TEXT_IN),
    "<(": ("process substitution", _BOTH_FILES),
    ">(": ("process substitution", _BOTH_FILES),
    "<>": ("redirect (<>)", "Open the file with `<` or with `>`."),
    ";;": ("case terminator", _NO_CASE),
    ";&": ("case terminator", _NO_CASE),
    ";;&": ("case terminator", _NO_CASE),
    ")": ("closing parenthesis", "Write `\\)` if a program takes it as an argument."),
}
_EACH: Final = "Send a command for each item, or name them all with a glob such as `*.txt`."
_WHETHER: Final = "Use `&&` and `||`, as in `test -f x && cat x`."
_KEYWORDS: Final = {
    **dict.fromkeys(["for", "select", "while", "until", "do", "done"], _EACH),
    **dict.fromkeys(["if", "then", "else", "elif", "fi", "case", "esac"], _WHETHER),
    **dict.fromkeys(["[[", "]]"], "Use `[ … ]` or `test`."),
    "function": "Send the commands themselves.",
    "coproc": "Send the command itself.",
    "{": "Write the commands without braces.",
    "}": "Write the commands without braces.",
}

_SEND_ITSELF: Final = "Send that command itself."
_IN_ENV: Final = "Send variables in `env`, beside the command."
_NO_STATE: Final = "Leave it out: nothing of one command's shell is kept for the next."
_WHERE: Final = "Use `which NAME` or `ls`."
#: Builtins of bash that neither the host's runner nor a program of the system stands in for. `kill` is a program.
_BUILTINS: Final = {
    **dict.fromkeys(["builtin", "command", "eval", "exec"], _SEND_ITSELF),
    **dict.fromkeys([".", "source"], "Send the commands of the file themselves."),
    **dict.fromkeys(
        ["declare", "export", "local", "readonly", "typeset", "unset", "unsetenv", "let", "shift"], _IN_ENV
    ),
    "set": "Leave it out: a pipeline fails when any of its commands does.",
    **dict.fromkeys(["type", "hash", "caller", "compgen", "history", "fc", "help", "dirs"], _WHERE),
    **dict.fromkeys(["pushd", "popd"], "Use `cd`."),
    **dict.fromkeys(["read", "mapfile", "readarray", "getopts"], "There are no variables; use a pipe."),
    **dict.fromkeys(["bg", "fg", "jobs", "wait", "disown", "suspend"], "Every command is waited for."),
    **dict.fromkeys(["break", "continue", "exit", "logout", "return"], "Leave it out: a plan ends with its last step."),
    **dict.fromkeys(
        ["alias", "unalias", "bind", "complete", "compopt", "enable", "shopt", "times", "trap", "ulimit", "umask"],
        _NO_STATE,
    ),
}
_PRINTF_OF_BASH: Final = re.compile(r"%[-+ #0'\d.*]*(?:q|\()")


def operator_refused(operator: str, position: int) -> CommandSyntaxError | None:
    """Return the error for an operator that no plan holds, or None. `position` counts from 0."""
    known = _OPERATORS.get(operator)
    return at(position + 1, *known) if known else None


def keyword(word: str, column: int) -> CommandSyntaxError:
    """Return the error for a keyword of the shell in the place of a program."""
    if word == "!":
        return at(column, "negation (!)", "Write one `!`, at the start of a pipeline.")
    return at(column, f"shell keyword `{word}`", f"{NO_SHELL} {_KEYWORDS[word]}")


def assignment(column: int) -> CommandSyntaxError:
    """Return the error for `NAME=value` in the place of a program."""
    return at(column, "assignment", _IN_ENV)


def builtin(argv: tuple[str | None, ...]) -> tuple[str, str] | None:
    """Return (what it is, what to send instead) where a command is a builtin that is not run, quoted or not.

    A word is None where the host has something to fill in.
    """
    name = argv[0]
    if name in _BUILTINS:
        return f"shell builtin `{name}`", f"{NO_SHELL} {_BUILTINS[name]}"
    if name == "printf" and len(argv) > 1:
        form = argv[1] or ""
        if form.startswith("-v") or _PRINTF_OF_BASH.search(form):
            return "printf of bash", "Only what the system's own `printf` knows: not -v, %q or %(…)T."
    return None


def parenthesis(text: str, position: int) -> CommandSyntaxError:
    """Return the error for an unquoted `(`."""
    before, after = text[max(0, position - 1) : position], text[position + 1 : position + 2]
    if after == "(":
        return at(position + 1, "arithmetic command", "Work the number out and write it.")
    if before and before in "?*+@!":
        return at(position, "extended glob", "Write a plain glob, or the names. " + QUOTE_IT)
    if after == ")":
        return at(position + 1, "function", "Send the commands themselves. " + QUOTE_IT)
    hint = "Write the commands without parentheses; write `\\(` if a program takes it as an argument."
    return at(position + 1, "subshell", hint)


def expansion(text: str, position: int) -> CommandSyntaxError:
    """Return the error for a `$` or backquote that would be expanded."""
    follower = text[position + 1 : position + 2]
    if text[position] == "`" or (follower == "(" and not text.startswith("$((", position)):
        return at(position + 1, "command substitution", _SUBSTITUTION)
    if follower in ("(", "["):
        return at(position + 1, "arithmetic expansion", "Work the number out and write it.")
    if follower == "'":
        return at(position + 1, "ANSI-C quote ($'…')", "Use ordinary quotes; `printf` writes control characters.")
    if follower == '"':
        return at(position + 1, 'translated quote ($"…")', "Leave the `$` out.")
    hint = "Only $HOME, $PWD and $USER are filled in: write the value itself. Use single quotes if you mean `$`."
    return at(position + 1, "variable", hint)


def brace(text: str, position: int) -> CommandSyntaxError:
    """Return the error for a `{` that bash would not take as it is."""
    if text[position] == "{" and text[position + 1 : position + 2] in ("", " ", "\t"):
        return at(position + 1, "brace", "Write the commands without braces. " + QUOTE_IT)
    return at(position + 1, "brace expansion", "Write the words out. " + QUOTE_IT)


def unclosed_quote(position: int, quote: str) -> CommandSyntaxError:
    """Return the error for a quote that is opened at `position`, from 0, and never closed."""
    return at(position + 1, f"unclosed quote {quote}", "Close the quote, or escape it with a backslash.")


def empty() -> CommandSyntaxError:
    """Return the error for a line or list without a command."""
    return CommandSyntaxError("the command is empty", construct="empty", hint="Send a program and its arguments.")


def unnamed(column: int | None) -> CommandSyntaxError:
    """Return the error for a program's name that is an empty word."""
    place = f" at column {column}" if column is not None else ""
    return CommandSyntaxError(
        f"the program's name{place} is empty", construct="empty", hint="Name the program first.", column=column
    )


def secret(what: str, shape: str, column: int | None) -> CommandSyntaxError:
    """Return the error for a word with the shape of a secret, whose value stays out of the message."""
    place = f" at column {column}" if column is not None else ""
    return CommandSyntaxError(
        f"{what}{place} has the shape of a secret: {shape}",
        construct="secret",
        hint="Name the secret instead of sending it; what is sent is stored and shown to approvers.",
        column=column,
    )
