"""System check of the rules in force: the tables load, and more maturity never gets less."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection

from governance.models import MatrixRow
from governance.policies import current_policy
from governance.policy.decide import policy_problems


@register(Tags.database)
def policy_is_sound(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Report each program table that is refused and each matrix cell that is missing or not monotone.

    What a refused table would have allowed is unknown until it is mended, and a missing cell denies.
    """
    if DEFAULT_DB_ALIAS not in (databases or []):
        return []
    try:
        if MatrixRow._meta.db_table not in connection.introspection.table_names():
            return []
        problems = policy_problems(current_policy())
    except DatabaseError as error:
        return [Error(f"The rules could not be read: {error}", id="governance.E002")]
    return [
        Error(problem, hint="Mend the file it names, or edit the matrix in the admin.", id="governance.E001")
        for problem in problems
    ]
