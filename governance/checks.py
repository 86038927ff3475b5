"""System check of the rules in force: the tables load, and more maturity never gets less."""

from collections.abc import Sequence
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 - Django's name for it
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection

from governance.models import PolicyRule, PolicyVersion, PromotionRow
from governance.policies import stored_policy
from governance.policy.decide import Policy, policy_problems
from governance.policy.proving import example_problems
from governance.policy.types import Outcome
from governance.trust import promotion_problems

_PROMOTIONS: Final = PromotionRow._meta.db_table


@register(Tags.database)
def policy_is_sound(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Report each program table that is refused and each matrix cell that is missing or not monotone.

    What a refused table would have allowed is unknown until it is mended, and a missing cell denies.
    """
    if DEFAULT_DB_ALIAS not in (databases or []):
        return []
    try:
        # Not before the newest of these tables is there: `migrate` makes them, and runs this check first.
        tables = connection.introspection.table_names()
        if not {PolicyRule._meta.db_table, PolicyVersion._meta.db_table} <= set(tables):
            return []
        policy = stored_policy()
        rows = list(PolicyRule.objects.all())
        criteria = [row.criterion for row in PromotionRow.objects.all()] if _PROMOTIONS in tables else []
    except DatabaseError as error:
        return [Error(f"The rules could not be read: {error}", id="governance.E002")]
    found: list[CheckMessage] = [
        Error(problem, hint="Mend the file it names, or edit the matrix in the admin.", id="governance.E001")
        for problem in policy_problems(policy)
    ]
    hint = "Edit the promotion rules in the admin."
    found += [Error(problem, hint=hint, id="governance.E004") for problem in promotion_problems(criteria)]
    return found + [message for row in rows if (message := _rule_message(row, policy)) is not None]


def _rule_message(row: PolicyRule, policy: Policy) -> CheckMessage | None:
    """Return what is wrong with an operator's rule. One that cannot be read never allows anything."""
    where = f"The operator's rule {row.name!r} (number {row.pk})"
    try:
        rule = row.value()
    except ValueError as error:
        what = "It allows nothing." if row.outcome == Outcome.ALLOW else "Until then it is about every command."
        return Error(f"{where} cannot be read: {error} {what}", hint="Mend it in the admin.", id="governance.E003")
    problems = example_problems(rule, row.examples, row.refuses, policy)
    if not problems:
        return None
    text, why = problems[0]
    hint = "The tables read it in another way than when the rule was saved. Look at the rule in the admin."
    return Warning(f"{where} has an example that fails, {text!r}: {why}", hint=hint, id="governance.W001")
