"""An enrolment code works once, for ten minutes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM
from governance.errors import ProblemError
from shellagent.models import EnrolmentCode, Host
from shellagent.services import enrolment_issue, host_enrol
from tests.shellagent.scene import FACTS


def refused_names() -> list[str]:
    return list(AuditEvent.objects.filter(tag=Tag.KEY_REFUSED).values_list("subject_label", flat=True))


def test_a_used_code_is_refused_and_the_trail_says_so(db: None) -> None:
    code = enrolment_issue(name="here", actor=SYSTEM)
    host, _key = host_enrol(code=code, facts=FACTS)
    with pytest.raises(ProblemError) as caught:
        host_enrol(code=code, facts=FACTS)
    assert caught.value.status == 401
    assert refused_names() == ["here"]
    assert Host.objects.get(pk=host.pk).key_digest == host.key_digest


def test_an_expired_code_is_refused_and_the_trail_says_so(db: None) -> None:
    code = enrolment_issue(name="here", actor=SYSTEM)
    EnrolmentCode.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(ProblemError):
        host_enrol(code=code, facts=FACTS)
    assert refused_names() == ["here"]
    assert not Host.objects.get(name="here").is_enrolled


def test_an_unknown_code_leaves_no_event(db: None) -> None:
    with pytest.raises(ProblemError):
        host_enrol(code="ate_unknown", facts=FACTS)
    assert refused_names() == []


@contextmanager
def disabled_before(statement: str) -> Iterator[None]:
    """Have somebody disable every host right before the first statement that begins like this."""
    has_been: list[str] = []

    def wrapper(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith(statement) and not has_been:
            has_been.append(sql)
            Host.objects.update(is_enabled=False)
        return execute(sql, *rest)

    with connection.execute_wrapper(wrapper):
        yield
    assert has_been


def test_a_host_that_is_disabled_meanwhile_stays_disabled(db: None) -> None:
    code = enrolment_issue(name="here", actor=SYSTEM)
    with disabled_before('UPDATE "shellagent_enrolmentcode"'):
        host_enrol(code=code, facts=FACTS)
    assert not Host.objects.get().is_enabled
    Host.objects.update(is_enabled=True)
    with disabled_before('UPDATE "shellagent_host"'):
        enrolment_issue(name="here", actor=SYSTEM)
    assert not Host.objects.get().is_enabled
