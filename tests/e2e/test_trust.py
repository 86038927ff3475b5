"""Who may have something run: a forged row, a host that does not know the key, all with real processes."""

import json
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from audit.models import AuditEvent
from shellagent import signing, signing_keys
from shellagent.models import ShellSession
from tests.e2e.product import Product, eventually

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
    key = json.loads(done.stdout)["key"]
    assert product.run("autonomous", ["ls", str(work)])["status"] == "succeeded"
    assert product.until(session["id"], "succeeded")["exit_code"] == 0
    pins = json.loads((product.home / "host" / "server-keys.json").read_text())["keys"]
    assert list(pins)[-1] == key
    old = list(pins)[-2]
    assert 0 < pins[old] - time.time() <= signing_keys.OVERLAP_SECONDS
    assert AuditEvent.objects.filter(tag="signing_key:rotated").exists()
