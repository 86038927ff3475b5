"""What is decided, and what is about to change something, is sealed at once; what only reads within a second."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.seal_bell import bell
from shellagent.services import session_approve, session_reject
from tests.shellagent.scene import ALLOWED, ASKED, Scene

CHANGES = (ALLOWED[0], "touch /tmp/note")


@pytest.mark.parametrize(
    ("work", "is_rung"),
    [
        (lambda scene, person: session_approve(session=scene.session(ASKED), approver=person), True),
        (lambda scene, person: session_reject(session=scene.session(ASKED), approver=person, reason="no"), True),
        (lambda scene, person: scene.start(started(scene, CHANGES)), True),
        (lambda scene, person: scene.start(started(scene, ALLOWED)), False),
        (lambda scene, person: scene.session(ALLOWED), False),
    ],
    ids=["an approval", "a rejection", "the start of a change", "the start of a reading", "a request"],
)
def test_the_sealer_is_rung_for(
    scene: Scene,
    approver: User,
    django_capture_on_commit_callbacks: Any,
    work: Callable[[Scene, User], object],
    is_rung: bool,
) -> None:
    bell.wait(0)
    with django_capture_on_commit_callbacks(execute=True):
        work(scene, approver)
    assert bell.wait(0) is is_rung


def started(scene: Scene, kind: Any) -> Any:
    """Return the id of a session that the host has claimed."""
    session = scene.session(kind)
    scene.poll()
    return session.pk
