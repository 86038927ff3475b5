"""What a host does not run although its server says so, and what it adds: real supervisors, a stub server."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from governance.policy.plan import Plan
from shellagent import protocol
from shellagent.host.ceiling import Ceiling, SecretSource
from shellagent.host.holding import Holding
from shellagent.host.loop import Loop
from shellagent.host.scripts import digest_of
from shellagent.protocol import Assignment, ScriptDigest
from shellagent.signing import Signer, Start, new_private_key
from tests.host.server import HOST_ID, StubServer, assignment

STRANGER = Signer(new_private_key())


def redigested(session: Assignment, **changes: Any) -> Assignment:
    """Return a session with changes that its digest knows of."""
    changed = replace(session, **changes)
    plan = Plan.from_json(changed.plan)
    return replace(changed, digest=protocol.assignment_digest(changed, plan=plan, host_id=HOST_ID))


def unsigned(grant: dict[str, Any], _start: dict[str, Any]) -> None:
    grant["signature"] = ""


def by_a_stranger(grant: dict[str, Any], start: dict[str, Any]) -> None:
    grant["key"] = STRANGER.public_key
    wanted = Start(grant["id"], start["start_key"], start["digest"], grant["deadline_seconds"])
    grant["signature"] = STRANGER.granted(wanted, host_id=HOST_ID)


def for_longer(grant: dict[str, Any], _start: dict[str, Any]) -> None:
    grant["deadline_seconds"] += 1


@pytest.mark.parametrize("tamper", [unsigned, by_a_stranger, for_longer])
def test_a_grant_that_the_server_did_not_sign_runs_nothing(
    server: StubServer, make_loop: Callable[..., Loop], tmp_path: Path, tamper: Callable[..., None]
) -> None:
    def bent(body: dict[str, Any]) -> tuple[int, object]:
        grants = [server._grant(start) for start in body["starts"]]
        for grant, start in zip(grants, body["starts"], strict=True):
            tamper(grant, start)
        return 200, {"v": 1, "grants": grants}

    loop, session = make_loop(), assignment("touch", str(tmp_path / "scratch" / "ran"))
    server.bend("/api/host/start", bent)
    server.submit(session)
    loop.step()
    record = server.result(session.id)
    assert (record["outcome"], record["reason"]) == ("refused", "bad_grant")
    assert record["start_key"] == server.started[session.id], "the server knows which start was refused"
    assert not (tmp_path / "scratch" / "ran").exists()
    # The slot and its supervisor are good for the next one.
    after = assignment("true")
    server.submit(after)
    loop.step()
    assert server.result(after.id)["outcome"] == "succeeded"


def test_a_session_that_ran_is_not_run_again(server: StubServer, make_loop: Callable[..., Loop]) -> None:
    loop, session = make_loop(), assignment("true")
    server.submit(session)
    loop.step()
    assert server.result(session.id)["outcome"] == "succeeded"
    server.wait_for(lambda: session.id not in loop.sessions.running_ids())
    with server.changed:
        del server.records[session.id], server.started[session.id]
    server.submit(session)
    loop.step()
    record = server.result(session.id)
    assert (record["outcome"], record["reason"]) == ("refused", "bad_grant")
    assert "never run again" in record["detail"]


def test_what_an_answer_says_twice_is_run_only_as_it_was_signed(
    server: StubServer, make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    loop, session = make_loop(slots=4), assignment("true")
    file = tmp_path / "scratch" / "ran"
    other = redigested(assignment("touch", str(file)), id=session.id)

    def bent(body: dict[str, Any]) -> tuple[int, object]:
        answer = server._poll(body)
        start = {"id": session.id, "start_key": body["start_key"], "digest": session.digest}
        sessions = [protocol.encode(other), *answer["sessions"]]
        return 200, {**answer, "sessions": sessions, "grants": [server._grant(start)]}

    server.submit(session)
    server.bend("/api/host/poll", bent)
    loop.step(hold_seconds=0)
    record = server.result(session.id)
    assert (record["outcome"], record["reason"]) == ("refused", "bad_grant")
    assert not file.exists()


def test_the_ceiling_is_asked_before_anything_is_prepared(server: StubServer, make_loop: Callable[..., Loop]) -> None:
    loop, session = make_loop(holding=Holding(Ceiling("x", longest_timeout_seconds=5))), assignment("true", timeout=6)
    server.submit(session)
    loop.step()
    record = server.result(session.id)
    assert (record["outcome"], record["reason"], record["start_key"]) == ("refused", "host_ceiling", "")
    assert "/api/host/start" not in server.calls


def test_a_secret_is_given_and_masked(server: StubServer, make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a secret value\n")
    file.chmod(0o600)
    loop = make_loop(holding=Holding(Ceiling("x", secrets={"TOKEN": SecretSource(file=str(file))})))
    session = redigested(assignment("printenv", "TOKEN"), secrets=("TOKEN",))
    unknown = redigested(assignment("true"), secrets=("OTHER",))
    server.submit(session, unknown)
    loop.step()
    record = server.result(session.id)
    assert server.output[session.id]["stdout"] == b"*" * 14 + b"\n"
    assert record["masked"] == {"secret:TOKEN": 1}
    assert "OTHER" in server.result(unknown.id)["detail"]


def test_names_of_secrets_and_scripts_are_in_the_digest(
    server: StubServer, make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    loop, script = make_loop(slots=4), tmp_path / "x.py"
    script.write_text("print(1)\n")
    session = assignment("true")
    known = ScriptDigest(str(script), digest_of(str(script)))
    added = replace(session, id="1", scripts=(known,))
    good = redigested(replace(session, id="2"), scripts=(known,))
    changed = redigested(replace(session, id="3"), scripts=(replace(known, sha256="0" * 64),))
    server.submit(added, good, changed)
    loop.step()
    assert server.result("1")["reason"] == "spec_mismatch"
    assert server.result("2")["outcome"] == "succeeded"
    assert (server.result("3")["outcome"], server.result("3")["reason"]) == ("refused", "script_changed")
