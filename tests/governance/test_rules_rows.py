"""Rows of operators' rules: when they expire, and what becomes of one that cannot be read."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from audit.models import AuditEvent
from audit.trail import SYSTEM
from governance.models import PolicyRule, PolicyVersion
from governance.policies import current_policy, policy_changed
from governance.policy.decide import decide
from governance.policy.parse import parse_text
from governance.policy.types import Maturity, Outcome, Question
from governance.services import rule_save
from tests.governance.policy.cases import FACTS, FOLDER

pytestmark = pytest.mark.django_db


def row(outcome: Outcome, **columns: object) -> PolicyRule:
    """Return a rule about touch; one that allows is over in an hour."""
    values: dict[str, object] = {
        "name": f"{outcome} touch",
        "tokens": "touch",
        "outcome": outcome,
        "justification": "Because.",
        "expires_at": timezone.now() + timedelta(hours=1) if outcome is Outcome.ALLOW else None,
        "examples": ["touch a"],
        "refuses": ["mkdir a"],
    }
    return PolicyRule(**{**values, **columns})


def outcome_of(command: str, maturity: Maturity = Maturity.SUPERVISED) -> Outcome:
    question = Question(parse_text(command), maturity, FACTS, FOLDER, agent_roots=(FOLDER,))
    return decide(question, current_policy()).outcome


def messages() -> Iterator[tuple[str | None, str]]:
    for message in run_checks(tags=["database"], databases=["default"]):
        if (message.id or "").startswith("governance."):
            yield message.id, message.msg


def test_a_rule_counts_until_it_expires() -> None:
    without = current_policy().version
    rule_save(row=row(Outcome.ALLOW), actor=SYSTEM)
    assert outcome_of("touch a") is Outcome.ALLOW
    assert "(until 20" in current_policy().rules[0].shown.justification
    PolicyRule.objects.update(expires_at=timezone.now())
    assert outcome_of("touch a") is Outcome.ASK
    assert current_policy().version == without
    assert PolicyVersion.objects.count() == 2


def test_a_rule_that_allows_must_expire() -> None:
    with pytest.raises(ValidationError, match="rule_that_allows_expires"):
        rule_save(row=row(Outcome.ALLOW, expires_at=None), actor=SYSTEM)
    with pytest.raises(IntegrityError), transaction.atomic():
        row(Outcome.ALLOW, expires_at=None).save()
    assert not AuditEvent.objects.filter(tag="rule:changed").exists()


@pytest.mark.parametrize(
    ("broken", "ls", "touch"),
    [
        (row(Outcome.ALLOW), Outcome.ALLOW, Outcome.ASK),
        (row(Outcome.ASK), Outcome.ASK, Outcome.ASK),
        (row(Outcome.DENY), Outcome.DENY, Outcome.DENY),
    ],
    ids=lambda value: value.name if isinstance(value, PolicyRule) else "",
)
@pytest.mark.parametrize(
    "damage", [{"tokens": "a |b"}, {"agents": "all"}, {"least_maturity": "BOSS"}, {"directories": [1]}]
)
def test_a_rule_that_cannot_be_read_is_never_an_allow(
    broken: PolicyRule, damage: dict[str, object], ls: Outcome, touch: Outcome
) -> None:
    broken.pk = None
    broken._state.adding = True
    broken.save()
    PolicyRule.objects.update(**damage)
    policy_changed()
    assert outcome_of("ls") is ls
    assert outcome_of("touch a") is touch
    ((code, told),) = messages()
    assert code == "governance.E003"
    assert broken.name in told


def test_a_check_names_a_rule_whose_examples_fail_by_now() -> None:
    rule_save(row=row(Outcome.ALLOW), actor=SYSTEM)
    assert list(messages()) == []
    PolicyRule.objects.update(tokens="make", examples=["make all"], refuses=["ls"])
    ((code, told),) = messages()
    assert code == "governance.W001"
    assert "'make all'" in told
