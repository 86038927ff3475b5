"""Who may have something run: a forged row, a host that does not know the key, all with real processes."""

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from audit.models import AuditEvent
from shellagent import signing, signing_keys
from shellagent.models import ShellSession
from tests.e2e.product import ENDED, Product, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def work(product: Product) -> Path:
    """A folder below a root where agents may work."""
    folder = product.folder / "work"
    folder.mkdir(exist_ok=True)
    return folder


def test_who_can_only_write_the_database_runs_nothing(product: Product, work: Path) -> None:
    target = work / "forged"
    asked = product.execute("student", ["touch", str(target)], wait=0).json()
    assert asked["status"] == "pending"
    row = ShellSession.objects.get(pk=asked["id"])
    good = ShellSession.objects.get(pk=product.run("autonomous", ["ls", str(work)])["id"])
    forged = {"status": "queued", "outcome": "allow", "approval_required": False, "warrant": good.warrant}
    ShellSession.objects.filter(pk=row.pk).update(**forged, expires_at=timezone.now() + timedelta(minutes=5))
    # What the database says is looked at with the next poll, which another session brings about.
    assert product.run("autonomous", ["ls", str(work)])["status"] == "succeeded"
    assert product.until(asked["id"], "denied")["status"] == "denied"
    # A session that ended, queued once more, is claimed and signed by nobody who remembers it.
    ShellSession.objects.filter(pk=good.pk).update(
        status="queued", start_key="", expires_at=timezone.now() + timedelta(minutes=5)
    )
    assert product.run("autonomous", ["ls", str(work)])["status"] == "succeeded"
    log = product.processes["host"]
    eventually(lambda: f"refused {good.pk}: This session ran here already" in log.text(), why=log.text)
    assert log.text().count(f"run {good.pk}") == 1
    assert not target.exists()


def test_a_host_takes_no_grant_that_its_key_did_not_sign(product: Product, work: Path) -> None:
    pins = product.home / "host" / "server-keys.json"
    known = pins.read_text()
    product.processes["host"].stop()
    stranger = signing.Signer(signing.new_private_key())
    pins.write_text(json.dumps({"keys": {stranger.public_key: None}}))
    host = product.start_host("host", product.home / "host")
    refused = product.run("autonomous", ["touch", str(work / "unsigned")])
    assert (refused["status"], refused["termination_reason"]) == ("refused", "bad_grant")
    assert "has not pinned" in refused["termination_detail"]
    assert "no pinned key endorsed" in host.text()
    assert not (work / "unsigned").exists()
    host.stop()
    pins.write_text(known)
    product.start_host("host", product.home / "host")
    assert product.run("autonomous", ["ls", str(work)])["status"] == "succeeded"


def test_the_servers_key_is_rotated_while_all_runs(product: Product, work: Path) -> None:
    session = product.run("autonomous", ["sleep", "3"], wait=0)
    product.until(session["id"], "running")
    done = product.manage("rotate_signing_key", "--json")
    assert done.returncode == 0, done.stderr
    key: str = json.loads(done.stdout)["key"]
    pins: dict[str, float] = {}

    def knows_the_key() -> bool:
        """Run a command, which must work whichever key signs, and look at what the host learned with it."""
        assert product.run("autonomous", ["ls", str(work)])["status"] == "succeeded"
        pins.update(json.loads((product.home / "host" / "server-keys.json").read_text())["keys"])
        return list(pins)[-1] == key

    # The server looks at its file once a second.
    eventually(knows_the_key, why="the host never learned the new key")
    assert product.run("autonomous", ["ls", str(work)])["status"] == "succeeded"
    assert product.until(session["id"], "succeeded")["exit_code"] == 0
    old = list(pins)[-2]
    assert 0 < pins[old] - time.time() <= signing_keys.OVERLAP_SECONDS
    assert AuditEvent.objects.filter(tag="signing_key:rotated").exists()


def test_a_script_swapped_after_the_approval_is_not_run(product: Product, work: Path) -> None:
    script, traces = work / "deploy.py", work / "traces"
    script.write_text(f"open({str(traces)!r}, 'a').write('approved ')\n")
    person = product.person()

    def approved() -> str:
        """Ask as an agent that needs a person, and approve once the host has said what the script holds."""
        asked = product.execute("student", ["python3", str(script)], wait=0, working_directory=str(work)).json()
        assert asked["status"] == "pending", asked

        def seen() -> Any:
            """Return the session as who decides sees it: who asked is told of a script's content once it runs."""
            return person.get(f"/api/local-agent/sessions/{asked['id']}").json()

        eventually(lambda: seen()["scripts"][0]["sha256"], why="the host told nothing")
        page = person.get(f"/admin/shellagent/shellsession/{asked['id']}/change/").text
        assert seen()["scripts"][0]["sha256"] in page
        assert product.session(asked["id"], "student")["scripts"][0]["sha256"] is None
        # Approved while no host can take it, so that there is time to swap the script.
        product.processes["host"].stop()
        digest = seen()["digest"]
        body = {"session_id": asked["id"], "decision": "approve", "digest": digest}
        assert person.post("/api/local-agent/approve", body).status_code == 200
        return str(asked["id"])

    session_id = approved()
    script.write_text(f"open({str(traces)!r}, 'a').write('swapped ')\n")
    product.start_host("host", product.home / "host")
    ended = product.until(session_id, *ENDED)
    assert (ended["status"], ended["termination_reason"]) == ("refused", "script_changed")
    assert str(script) in ended["termination_detail"]
    assert not traces.exists()
    session_id = approved()
    product.start_host("host", product.home / "host")
    assert product.until(session_id, *ENDED)["status"] in ("succeeded", "failed")
    assert not traces.exists() or traces.read_text() == "swapped ", "it ran as it was seen"


