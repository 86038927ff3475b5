"""Agents, keys and rules change by a service, with a reason where one is asked for, and with their event."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM
from governance import keys, services
from governance.errors import ConflictError, InvalidError
from governance.models import Agent, AgentKey, DirectoryRow, MatrixRow
from governance.policies import current_policy
from governance.policy.types import Access, Category, Maturity, Outcome
from governance.services import (
    agent_create,
    agent_set_maturity,
    agent_set_suspended,
    key_issue,
    key_revoke,
    rule_delete,
    rule_save,
)


@pytest.fixture
def agent(outsider: User) -> Agent:
    """An agent of its owner's."""
    return agent_create(name="student", owner=outsider, actor=SYSTEM)


def events(tag: Tag) -> list[dict[str, Any]]:
    return [json.loads(event.body)["data"] for event in AuditEvent.objects.filter(tag=tag).order_by("id")]


def test_an_agent_begins_as_a_student(agent: Agent) -> None:
    assert (agent.maturity, agent.is_suspended) == (Maturity.STUDENT, False)
    assert events(Tag.AGENT_CREATED) == [{"maturity": "STUDENT", "owner": str(agent.owner_id)}]


@pytest.mark.parametrize("name", ["", "Student", "-x", "a b", "x" * 61, "student\n", "student"])
def test_a_name_that_is_malformed_or_taken(agent: Agent, name: str) -> None:
    with pytest.raises(ValidationError):
        agent_create(name=name, owner=agent.owner, actor=SYSTEM)
    assert len(events(Tag.AGENT_CREATED)) == 1


def test_maturity_changes_with_a_reason(agent: Agent) -> None:
    agent_set_maturity(agent=agent, maturity=Maturity.INTERN, reason=" good work ", actor=SYSTEM)
    assert Agent.objects.get(pk=agent.pk).maturity == Maturity.INTERN
    assert events(Tag.AGENT_MATURITY_CHANGED) == [{"before": "STUDENT", "after": "INTERN", "reason": "good work"}]
    with pytest.raises(ConflictError):
        agent_set_maturity(agent=agent, maturity=Maturity.INTERN, reason="again", actor=SYSTEM)
    with pytest.raises(InvalidError):
        agent_set_maturity(agent=agent, maturity=Maturity.STUDENT, reason=" ", actor=SYSTEM)
    assert len(events(Tag.AGENT_MATURITY_CHANGED)) == 1


def test_suspending_and_resuming(agent: Agent) -> None:
    for is_suspended, tag in ((True, Tag.AGENT_SUSPENDED), (False, Tag.AGENT_RESUMED)):
        changed = agent_set_suspended(agent=agent, is_suspended=is_suspended, reason="test", actor=SYSTEM)
        assert changed.is_suspended is is_suspended
        with pytest.raises(ConflictError):
            agent_set_suspended(agent=agent, is_suspended=is_suspended, reason="test", actor=SYSTEM)
        assert events(tag) == [{"reason": "test"}]
    with pytest.raises(InvalidError):
        agent_set_suspended(agent=agent, is_suspended=True, reason="", actor=SYSTEM)


def test_the_database_knows_four_maturities(agent: Agent) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Agent.objects.filter(pk=agent.pk).update(maturity="WISE")


def test_a_key_is_stored_as_its_digest_only(agent: Agent) -> None:
    expires_at = timezone.now() + timedelta(days=1)
    text = key_issue(agent=agent, actor=SYSTEM, label="laptop", expires_at=expires_at)
    row = AgentKey.objects.get()
    assert (row.digest, row.prefix, row.expires_at) == (keys.digest(text), text[:8], expires_at)
    assert (keys.kind_of(text), len(text)) == (keys.KeyKind.AGENT, 47)
    assert key_issue(agent=agent, actor=SYSTEM) != text
    written = "".join(AuditEvent.objects.values_list("body", flat=True)) + str(list(AgentKey.objects.values()))
    assert text not in written
    assert text[8:] not in written


def test_a_key_is_revoked_once(agent: Agent) -> None:
    key_issue(agent=agent, actor=SYSTEM, label="laptop")
    key = AgentKey.objects.get()
    key_revoke(key=key, actor=SYSTEM)
    with pytest.raises(ConflictError):
        key_revoke(key=key, actor=SYSTEM)
    assert events(Tag.KEY_REVOKED) == [{"prefix": key.prefix, "label": "laptop"}]


@pytest.mark.parametrize(
    ("text", "kind"),
    [("ata_x", keys.KeyKind.AGENT), ("ath_", keys.KeyKind.HOST), ("ate_é", keys.KeyKind.ENROLMENT), ("at", None)],
)
def test_a_keys_first_letters_say_whose_it_is(text: str, kind: keys.KeyKind | None) -> None:
    assert keys.kind_of(text) is kind
    assert len(keys.digest(text)) == 64


def test_a_rule_is_in_force_at_once_and_tells_what_was_before(db: None) -> None:
    before = current_policy()
    row = MatrixRow.objects.get(category=Category.DELETE, maturity=Maturity.AUTONOMOUS)
    outcome = row.outcome
    row.outcome = Outcome.DENY if outcome != Outcome.DENY else Outcome.ASK
    rule_save(row=row, actor=SYSTEM)
    assert current_policy().version != before.version
    (data,) = events(Tag.RULE_CHANGED)
    assert (data["before"]["outcome"], data["after"]["outcome"]) == (outcome, row.outcome)
    row.outcome = outcome
    rule_save(row=row, actor=SYSTEM)
    assert current_policy().version == before.version


def test_a_new_root_and_its_end(db: None) -> None:
    row = DirectoryRow(root="/srv/work", access=Access.READ, least_maturity=Maturity.INTERN)
    rule_save(row=row, actor=SYSTEM)
    version = current_policy().version
    rule_delete(row=row, actor=SYSTEM)
    assert current_policy().version != version
    assert events(Tag.RULE_CHANGED)[0]["before"] is None
    assert events(Tag.RULE_DELETED)[0]["after"] is None


def test_a_rule_that_cannot_be_is_not_saved(db: None) -> None:
    with pytest.raises(ValidationError):
        rule_save(row=DirectoryRow(root="/srv", access="own", least_maturity="WISE"), actor=SYSTEM)
    assert not AuditEvent.objects.exists()


CHANGES: dict[str, Callable[[Agent], object]] = {
    "create": lambda agent: agent_create(name="another", owner=agent.owner, actor=SYSTEM),
    "maturity": lambda agent: agent_set_maturity(agent=agent, maturity=Maturity.INTERN, reason="x", actor=SYSTEM),
    "suspend": lambda agent: agent_set_suspended(agent=agent, is_suspended=True, reason="x", actor=SYSTEM),
    "issue": lambda agent: key_issue(agent=agent, actor=SYSTEM),
    "revoke": lambda agent: key_revoke(key=agent.keys.get(), actor=SYSTEM),
    "rule": lambda _agent: rule_delete(row=DirectoryRow.objects.all()[0], actor=SYSTEM),
}


@pytest.mark.parametrize("name", CHANGES)
def test_without_its_event_nothing_changes(agent: Agent, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key_issue(agent=agent, actor=SYSTEM)
    models = (Agent, AgentKey, DirectoryRow)
    before = [list(model.objects.order_by("pk").values()) for model in models]

    def broken(*_events: object) -> None:
        raise RuntimeError("no trail today")

    monkeypatch.setattr(services, "record", broken)
    with pytest.raises(RuntimeError, match="no trail"), transaction.atomic():
        CHANGES[name](agent)
    assert [list(model.objects.order_by("pk").values()) for model in models] == before
