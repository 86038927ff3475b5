"""What the tests of the policy share: one policy, one host, one agent's folder, and a short way to ask."""

from collections.abc import Mapping
from typing import Final

from governance.policy.decide import Policy, build_policy, decide
from governance.policy.parse import parse_argv, parse_text
from governance.policy.types import Decision, Facts, Maturity, Question

FOLDER: Final = "/srv/agent"
FACTS: Final = Facts(
    home="/home/ada",
    user="ada",
    scratch="/home/ada/.cache/atom/scratch",
    is_sandboxed=True,
    protected=("/opt/atom", "/srv/state"),
)
POLICY: Final[Policy] = build_policy()


def ask(
    command: str | list[str],
    maturity: Maturity = Maturity.SUPERVISED,
    *,
    facts: Facts = FACTS,
    folder: str = FOLDER,
    roots: tuple[str, ...] = (FOLDER,),
    env: Mapping[str, str] | None = None,
    policy: Policy = POLICY,
) -> Decision:
    """Return the decision on a command of an agent whose own folder is FOLDER."""
    plan = parse_text(command) if isinstance(command, str) else parse_argv(command)
    return decide(Question(plan, maturity, facts, folder, dict(env or {}), roots), policy)


def rule_ids(decision: Decision) -> set[str]:
    """Return the ids of the rules that fired."""
    return {rule.id for rule in decision.rules}