def test_the_hosts_own_ceiling_refuses_and_gives_secrets(product: Product, work: Path) -> None:
    host = product.processes["host"]
    host.stop()
    secret = product.folder / "token"
    secret.write_text("a-value-that-is-secret\n")
    secret.chmod(0o600)
    file = product.home / "host" / "ceiling.toml"
    file.write_text(
        f'blocked_programs = ["touch"]\nlongest_timeout_seconds = 30\n'
        f'[[roots]]\npath = "{work}"\naccess = "write"\n[secrets]\nTOKEN = {{ file = "{secret}" }}\n'
    )
    file.chmod(0o600)
    try:
        product.start_host("host", product.home / "host")
        for command, values, why in (
            (["touch", str(work / "x")], {"timeout_seconds": 30}, "blocked"),
            (["ls", str(work)], {"timeout_seconds": 31}, "30 s"),
            (["ls", str(work)], {"timeout_seconds": 30, "secrets": ["OTHER"]}, "no secret called 'OTHER'"),
            (["ls"], {"timeout_seconds": 30, "working_directory": str(product.folder)}, str(product.folder)),
        ):
            asked: dict[str, Any] = {"working_directory": str(work), **values}
            ended = product.run("autonomous", command, **asked)
            assert (ended["status"], ended["termination_reason"]) == ("refused", "host_ceiling"), ended
            assert why in ended["termination_detail"]
        ended = product.run(
            "autonomous", ["printenv", "TOKEN"], secrets=["TOKEN"], working_directory=str(work), timeout_seconds=30
        )
        assert (ended["status"], ended["stdout"]) == ("succeeded", "*" * 22 + "\n"), ended
        rows = AuditEvent.objects.filter(session_id=ended["id"]).values_list("body", flat=True)
        assert any('"secret:TOKEN":1' in body for body in rows)
        assert not any("a-value-that-is-secret" in body for body in rows)
        status = product.manage("localagent", "status", "--state-dir", str(product.home / "host"))
        assert f"TOKEN from file {secret}" in status.stdout
        assert "a-value-that-is-secret" not in status.stdout
        denied = product.execute("autonomous", ["cat", str(secret)], working_directory=str(work), timeout_seconds=30)
        assert (denied.status_code, "protected" in denied.text) == (403, True)
    finally:
        product.processes["host"].stop()
        file.unlink()
        product.start_host("host", product.home / "host")


def test_a_ceiling_that_others_can_change_keeps_the_host_from_starting(product: Product) -> None:
    state = product.folder / "open"
    state.mkdir(mode=0o700)
    (state / "ceiling.toml").write_text("")
    (state / "ceiling.toml").chmod(0o666)
    done = product.manage("runlocalagent", "--state-dir", str(state), "--once", ATOM_HOST_KEY="ath_any")
    assert done.returncode == 64
    assert "chmod go-w" in done.stderr


@pytest.mark.parametrize("by", ["the host", "an operator"])
def test_the_hosts_key_is_rotated_while_a_command_runs(product: Product, work: Path, by: str) -> None:
    state = product.home / "host"
    old = (state / "key").read_text()
    session = product.run("autonomous", ["sleep", "4"], wait=0)
    product.until(session["id"], "running")
    if by == "the host":
        done = product.manage("localagent", "rotate-key", "--backend-url", product.url, "--state-dir", str(state))
        assert done.returncode == 0, done.stderr
        assert "with its next poll" in done.stdout
    else:
        name = product.session(session["id"])["host"]["name"]
        answer = product.person().post("/api/local-agent/rotate-key", {"host": name})
        assert answer.status_code == 200, answer.text
    log = product.processes["host"]
    count = log.text().count("using the new one")
    eventually(lambda: (state / "key").read_text() != old)
    assert product.until(session["id"], *ENDED)["status"] == "succeeded"
    # Read with the next poll, which another session brings about; with it the one after is made.
    assert product.run("autonomous", ["ls", str(work)])["status"] == "succeeded"
    eventually(lambda: log.text().count("using the new one") > count, seconds=25, why=log.text)
    assert product.run("autonomous", ["ls", str(work)])["status"] == "succeeded"
    tags = AuditEvent.objects.filter(tag__startswith="host:key").values_list("tag", flat=True)
    eventually(lambda: "host:key_replaced" in tags.all())
    assert {"host:key_issued", "host:key_replaced"} <= set(tags.all())
    assert log.popen.poll() is None
