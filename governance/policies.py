"""The policy in force: the rows a person edits and the shipped tables, as one frozen value kept in memory."""

import threading

from django.db import connection, transaction

from governance.models import DirectoryRow, MatrixRow, PolicyGeneration
from governance.policy.decide import Policy, build_policy
from governance.policy.types import Access, Category, DirectoryRule, Maturity, Outcome

_lock = threading.Lock()
_kept: tuple[str, int, Policy] | None = None


def current_policy() -> Policy:
    """Return the policy in force, read again whenever a rule has changed. One small query when nothing has."""
    global _kept  # noqa: PLW0603  (a cache of one value, guarded by its generation)
    database = str(connection.settings_dict["NAME"])
    generation = _generation()
    kept = _kept
    if kept and kept[:2] == (database, generation):
        return kept[2]
    with transaction.atomic():
        generation = _generation()
        policy = _read()
    with _lock:
        _kept = (database, generation, policy)
    return policy


def policy_changed() -> None:
    """Tell every process, in the caller's transaction, that the rules are others now."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE governance_policygeneration SET number = number + 1 WHERE id = 1")
        if cursor.rowcount == 0:
            PolicyGeneration.objects.create(id=1, number=1)


def _generation() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT number FROM governance_policygeneration WHERE id = 1")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def _read() -> Policy:
    matrix = {(Category(row.category), Maturity(row.maturity)): Outcome(row.outcome) for row in MatrixRow.objects.all()}
    directories = tuple(
        DirectoryRule(row.root, Access(row.access), Maturity(row.least_maturity))
        for row in DirectoryRow.objects.order_by("root")
    )
    return build_policy(matrix, directories)
