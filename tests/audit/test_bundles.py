"""Bundles: what the standalone verifier says of a good one, and of everything that can be wrong with one."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.utils import timezone

from audit import sealing, trail_keys
from audit.bundles import bundle_pieces
from audit.models import AuditCheckpoint, AuditEvent
from audit.notes import text_sign
from audit.selecting import Selection
from audit.standalone import script
from audit.standalone.bundle import Options, Report, bundle_verify
from audit.standalone.command import main
from audit.tags import Tag
from audit.trail import SYSTEM, Event, record
from audit.trail_keys import TrailKeys, verifier_text

Files = dict[str, bytes]
SESSION = UUID("019a3c1e-7a5b-7c3d-8e9f-0123456789ab")


@pytest.fixture
def log(db: None) -> None:
    """Three checkpoints of four events each; the first two have two events of a session among them."""
    for number in range(3):
        write(2, SESSION, 1 + 2 * number) if number < 2 else write(2)
        write(2)
        sealing.seal(timezone.now())


def write(count: int, session: UUID | None = None, first: int = 1) -> None:
    with transaction.atomic():
        for number in range(count):
            seq = first + number if session else None
            data = {"number": number}
            record(Event(Tag.SESSION_OUTPUT, SYSTEM, SYSTEM, data=data, session_id=session, session_seq=seq))


def keys() -> TrailKeys:
    return trail_keys.trail_keys()


def key() -> str:
    return verifier_text(keys().log, keys().public.keys[keys().id])


def bundle(selection: Selection = Selection(), signer: TrailKeys | None = None) -> bytes:  # noqa: B008 - frozen
    until = AuditCheckpoint.objects.order_by("-number")[0]
    return b"".join(bundle_pieces(selection, until=until, keys=signer or keys(), now=timezone.now()))


def verified(content: bytes, *given: str, **options: Any) -> Report:
    return bundle_verify(io.BytesIO(content), Options(given or (key(),), **options))


def unpacked(content: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def packed(files: Files) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return made.getvalue()


def test_a_whole_bundle_is_sound(log: None) -> None:
    report = verified(bundle(), has_signatures=True)
    assert (report.verdict, report.first, report.size, report.events, report.checkpoint) == ("sound", 0, 12, 12, 3)
    anchor = [f"{note}\n" for note in AuditCheckpoint.objects.order_by("number").values_list("note", flat=True)]
    assert verified(bundle(), anchor="".join(anchor).splitlines(keepends=True)).verdict == "sound"


def test_a_filtered_bundle_says_how_much_was_left_out_and_is_sound(log: None) -> None:
    report = verified(bundle(Selection(session=SESSION)), has_signatures=True)
    assert (report.verdict, report.first, report.size, report.events) == ("sound", 0, 8, 4)
    last = AuditEvent.objects.order_by("id").last()
    assert last
    report = verified(bundle(Selection(after=last.occurred_at)))
    assert (report.verdict, report.first, report.size, report.events) == ("sound", 8, 12, 1)
    report = verified(bundle(Selection(words="nowhere to be found")))
    assert (report.verdict, report.first, report.size, report.events) == ("sound", 12, 12, 0)


def test_keys_of_before_a_rotation_are_vouched_for_by_the_new_one(log: None, tmp_path: Path) -> None:
    before = key()
    trail_keys.create(tmp_path)
    (tmp_path / "audit.json").write_text(json.dumps(_rotated()))
    (tmp_path / "audit.json").chmod(0o600)
    rotated = trail_keys.read(tmp_path / "audit.json")
    content = bundle(signer=rotated)
    assert verified(content, verifier_text(rotated.log, rotated.public.keys[rotated.id])).verdict == "sound"
    report = verified(content, before)
    assert (report.verdict, report.findings[0][1]) == ("incomplete", "the bundle is signed by a key that is not known")


def _rotated() -> dict[str, object]:
    new = trail_keys._new()
    public = [{"public": one.hex(), "made_at": 0} for one in keys().public.keys.values()]
    return {"log": keys().log, "keys": [*public, new]}


def test_a_bundle_of_another_log_or_of_nobody_is_not_vouched_for(log: None, tmp_path: Path) -> None:
    trail_keys.create(tmp_path)
    stranger = verified(bundle(signer=trail_keys.read(tmp_path / "audit.json")))
    assert stranger.verdict == "tampered"
    assert "another log" in stranger.findings[0][1]
    nobody = bundle_verify(io.BytesIO(bundle()), Options())
    assert nobody.verdict == "incomplete"
    assert key() in nobody.findings[0][1]
    assert verified(b"what is this?").findings == [("incomplete", "this is no bundle")]


def edited(files: Files) -> Files:
    return {**files, "events.jsonl": files["events.jsonl"].replace(b'\\"number\\":1', b'\\"number\\":7', 1)}


def dropped(files: Files) -> Files:
    lines = files["events.jsonl"].splitlines(keepends=True)
    return {**files, "events.jsonl": b"".join(lines[:3] + lines[4:])}


def leaf_swapped(files: Files) -> Files:
    leaves = files["leaves.bin"]
    return {**files, "leaves.bin": leaves[32:64] + leaves[:32] + leaves[64:]}


def note_edited(files: Files) -> Files:
    return {**files, "notes.txt": files["notes.txt"].replace(b"number 2\n", b"number 9\n")}


def fewer(files: Files) -> Files:
    manifest = json.loads(files["manifest.json"])
    return {**files, "manifest.json": json.dumps({**manifest, "events": 3}).encode()}


def without_leaves(files: Files) -> Files:
    return {name: content for name, content in files.items() if name != "leaves.bin"}


def with_another_file(files: Files) -> Files:
    return {**files, "more.txt": b"more"}


def other_script(files: Files) -> Files:
    return {**files, "verify.py": b"print('sound')"}


def short_line(files: Files) -> Files:
    return {**files, "events.jsonl": b'{"leaf": 0}\n'}


def no_json(files: Files) -> Files:
    return {**files, "manifest.json": b"[" * 100_000}


ATTACKS = [edited, dropped, leaf_swapped, note_edited, fewer, without_leaves, with_another_file, other_script]
ATTACKS += [short_line, no_json]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_what_was_altered_is_tampered_with(log: None, attack: Callable[[Files], Files]) -> None:
    assert verified(packed(unpacked(bundle()))).verdict == "sound"
    report = verified(packed(attack(unpacked(bundle()))))
    assert report.verdict == "tampered"
    assert report.findings


def test_an_edit_by_somebody_with_the_key_still_shows_in_the_tree(log: None) -> None:
    """The manifest made anew, and signed: events are held against leaves, and these against the checkpoints."""
    files = edited(unpacked(bundle()))
    remade = packed(_signed(files))
    found = [what for _severity, what in verified(remade).findings]
    assert found == ["the event of leaf 1 is not the one that was sealed"]


def _signed(files: Files) -> Files:
    manifest = json.loads(files["manifest.json"])
    manifest["files"] = {
        name: {"bytes": len(files[name]), "sha256": sha256(files[name]).hexdigest()} for name in manifest["files"]
    }
    text = json.dumps(manifest).encode()
    note = text_sign(f"atom audit bundle 1\nsha256 {sha256(text).hexdigest()}\n", keys())
    return {**files, "manifest.json": text, "manifest.sig": note.encode()}


def test_a_bundle_that_is_cut_anywhere_never_reads_as_sound(log: None) -> None:
    content = bundle()
    for end in range(4, len(content), 97):
        report = verified(content[:end])
        assert (report.verdict, report.findings[0][1][:21]) == ("tampered", "the bundle is cut or ")


def test_the_script_alone_verifies_a_bundle_and_a_receipt(log: None, tmp_path: Path) -> None:
    """As an auditor runs it: one file, isolated from this checkout."""
    (tmp_path / "verify.py").write_text(script())
    (tmp_path / "bundle.zip").write_bytes(bundle())
    event = AuditEvent.objects.order_by("id")[3]
    receipt = {"uid": str(event.uid), "hash": event.hash, "signature": event.signature}
    (tmp_path / "answer.json").write_text(json.dumps({"receipt": receipt}))
    (tmp_path / "forged.json").write_text(json.dumps({**receipt, "hash": "0" * 64}))

    line = ["verify.py", "bundle.zip", "--key", key(), "--receipt", "answer.json", "--signatures", "--json"]
    done = subprocess.run([sys.executable, "-I", *line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "sound"), done
    names = {name: str(tmp_path / name) for name in ("bundle.zip", "forged.json", "missing.zip")}
    assert main(["--receipt", names["forged.json"], "--key", key()]) == 1
    assert main([names["bundle.zip"]]) == 2
    for wrong in ([names["bundle.zip"], "--key", "nonsense"], [names["missing.zip"], "--key", key()], []):
        with pytest.raises(SystemExit, match="64"):
            main(wrong)
