"""Bundles: what of the trail can be verified anywhere, by `audit.standalone`, which also says what has to be in one.

A ZIP file, written in one pass and never whole in memory. It holds the chosen events; the hashes of all leaves of the
range that they lie in, so that nothing is hidden of how many were left out; and the checkpoints that were signed over
those leaves. The manifest names each file's SHA-256 and is signed with the trail's newest key.
"""

import hashlib
import json
import time
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from audit import canonical
from audit.models import AuditCheckpoint, AuditLeaf
from audit.notes import text_sign
from audit.selecting import Selection, sealed_events
from audit.standalone import script
from audit.standalone.bundle import FORMAT, MANIFEST, SIGNATURE
from audit.trail_keys import TrailKeys, verifier_text

_CHUNK: Final = 1000
#: So many bytes are handed on at a time.
_PIECE: Final = 64 * 1024
_README: Final = """\
This is a part of the audit trail of an Atom Local Agent, for anybody to verify:

    pip install cryptography
    python3 verify.py BUNDLE --key KEY

Take KEY, and rather verify.py too, from whoever runs the product and not from here: `manage.py auditexport --show-key`
and `manage.py auditexport --show-script` print them. The SHA-256 of everything here stands in manifest.json.
"""


class _Sink:
    """Takes what a ZIP file is made of, to be handed on. It cannot seek, which tells `zipfile` to write straight on."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self.parts.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """There is nothing to close."""

    def take(self) -> bytes:
        """Return what came since it was taken last."""
        found, self.parts, self.size = b"".join(self.parts), [], 0
        return found


class _Range:
    """The leaves from the first event on to the end of the checkpoint that took in the last one."""

    def __init__(self, selection: Selection, until: AuditCheckpoint) -> None:
        self.selection, self.end = selection, until
        self.first, self.last, self.count, self._after = until.size, until.size - 1, 0, 0

    def events(self) -> Iterator[bytes]:
        """Yield the lines of the events, and remember where they lie."""
        for event in sealed_events(self.selection, self.end.size):
            self.first = min(self.first, event.leaf)
            self.last, self.count = event.leaf, self.count + 1
            line = {"leaf": event.leaf, "body": event.body, "signature": event.signature}
            yield (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode()

    def settle(self) -> None:
        """Widen the range to whole checkpoints, now that the events are known."""
        notes = AuditCheckpoint.objects
        before = notes.filter(size__lte=self.first, number__lte=self.end.number).order_by("-number").first()
        if not self.selection.is_everything and self.count:
            self.end = notes.filter(size__gt=self.last).order_by("number")[0]
        self.first = before.size if before else 0
        self._after = before.number - 1 if before else 0

    def leaves(self) -> Iterator[bytes]:
        """Yield the hashes of the range's leaves."""
        begin = self.first
        while begin < self.end.size:
            rows = AuditLeaf.objects.filter(index__gte=begin, index__lt=min(begin + _CHUNK, self.end.size))
            yield b"".join(bytes(one) for one in rows.order_by("index").values_list("hash", flat=True))
            begin += _CHUNK

    def notes(self) -> Iterator[bytes]:
        """Yield the checkpoints: the one that the range begins after, where there is one, and all up to its end."""
        for begin in range(self._after, self.end.number, _CHUNK):
            end = min(begin + _CHUNK, self.end.number)
            rows = AuditCheckpoint.objects.filter(number__gt=begin, number__lte=end).order_by("number")
            for note in rows.values_list("note", flat=True):
                yield f"{note}\n".encode()


def bundle_pieces(selection: Selection, *, until: AuditCheckpoint, keys: TrailKeys, now: datetime) -> Iterator[bytes]:
    """Yield a bundle of the events that pass and were sealed by that checkpoint. Raises the database's own errors."""
    sink, found = _Sink(), _Range(selection, until)
    files: dict[str, dict[str, object]] = {}
    date = time.gmtime(now.timestamp())[:6]

    def member(name: str, pieces: Iterable[bytes], *, is_packed: bool = True) -> Iterator[bytes]:
        info = zipfile.ZipInfo(name, date)
        info.compress_type = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
        info.external_attr = 0o600 << 16
        digest, size = hashlib.sha256(), 0
        with bundle.open(info, "w", force_zip64=True) as stream:
            for piece in pieces:
                stream.write(piece)
                digest.update(piece)
                size += len(piece)
                if sink.size >= _PIECE:
                    yield sink.take()
        files[name] = {"bytes": size, "sha256": digest.hexdigest()}

    with zipfile.ZipFile(sink, "w") as bundle:
        public = [verifier_text(keys.log, key) for key in keys.public.keys.values()]
        yield from member("README.txt", [_README.encode()])
        yield from member("verify.py", [script().encode()])
        yield from member("keys.txt", [f"{text}\n".encode() for text in public])
        yield from member("events.jsonl", found.events())
        found.settle()
        yield from member("leaves.bin", found.leaves(), is_packed=False)
        yield from member("notes.txt", found.notes())
        manifest = canonical.dumps(
            {
                "format": FORMAT,
                "log": keys.log,
                "made_us": int(now.timestamp()) * 1_000_000 + now.microsecond,
                "filters": selection.to_json(),
                "first": found.first,
                "size": found.end.size,
                "checkpoint": found.end.number,
                "digest": found.end.digest,
                "events": found.count,
                "files": dict(files),
            }
        ).encode()
        yield from member(MANIFEST, [manifest])
        signed = text_sign(f"{FORMAT}\nsha256 {hashlib.sha256(manifest).hexdigest()}\n", keys)
        yield from member(SIGNATURE, [signed.encode()])
    yield sink.take()
