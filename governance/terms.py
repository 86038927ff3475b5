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
class TermsInForce:
    """The terms of every category and rule, as they are now."""

    categories: Mapping[str, Terms]
    #: By a rule's id in decisions, how many people it asks for, where that is more than one.
    rules: Mapping[str, int]

    def of(self, category: str, rule_ids: Iterable[str]) -> Terms:
        """Return the terms for a decision of this category in which these rules fired: the strictest of them."""
        terms = self.categories.get(category, Terms())
        return replace(terms, approvals=max([terms.approvals, *(self.rules.get(name, 1) for name in rule_ids)]))


#: What this process holds: of which database, and of which generation of the rules.
_kept: tuple[str, int, TermsInForce] | None = None


def terms_in_force() -> TermsInForce:
    """Return the terms, read again whenever a rule has changed. One small query when none has."""
    database, generation = str(connection.settings_dict["NAME"]), policy_generation()
    if _kept is not None and _kept[:2] == (database, generation):
        return _kept[2]
    categories = {
        row.category: Terms(row.minutes, row.approvals_required, row.needs_code) for row in ApprovalTerms.objects.all()
    }
    several = PolicyRule.objects.filter(approvals_required__gt=1).values_list("pk", "approvals_required")
    terms = TermsInForce(categories, {f"operator:{pk}": count for pk, count in several})
    # A transaction that is taken back takes its generation with it, which then comes to mean other terms.
    transaction.on_commit(lambda: _keep(database, generation, terms))
    return terms


def terms_of(category: str, rule_ids: Iterable[str]) -> Terms:
    """Return the terms of now for one decision."""
    return terms_in_force().of(category, rule_ids)


def _keep(database: str, generation: int, terms: TermsInForce) -> None:
    global _kept  # noqa: PLW0603  (a cache of one value, guarded by the rules' generation)
    _kept = (database, generation, terms)
