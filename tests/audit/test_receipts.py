"""Receipts: who kept one can show that its event was written, and that it is gone."""

import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from audit import sealing
from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Receipt, record
from audit.trail_keys import trail_keys
from audit.verifying import verify_receipt
from audit.verifying_report import Verdict


def kept(receipt: Receipt | None) -> dict[str, str]:
    assert receipt
    return {"uid": receipt.uid, "hash": receipt.hash, "signature": receipt.signature}


def test_a_receipt_is_of_an_event_that_is_there_or_shows_that_it_is_not(
    db: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with transaction.atomic():
        first, second = (kept(one) for one in record(*(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM) for _ in range(2))))
    keys = trail_keys().public
    assert verify_receipt(keys, first).verdict is Verdict.INCOMPLETE  # not sealed yet
    sealing.seal(timezone.now())
    assert verify_receipt(keys, first).verdict is Verdict.SOUND
    (tmp_path / "answer.json").write_text(json.dumps({"id": "…", "receipt": second}))
    call_command("auditverify", "--receipt", str(tmp_path / "answer.json"))
    assert capsys.readouterr().out.startswith("sound")
    said = {
        "wrong": {**first, "hash": second["hash"]},
        "not what was written": {**second, "uid": first["uid"]},
        "gone": {**first, "uid": "019a3c1e-7a5b-7c3d-8e9f-0123456789ab"},
    }
    for words, receipt in said.items():
        report = verify_receipt(keys, receipt)
        assert (report.verdict, words in report.findings[0].what) == (Verdict.TAMPERED, True), words
    assert verify_receipt(keys, {"uid": "7"}).verdict is Verdict.INCOMPLETE
    assert AuditEvent.objects.count() == 2
