"""Whoever can only write the database runs nothing, and without its key the server lets nothing run."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command

from audit import key_files, trail_keys
from audit.models import AuditEvent, AuditPayload
from audit.trail import SYSTEM
from shellagent import protocol, signing, signing_keys
from shellagent.errors import SigningKeyError
from shellagent.models import Approval, EnrolmentCode, ShellSession
from shellagent.protocol import GrantStatus, StartGrant
from shellagent.services import enrolment_issue
from shellagent.states import Status
from tests.shellagent.scene import ALLOWED, ASKED, FACTS, Caller, Scene, reread


@pytest.fixture
def keys_folder(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Signing keys of the test's own, looked at each time."""
    monkeypatch.setattr(key_files, "RECHECK_SECONDS", 0.0)
    settings.ATOM_KEYS = str(tmp_path / "keys")
    signing_keys.create(tmp_path / "keys")
    trail_keys.create(tmp_path / "keys")
    return tmp_path / "keys"


def test_a_grant_is_signed_over_what_was_decided(scene: Scene) -> None:
    session = scene.claimed()
    grant = scene.start(session.pk, "start-1")
    (key,) = scene.poll(free_slots=0).server_keys

    def holds(changed: StartGrant, start_key: str = "start-1") -> bool:
        granted = signing.Granted(str(scene.host.pk), [(changed, start_key, session.digest)])
        return granted.is_signed(changed, start_key=start_key, digest=session.digest)

    assert grant.key == key.key
    assert holds(grant)
    assert not holds(grant, "start-2")
    assert not holds(replace(grant, deadline_seconds=grant.deadline_seconds + 1))
    assert holds(scene.start(session.pk, "start-1")), "the same again is signed again"
    refused = scene.start(session.pk, "start-2")
    assert (refused.status, refused.signature) == (GrantStatus.ALREADY_GRANTED, "")


def test_a_pending_session_that_the_database_says_is_queued_is_denied(scene: Scene, approver: Any) -> None:
    session = scene.session(ASKED)
    # All that an approval writes, and what would make the claim decide again.
    Approval.objects.create(
        session=session, decision="approve", digest=session.digest, approver=approver, decided_at=session.created_at
    )
    forged = {"status": Status.QUEUED, "outcome": "allow", "approval_required": False}
    ShellSession.objects.filter(pk=session.pk).update(**forged)
    assert scene.poll().sessions == ()
    assert reread(session).status == Status.DENIED
    event = AuditEvent.objects.filter(session_id=session.pk).latest("pk")
    assert event.tag == "session:denied"
    assert '"why":"no warrant"' in event.body


def test_a_warrant_by_a_key_that_another_process_knows_first_counts(
    scene: Scene, keys_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_files, "RECHECK_SECONDS", 60.0)
    session = scene.session()
    signing_keys.rotate(keys_folder)
    elsewhere = signing_keys.read(keys_folder / signing_keys.FILE)
    warrant = elsewhere.warrant(session.pk, agent_id=session.agent_id, host_id=session.host_id, digest=session.digest)
    ShellSession.objects.filter(pk=session.pk).update(warrant=warrant)
    assert [item.id for item in scene.poll().sessions] == [str(session.pk)]


def test_another_sessions_warrant_is_worth_nothing(scene: Scene) -> None:
    forged, good = scene.session(ASKED), scene.session(ALLOWED)
    ShellSession.objects.filter(pk=forged.pk).update(status=Status.QUEUED, warrant=good.warrant, digest=good.digest)
    assert [item.id for item in scene.poll().sessions] == [str(good.pk)]
    assert reread(forged).status == Status.DENIED


def test_a_command_that_was_exchanged_is_not_decided_on_anew(scene: Scene) -> None:
    session = scene.session(ALLOWED)
    payload = AuditPayload.objects.get(session_id=session.pk, kind="request")
    other = AuditPayload.objects.get(session_id=scene.session((ALLOWED[0], "ls /usr")).pk, kind="request")
    payload.data = other.data
    payload.save()
    ShellSession.objects.filter(pk=session.pk).update(circumstances="0" * 64)
    assert str(session.pk) not in [item.id for item in scene.poll().sessions]
    assert reread(session).status == Status.DENIED


