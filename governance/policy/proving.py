"""Whether an operator's rule does what its examples say. Pure."""

from collections.abc import Sequence
from typing import Final

from governance.policy.decide import Policy, decide, policy_of
from governance.policy.matrix import SHIPPED_MATRIX
from governance.policy.parse import CommandSyntaxError, parse_text
from governance.policy.rules import GRANTABLE, OperatorRule
from governance.policy.types import Decision, Facts, Maturity, Outcome, Question

_HOME: Final = "/home/example"
_FOLDER: Final = f"{_HOME}/work"
#: Here every category that a grant may cover asks, so that a grant has something to lift.
_ASKING: Final = {cell: Outcome.ASK if cell[0] in GRANTABLE else outcome for cell, outcome in SHIPPED_MATRIX.items()}


def example_problems(
    rule: OperatorRule, examples: Sequence[str], refuses: Sequence[str], policy: Policy
) -> list[tuple[str, str]]:
    """Return each example that fails, with why in one sentence. `policy` gives the tables and the protected paths."""
    alone = policy_of(_ASKING, (), policy.tables, policy.protection, [rule])
    wanted = [(text, True) for text in examples] + [(text, False) for text in refuses]
    return [(text, why) for text, is_match in wanted if (why := _unlike(rule, text, alone, is_match=is_match))]


def _unlike(rule: OperatorRule, text: str, alone: Policy, *, is_match: bool) -> str:
    """Return why the example is not as it should be, or an empty text."""
    try:
        decision = _decided(rule, text, alone)
    except CommandSyntaxError as error:
        return f"It cannot be read: {error.message}. {error.hint}"
    if decision.has_rule("engine-error"):
        return decision.explanation
    fires = decision.has_rule(rule.shown.id)
    if rule.outcome is Outcome.ALLOW:
        fires = fires and decision.outcome is Outcome.ALLOW
    if fires == is_match:
        return ""
    if fires:
        return "It must not match, and the rule fires for it."
    if rule.outcome is not Outcome.ALLOW or not all(
        rule.pattern.matches(command) for command in decision.plan.commands()
    ):
        return "It must match, and the rule does not fire for it."
    others = [f"{one.id} ({one.justification.rstrip('.')})" for one in decision.rules if one.id not in _MERE]
    return f"A grant cannot cover it: {'; '.join(others) or f'its category is {decision.category}'}."


#: Rules that fire for every example here, and say nothing of it.
_MERE: Final = frozenset(f"matrix:{category}:{maturity}" for category in GRANTABLE for maturity in Maturity)


def _decided(rule: OperatorRule, text: str, alone: Policy) -> Decision:
    """Return the decision on an example, asked for by whom the rule is about, where every folder is granted."""
    scope = rule.scope
    folder = scope.directories[0] if scope.directories else _FOLDER
    question = Question(
        parse_text(text),
        scope.least_maturity or scope.most_maturity or Maturity.SUPERVISED,
        Facts(home=_HOME, user="example", scratch=f"{_HOME}/scratch", is_sandboxed=True),
        _HOME + folder[1:] if folder.startswith("~") else folder,
        agent_roots=("/",),
        agent=scope.agents[0] if scope.agents else "example",
        host=scope.hosts[0] if scope.hosts else "example",
    )
    return decide(question, alone)
