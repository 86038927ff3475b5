"""Sentences for people: why a decision is what it is, and what would make it allowed."""

from collections.abc import Iterable, Sequence
from typing import Final

from governance.policy.entries import Entry
from governance.policy.matrix import Matrix
from governance.policy.reading import Reading, shown
from governance.policy.types import Category, Maturity, Outcome, Question, Rule

_NOTHING: Final = {
    "blocked": "Nothing: blocked programs are denied at every maturity, whoever approves.",
    "protected-path": "Nothing: protected paths are out of reach of every agent, whoever approves. Leave the path out.",
    "contains-protected": "Name the folders below it that you need; the protected path must not be among them.",
    "protected-host": "Nothing: these addresses are out of reach of every agent, whoever approves.",
    "environment": "Leave these variables out.",
    "engine-error": "Nothing: the command could not be judged. Tell an operator.",
    "relative-directory": "Send an absolute working directory.",
}
_INSTEAD: Final = {
    "unknown-option": "use listed options only",
    "unknown-operand": "give the operands that the program's table lists",
    "unknown-subcommand": "use a listed subcommand",
    "invalid-value": "give a value of the type that is named",
    "needs-option": "give the option that is named",
    "glob-place": "name the one file, or put the pattern into quotes",
    "may-match-protected": "name the files",
    "unreadable-host": "name the host plainly",
    "never-read": "put the code into a file in your directory and run that file",
    "no-sandbox": "use a host whose sandbox is active",
}
_STATES: Final = {
    Outcome.ALLOW: "This is allowed",
    Outcome.ASK: "A person must approve this",
    Outcome.DENY: "This is denied",
}


def explain(outcome: Outcome, category: Category, readings: Sequence[Reading], rules: Sequence[Rule]) -> str:
    """Return one or two sentences: what the command does, and the rule that decided."""
    does = [sentence for reading in readings if (sentence := _does(reading, category))]
    decisive = next((rule.justification for rule in rules if rule.outcome is outcome), "No rule objects.")
    return " ".join([*dict.fromkeys(does), f"{_STATES[outcome]}: {decisive}"])


def _does(reading: Reading, category: Category) -> str:
    entry: Entry | None = reading.entry
    if entry is None or entry.category is Category.BLOCKED:
        return ""
    doing = entry.justification[0].lower() + entry.justification[1:].removesuffix(".")
    raising = next((token for token in reading.tokens if token.category is category), None)
    cause = ""
    if raising is not None and raising.role != "program" and category is not entry.category:
        cause = f", because of {shown(raising.text)}"
    outside = " Another process does the work, outside the sandbox." if reading.is_daemon else ""
    return f"`{reading.title}` {doing} (category {category}{cause}).{outside}"


def what_would_allow(question: Question, rules: Iterable[Rule], matrix: Matrix, categories: Iterable[Category]) -> str:
    """Return what would make the command run without a person, as one or two sentences; empty where it already does."""
    strict = [rule for rule in rules if rule.outcome is not Outcome.ALLOW]
    if not strict:
        return ""
    if strict[0].outcome is Outcome.DENY and strict[0].id.startswith("operator:"):
        return "Nothing but another rule: an operator made this one."
    if strict[0].outcome is Outcome.DENY:
        return _NOTHING.get(strict[0].id) or _more_maturity(question.maturity, matrix, categories, Outcome.ASK)
    sentences = ["An approver can allow it."]
    instead = [_INSTEAD[rule.id] for rule in strict if rule.id in _INSTEAD]
    if any(rule.id == "outside-roots" for rule in strict):
        instead.append("work inside the agent's folders, or have an operator give the agent this folder")
    if instead:
        text = "; ".join(dict.fromkeys(instead))
        sentences.append(f"To need none: {text}.")
    if any(rule.id.startswith("operator:") for rule in strict):
        sentences.append("An operator made the rule that asks, and no grant lifts it.")
    elif any(rule.id.startswith("matrix:") for rule in strict):
        sentences.append(_more_maturity(question.maturity, matrix, categories, Outcome.ALLOW))
    return " ".join(sentence for sentence in sentences if sentence)


def _more_maturity(maturity: Maturity, matrix: Matrix, categories: Iterable[Category], wanted: Outcome) -> str:
    """Name the least maturity above this one for which every category gets at most `wanted`."""
    needed = set(categories)
    missing = [category for category in needed if matrix[category, maturity].strictness > wanted.strictness]
    kinds = " and ".join(str(category) for category in sorted(missing, key=lambda one: one.severity))
    how = "with an approval" if wanted is Outcome.ASK else "without asking"
    for more in Maturity:
        if more.rank <= maturity.rank:
            continue
        if all(matrix[category, more].strictness <= wanted.strictness for category in needed):
            return f"{more} agents may run {kinds} commands {how}."
    return "No maturity runs it without a person." if wanted is Outcome.ALLOW else ""