def test_a_claim_or_a_start_in_the_database_alone_is_not_signed(scene: Scene) -> None:
    claimed = scene.claimed()
    ShellSession.objects.filter(pk=claimed.pk).update(warrant="")
    assert scene.start(claimed.pk).status == GrantStatus.STALE_DECISION
    running = scene.running()
    ShellSession.objects.filter(pk=running.pk).update(warrant="0" * 64)
    assert scene.start(running.pk).status == GrantStatus.ALREADY_GRANTED


def test_a_session_of_long_ago_is_not_queued_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    session = scene.session(ALLOWED)
    later = time.time() + signing_keys.WARRANT_SECONDS + 1
    monkeypatch.setattr("shellagent.signing_keys.time.time", lambda: later)
    assert scene.poll().sessions == ()
    assert reread(session).status == Status.DENIED


def test_a_rotated_key_is_endorsed_and_old_warrants_hold(keys_folder: Path, scene: Scene) -> None:
    session = scene.session(ALLOWED)
    before = scene.poll(free_slots=0).server_keys[-1].key
    call_command("rotate_signing_key", "--overlap-hours", "1", verbosity=0)
    first, second = scene.poll(free_slots=0).server_keys
    assert (first.key, second.endorsed_by) == (before, before)
    assert signing.is_endorsed(second)
    assert abs(second.until - time.time() - 3600) < 60
    assert [item.id for item in scene.poll().sessions] == [str(session.pk)]
    assert scene.start(session.pk).key == second.key
    assert AuditEvent.objects.filter(tag="signing_key:rotated").count() == 1
    call_command("rotate_signing_key", "--leaked", verbosity=0)
    (alone,) = scene.poll(free_slots=0).server_keys
    assert not alone.endorsement


@pytest.mark.parametrize("spoil", ["missing", "readable", "damaged", "empty"])
def test_without_its_key_the_server_lets_nothing_run(keys_folder: Path, scene: Scene, spoil: str) -> None:
    waiting = scene.session(ALLOWED)
    file = keys_folder / signing_keys.FILE
    match spoil:
        case "missing":
            file.unlink()
        case "readable":
            file.chmod(0o640)
        case "damaged":
            file.write_text(json.dumps({"keys": [{"private": "00"}]}))
        case "empty":
            file.write_text(json.dumps({"keys": []}))
    with pytest.raises(SigningKeyError):
        scene.session(ALLOWED)
    answer = scene.poll()
    assert (answer.sessions, answer.server_keys) == ((), ())
    assert reread(waiting).status == Status.QUEUED
    (message,) = [found for found in run_checks(databases=["default"]) if found.id == "shellagent.W001"]
    assert str(file) in message.msg
    problem = scene.as_agent(ALLOWED[0]).execute(ALLOWED[1])
    assert (problem.status, problem.problem) == (503, "unavailable")
    assert str(file) not in problem.json["detail"], "an agent is not told of files of the server"
    code = enrolment_issue(name="new", actor=SYSTEM)
    body = protocol.encode(protocol.EnrolRequest(1, FACTS))
    assert Caller.with_key(code).post("/api/host/enroll", body).status == 503
    assert not EnrolmentCode.objects.get(host__name="new").used_at, "the code is still good"


def test_the_key_is_made_once_and_is_the_owners_only(tmp_path: Path) -> None:
    os.umask(0o022)
    assert signing_keys.create(tmp_path / "keys")
    content = (tmp_path / "keys" / signing_keys.FILE).read_text()
    assert not signing_keys.create(tmp_path / "keys")
    assert (tmp_path / "keys" / signing_keys.FILE).read_text() == content
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
