# ruff: noqa: S608  (names of tables are put into this SQL)
"""What a database administrator could do to the trail, each on a database of its own, and what the verifier says."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from atomsite.commands import guarded
from atomsite.management.commands import auditverify
from audit import notes, sealing, trail_keys, triggers, verifying
from audit.erasing import payloads_erase
from audit.models import AuditCheckpoint, AuditEvent, AuditPayload
from audit.tags import Tag
from audit.trail import SYSTEM, Event, record
from audit.verifying_halves import log_verify
from audit.verifying_log import Verification, no_progress
from audit.verifying_report import Report, Verdict
from faults.attacks import ATTACKS, CHECKPOINTS, EVENTS, LEAVES, Flips, do, small_log, unguarded, write
from tests.database import OwnDatabase


def keys() -> trail_keys.TrailKeys:
    return trail_keys.trail_keys()


@pytest.fixture
def log(own_database: OwnDatabase) -> list[str]:
    """A small log, and its checkpoints as they were published."""
    return small_log()


def verified(published: list[str]) -> Report:
    report = verifying.verify(keys().public, now=timezone.now())
    verifying.anchored(report, "\n".join(published).splitlines(keepends=True), keys().public)
    return report


def test_a_log_that_nobody_touched_is_sound(log: list[str]) -> None:
    report = verified(log)
    assert (report.verdict, report.size, report.checkpoint, report.findings) == (Verdict.SOUND, 12, 3, [])
    assert verifying.verify_last(keys().public).verdict is Verdict.SOUND
    since = verifying.verify_from(keys().public, 5, now=timezone.now())
    assert (since.verdict, since.first, since.size) == (Verdict.SOUND, 4, 12)
    sealed, waiting = AuditEvent.objects.order_by("id").first(), AuditEvent.objects.order_by("id").last()
    assert sealed
    assert waiting
    assert verifying.verify_entry(keys().public, sealed.uid).verdict is Verdict.SOUND
    assert verifying.verify_entry(keys().public, waiting.uid).verdict is Verdict.INCOMPLETE
    assert verifying.verify_entry(keys().public, uuid4()).verdict is Verdict.INCOMPLETE
    late = verifying.verify(keys().public, now=timezone.now() + timedelta(minutes=3))
    assert late.verdict is Verdict.INCOMPLETE


def test_an_erased_payload_needs_its_event(log: list[str]) -> None:
    with transaction.atomic():
        gone = payloads_erase(AuditPayload.objects.filter(offset=1), timezone.now())
    assert "erased" in verified(log).findings[0].what
    with transaction.atomic():
        record(Event(Tag.RETENTION_APPLIED, SYSTEM, SYSTEM, data={"commitments": gone}))
    assert verified(log).verdict is Verdict.SOUND
    sealing.seal(timezone.now())
    assert verified(log).verdict is Verdict.SOUND


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_told(log: list[str], name: str) -> None:
    attack = ATTACKS[name]
    do(attack.statements())
    report = verified(log)
    assert report.verdict is Verdict.TAMPERED
    assert any(attack.told in finding.what for finding in report.findings), report.findings
    without = verifying.verify(keys().public, now=timezone.now())
    assert (without.verdict is Verdict.TAMPERED) is not attack.needs_anchor


def test_every_bad_range_is_named(log: list[str]) -> None:
    do(
        [
            f"UPDATE {EVENTS} SET outcome = 'x' WHERE id IN (2, 3, 4, 9)",
            f"DELETE FROM {LEAVES} WHERE event_id IN (6, 7)",
        ]
    )
    halves = log_verify(keys().public, progress=no_progress, processes=2, worth_it=1)
    assert halves.to_json() == Verification(keys().public).run().to_json()
    found = [(finding.what, finding.first, finding.last) for finding in verified(log).findings]
    assert ("an event's columns are not what its body says", 1, 3) in found
    assert ("an event's columns are not what its body says", 8, 8) in found
    assert ("leaves are missing", 5, 6) in found


def test_a_trigger_that_is_gone_is_told(log: list[str]) -> None:
    table = triggers.names(connection.vendor)[triggers.NOTES]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {triggers.NOTES}" + ("" if connection.vendor == "sqlite" else f" ON {table}"))
    assert triggers.NOTES in verified(log).findings[0].what


def test_another_log_signed_with_another_key_is_told(log: list[str], tmp_path: Path) -> None:
    trail_keys.create(tmp_path)
    other = trail_keys.read(tmp_path / trail_keys.FILE)
    row = AuditCheckpoint.objects.get(number=3)
    note = notes.note_sign(notes.note_read(row.note), other)
    digest = notes.note_digest(note).hex()
    do([f"UPDATE {CHECKPOINTS} SET note = '{note}', digest = '{digest}' WHERE number = 3"])
    assert verified(log).verdict is Verdict.TAMPERED
    cut = verifying.verify(keys().public, now=timezone.now())
    verifying.anchored(cut, ["nonsense\n", "\n", "— x y\n"], keys().public)
    assert any("no checkpoint" in finding.what for finding in cut.findings)


def test_flipped_bytes_are_told(log: list[str]) -> None:
    """Any byte of what is sealed; the fault run flips ten thousand."""
    with unguarded():
        flips = Flips(seed=5)
        for _ in range(40):
            with flips.flip() as where:
                assert Verification(keys().public).run().verdict is Verdict.TAMPERED, where
    assert verified(log).verdict is Verdict.SOUND


def test_a_rotated_key_leaves_what_it_signed(log: list[str], tmp_path: Path, settings: Any) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    file = folder / trail_keys.FILE
    file.write_bytes((Path(settings.ATOM_KEYS) / trail_keys.FILE).read_bytes())
    file.chmod(0o600)
    before = trail_keys.read(file)
    settings.ATOM_KEYS = str(folder)
    call_command("rotate_audit_key")
    after = trail_keys.read(file)
    assert (after.log, len(after.public.keys)) == (before.log, 2)
    assert file.read_text().count('"private"') == 1
    write(1)
    sealing.seal(timezone.now())
    assert verified(log).verdict is Verdict.SOUND


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 0), (["--last"], 0), (["--from", "3"], 0), (["--anchor", "/nowhere"], 2), (["--bundle", __file__], 2)],
)
def test_the_commands_codes(log: list[str], arguments: list[str], code: int) -> None:
    assert left_with(*arguments, "--json") == code


def test_wrong_usage_and_a_crash_never_read_as_tampering(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def code_of(*arguments: str) -> int:
        try:
            return guarded(["manage.py", "auditverify", *arguments])
        except SystemExit as left:
            return int(left.code or 0)

    for wrong in ("--from=-1", "--from=x", "--entry=7", "--receipt=/nowhere", "--bundle=/nowhere", "--wrong"):
        assert code_of(wrong) == 64, wrong
    assert code_of("--last", "--from=3") == 64

    def crash(*_args: object, **_options: object) -> Report:
        raise RuntimeError

    monkeypatch.setattr(verifying, "verify", crash)
    assert code_of() == 70


def test_a_long_run_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    command = auditverify.Command()
    command._progress(50, 100)
    assert terminal.getvalue() == ""
    command._progress(250_000, 1_000_000)
    assert terminal.getvalue() == f"\r[{'#' * 10}{'.' * 30}] 250,000 of 1,000,000"


def left_with(*arguments: str) -> int:
    try:
        call_command("auditverify", *arguments)
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def test_a_bundle_is_verified_by_the_checks_of_its_script(log: list[str], tmp_path: Path) -> None:
    bundle, anchor = tmp_path / "trail.zip", tmp_path / "anchors.txt"
    call_command("auditexport", str(bundle))
    anchor.write_text("\n".join(published for published in log))
    assert left_with("--bundle", str(bundle), "--anchor", str(anchor)) == 0
    content = bytearray(bundle.read_bytes())
    content[200] ^= 1
    bundle.write_bytes(content)
    assert left_with("--bundle", str(bundle)) == 1
