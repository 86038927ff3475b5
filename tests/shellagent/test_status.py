"""The status: who is told what of what has not ended."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from governance.policy.types import Maturity
from tests.shellagent.scene import Caller, Scene

STATUS = "/api/local-agent/status"
NOTHING = {"pending": 0, "queued": 0, "claimed": 0, "running": 0}


@pytest.fixture
def busy(scene: Scene) -> Scene:
    """A student's session waits; an autonomous agent's runs, another is in the queue, a third was denied."""
    scene.session((Maturity.STUDENT, "ls /tmp"))
    scene.running()
    scene.session((Maturity.AUTONOMOUS, "ls /tmp"))
    scene.session((Maturity.AUTONOMOUS, "sudo reboot"))
    return scene


def counts(caller: Caller) -> Any:
    answer = caller.call("get", STATUS)
    assert answer.status == 200
    return answer.json["sessions"]


def test_an_agent_counts_its_own(busy: Scene) -> None:
    assert counts(busy.as_agent(Maturity.STUDENT)) == {**NOTHING, "pending": 1}
    assert counts(busy.as_agent(Maturity.AUTONOMOUS)) == {**NOTHING, "queued": 1, "running": 1}
    assert counts(busy.as_agent(Maturity.INTERN)) == NOTHING


def test_a_person_counts_what_they_may_see(busy: Scene, approver: User, outsider: User) -> None:
    everything = {**NOTHING, "pending": 1, "queued": 1, "running": 1}
    assert counts(Caller.logged_in(busy.owner)) == everything
    assert counts(Caller.logged_in(approver)) == everything
    assert counts(Caller.logged_in(outsider)) == NOTHING
