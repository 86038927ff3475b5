"""On which terms people approve: of a category, and of the operators' rules that ask."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from django.db import connection, transaction

from governance.models import ApprovalTerms, PolicyRule
from governance.policies import policy_generation


@dataclass(frozen=True, slots=True)
class Terms:
    """In how many minutes, by how many people, and whether with a one-time code."""

    minutes: int = 15
    approvals: int = 1
    needs_code: bool = False


@dataclass(frozen=True, slots=True)
class _Kept:
    """The terms that this process holds, with the generation of the rules that they are of."""

    database: str
    generation: int
    categories: Mapping[str, Terms]
    #: By a rule's id in decisions, how many people it asks for, where that is more than one.
    rules: Mapping[str, int]


_kept: _Kept | None = None


def terms_of(category: str, rule_ids: Iterable[str]) -> Terms:
    """Return the terms for a decision of this category in which these rules fired: the strictest of them."""
    kept = _current()
    terms = kept.categories.get(category, Terms())
    return replace(terms, approvals=max([terms.approvals, *(kept.rules.get(name, 1) for name in rule_ids)]))


def _current() -> _Kept:
    database, generation = str(connection.settings_dict["NAME"]), policy_generation()
    if _kept is not None and (_kept.database, _kept.generation) == (database, generation):
        return _kept
    categories = {
        row.category: Terms(row.minutes, row.approvals_required, row.needs_code) for row in ApprovalTerms.objects.all()
    }
    several = PolicyRule.objects.filter(approvals_required__gt=1).values_list("pk", "approvals_required")
    kept = _Kept(database, generation, categories, {f"operator:{pk}": count for pk, count in several})
    # A transaction that is taken back takes its generation with it, which then comes to mean other terms.
    transaction.on_commit(lambda: _keep(kept))
    return kept


def _keep(kept: _Kept) -> None:
    global _kept  # noqa: PLW0603  (a cache of one value, guarded by the rules' generation)
    _kept = kept
