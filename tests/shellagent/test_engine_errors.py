"""A failure inside governance denies and leaves an event; the product's own addresses are out of reach."""

import contextlib
import json

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from audit.models import AuditEvent
from governance.policy import decide as engine
from governance.policy.types import Maturity
from shellagent.errors import StateError
from shellagent.models import Decision
from shellagent.services import session_approve
from shellagent.states import Status
from tests.shellagent.scene import ASKED, Scene, reread

ENGINE_ERROR = "policy:engine_error"


def fail(_case: object) -> None:
    raise ZeroDivisionError


def test_a_failure_inside_is_a_denied_session_and_an_event(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (Maturity.AUTONOMOUS, "ls /tmp/never-asked-for-before")
    with monkeypatch.context() as patch:
        patch.setattr(engine._Case, "decision", fail)
        session = scene.session(command)
    assert session.status == Status.DENIED
    # What went wrong is not remembered in place of a decision.
    assert scene.session(command).status == Status.QUEUED
    event = AuditEvent.objects.get(tag=ENGINE_ERROR)
    data = json.loads(event.body)["data"]
    assert (event.subject_id, event.outcome, data["session"]) == (str(session.pk), "denied", str(session.pk))
    assert "ZeroDivisionError" in data["why"]


def test_a_failure_when_it_is_decided_again_leaves_an_event_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    session = scene.session(ASKED)
    assert not AuditEvent.objects.filter(tag=ENGINE_ERROR).exists()
    monkeypatch.setattr(engine._Case, "decision", fail)
    approver = User.objects.create_superuser("boss")
    with contextlib.suppress(StateError):
        session_approve(session=session, approver=approver, reason="fine")
    assert reread(session).status == Status.DENIED
    assert AuditEvent.objects.filter(tag=ENGINE_ERROR).count() == 1


@override_settings(ATOM_PUBLIC_URL="https://atom.example.net:8443")
def test_the_products_own_addresses_are_protected(scene: Scene) -> None:
    for command in ("curl https://atom.example.net/api", "curl http://localhost:8000/", "ping -c 1 ATOM.example.net."):
        session = scene.session((Maturity.AUTONOMOUS, command))
        rules = Decision.objects.get(session=session).rules
        assert (session.status, "protected-host" in rules) == (Status.DENIED, True), command
