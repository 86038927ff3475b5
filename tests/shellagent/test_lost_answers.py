"""A host whose poll was cut off sends it again while the server still holds the first: what is claimed arrives."""

import pytest

from shellagent.models import ShellSession
from shellagent.protocol import PollAnswer
from shellagent.services import polling
from tests.shellagent.scene import Scene


def brings(answer: PollAnswer | None, session: ShellSession) -> bool:
    return answer is not None and [item.id for item in answer.sessions] == [str(session.pk)]


def test_a_poll_that_was_sent_again_claims_nothing(scene: Scene) -> None:
    first, again = scene.held(), scene.held()
    session = scene.session()
    assert first.look() is None
    assert brings(again.look(), session)
    del again
    scene.session()
    assert first.look() is None


def test_a_poll_without_a_free_slot_is_no_other_one(scene: Scene) -> None:
    held = scene.held()
    scene.poll(free_slots=0)
    session = scene.session()
    assert brings(held.look(), session)


def test_what_another_process_claimed_for_it_is_given_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    held = scene.held()
    session = scene.session()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(polling, "_newest", {})
        scene.poll(claim_key="held")
    assert held.look() is None
    held.until = 0.0
    assert brings(held.look(), session)
