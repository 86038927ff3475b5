"""Scripts that a host tells of before a person decides, and secrets that are asked for by name."""

from typing import Any

import pytest

from governance.policy.types import Maturity
from shellagent.models import ShellSession
from shellagent.protocol import ABSENT, Looked, ScriptDigest
from shellagent.services import session_approve
from shellagent.states import Status
from tests.shellagent.scene import ASKED, Caller, Scene, reread, tags

SCRIPT = (Maturity.STUDENT, "python3 /scratch/x.py")
DIGEST = "ab" * 32


def test_what_a_host_finds_is_part_of_what_is_approved(scene: Scene, approver: Any) -> None:
    session = scene.session(SCRIPT)
    (look,) = scene.poll().look
    assert (look.id, look.paths) == (str(session.pk), ("/scratch/x.py",))
    assert not scene.poll().look, "it is asked once"
    found = (ScriptDigest("/scratch/x.py", DIGEST), ScriptDigest("/etc/passwd", DIGEST))
    scene.poll(looked=(Looked(look.id, found),))
    bound = reread(session)
    assert bound.digest != session.digest
    assert tags(session) == ["pending", "scripts_recorded"]
    address = f"/api/local-agent/sessions/{session.pk}"
    shown = Caller.logged_in(approver).get(address).json
    assert (shown["scripts"], shown["digest"]) == ([{"path": "/scratch/x.py", "sha256": DIGEST}], bound.digest)
    # Nobody has let the agent read that file yet, and a short one can be found by trying.
    agent = scene.as_agent(Maturity.STUDENT)
    listed = agent.get("/api/local-agent/sessions").json["results"][0]
    for seen in (agent.get(address).json, agent.get(f"{address}?wait_seconds=1").json, listed):
        assert (seen["scripts"], seen["digest"]) == ([{"path": "/scratch/x.py", "sha256": None}], "")
    # Told again, as after an answer that was lost, or anew: the first word stands.
    scene.poll(looked=(Looked(look.id, (ScriptDigest("/scratch/x.py", ABSENT),)),))
    assert reread(session).digest == bound.digest
    session_approve(session=bound, approver=approver, digest=bound.digest)
    (assignment,) = scene.poll().sessions
    assert assignment.scripts == (ScriptDigest("/scratch/x.py", DIGEST),)
    assert assignment.digest == bound.digest
    assert scene.start(session.pk).signature


def test_what_comes_after_the_decision_changes_nothing(scene: Scene, approver: Any) -> None:
    session = scene.session(SCRIPT)
    (look,) = scene.poll().look
    session_approve(session=session, approver=approver)
    scene.poll(free_slots=0, looked=(Looked(look.id, (ScriptDigest("/scratch/x.py", DIGEST),)),))
    assert reread(session).digest == session.digest
    (assignment,) = scene.poll().sessions
    assert assignment.scripts == ()


@pytest.mark.parametrize("sha256", ["", "no digest", "AB" * 32, "ab" * 31])
def test_what_is_no_digest_is_not_known(scene: Scene, sha256: str) -> None:
    session = scene.session(SCRIPT)
    scene.poll(looked=(Looked(str(session.pk), (ScriptDigest("/scratch/x.py", sha256),)), Looked("no id", ())))
    shown = scene.as_agent(Maturity.STUDENT).get(f"/api/local-agent/sessions/{session.pk}").json
    assert shown["scripts"] == [{"path": "/scratch/x.py", "sha256": None}]


def test_a_host_is_not_asked_without_need(scene: Scene) -> None:
    scene.session(ASKED)
    scene.session((Maturity.AUTONOMOUS, "python3 x.py"))
    assert not scene.poll(free_slots=0).look


def test_naming_a_secret_asks_a_person_and_is_part_of_the_digest(scene: Scene, approver: Any) -> None:
    supervised = (Maturity.SUPERVISED, "ls /tmp")
    plain, session = scene.session(supervised), scene.session(supervised, secrets=("TOKEN", "OTHER"))
    assert (plain.status, session.status) == (Status.QUEUED, Status.PENDING)
    assert plain.digest != session.digest
    shown = scene.as_agent(Maturity.SUPERVISED).get(f"/api/local-agent/sessions/{session.pk}").json
    assert shown["secrets"] == ["TOKEN", "OTHER"]
    assert "names-secrets" in [rule["id"] for rule in shown["decision"]["rules"]]
    assert "TOKEN, OTHER" in shown["decision"]["explanation"]
    session_approve(session=session, approver=approver)
    assert [item.secrets for item in scene.poll().sessions] == [(), ("TOKEN", "OTHER")]
    assert scene.session((Maturity.AUTONOMOUS, "ls /tmp"), secrets=("TOKEN",)).status == Status.QUEUED


@pytest.mark.parametrize(
    "body",
    [
        {"secrets": ["TOKEN", "TOKEN"]},
        {"secrets": ["TOKEN"], "env": {"TOKEN": "x"}},
        {"secrets": ["a b"]},
        {"secrets": ["9"]},
        {"secrets": "TOKEN"},
        {"secrets": [f"S{number}" for number in range(17)]},
    ],
)
def test_names_of_secrets_are_names(scene: Scene, body: dict[str, Any]) -> None:
    answer = scene.as_agent(Maturity.AUTONOMOUS).execute("ls /tmp", **body)
    assert (answer.status, answer.problem) == (400, "invalid")
    assert not ShellSession.objects.exists()
