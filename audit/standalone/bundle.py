"""Verify a bundle, or a receipt. What is wrong is told in a report and never raised."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from audit.standalone.forms import (
    HASH_BYTES,
    Checkpoint,
    FormatError,
    Keys,
    Tree,
    event_signed,
    json_object,
    note_split,
    notes_in,
)

FORMAT = "atom audit bundle 1"
SOUND, TAMPERED, INCOMPLETE = "sound", "tampered", "incomplete"
CODES = {SOUND: 0, TAMPERED: 1, INCOMPLETE: 2}
#: The files that a manifest names, besides the two that no manifest can name: itself and its signature.
FILES = ("events.jsonl", "leaves.bin", "notes.txt", "keys.txt", "verify.py", "README.txt")
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
#: No line of a bundle is longer, and no manifest.
LINE_MAX = 64 * 1024 * 1024
FINDINGS_MAX = 1000


@dataclass
class Report:
    """What was found. `first` and `size` are leaves: from this one up to, not including, that one."""

    log: str = ""
    first: int = 0
    size: int = 0
    checkpoint: int = 0
    digest: str = ""
    events: int = 0
    filters: Mapping[str, Any] = field(default_factory=dict)
    #: Pairs of a severity and what is wrong.
    findings: list[tuple[str, str]] = field(default_factory=list)
    more: int = 0
    worst: str = SOUND

    def find(self, severity: str, what: str) -> None:
        """Add a finding; beyond the first thousand they are counted only."""
        if CODES[severity] and (self.worst == SOUND or severity == TAMPERED):
            self.worst = severity
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append((severity, what))
        else:
            self.more += 1

    @property
    def verdict(self) -> str:
        """Return the worst of what was found."""
        return self.worst

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        names = ("log", "first", "size", "checkpoint", "digest", "events", "filters")
        found = [{"severity": severity, "what": what} for severity, what in self.findings]
        told = {name: getattr(self, name) for name in names}
        return {"verdict": self.verdict, **told, "findings": found, "findings_not_shown": self.more}


@dataclass(frozen=True)
class Options:
    """What a verification is held to. `keys` are of the log, as `name+id+base64`; without any nobody vouches."""

    keys: tuple[str, ...] = ()
    #: Published checkpoints, as lines.
    anchor: Iterable[str] | None = None
    #: Whether each event's own signature is verified too, besides the tree's.
    has_signatures: bool = False
    #: The SHA-256 of an event that has to be among them, hexadecimal.
    wanted: str = ""
    progress: Callable[[int, int], None] = lambda done, size: None
    #: Called with the leaf of each event that was found to be what was sealed.
    on_event: Callable[[int], None] = lambda leaf: None


def bundle_verify(stream: IO[bytes], options: Options) -> Report:
    """Verify a bundle. Nothing in it makes this raise; what is wrong is in the report."""
    report = Report()
    start = stream.read(4)
    stream.seek(0)
    try:
        # On disk once it grows: the digest of every checkpoint, to hold what was published against.
        with zipfile.ZipFile(stream) as bundle, contextlib.closing(sqlite3.connect("")) as digests:
            digests.execute("CREATE TABLE notes (number INTEGER PRIMARY KEY, digest TEXT)")
            _Bundle(bundle, options, report, digests).verify()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        if start == b"PK\x03\x04":
            report.find(TAMPERED, f"the bundle is cut or damaged ({error})")
        else:
            report.find(INCOMPLETE, "this is no bundle")
    except (FormatError, UnicodeError, KeyError) as error:
        report.find(TAMPERED, f"the bundle is damaged: {error}")
    return report


class _Bundle:
    """One pass over a bundle's files, in pieces, so that memory stays flat."""

    def __init__(self, bundle: zipfile.ZipFile, options: Options, report: Report, digests: sqlite3.Connection) -> None:
        self.bundle, self.options, self.report, self.digests = bundle, options, report, digests
        self.files: Mapping[str, Any] = {}
        #: The size of the log's first checkpoint, where it is here: only it takes in events without a signature.
        self.unsigned_size = 0

    def verify(self) -> None:
        """Look at all of it, in an order in which each thing is trusted before it is used."""
        names, report = self.bundle.namelist(), self.report
        if MANIFEST not in names:
            report.find(INCOMPLETE, "this is no bundle: it has no manifest")
            return
        manifest = self._whole(MANIFEST)
        said = json_object(manifest)
        if said.get("format") != FORMAT:
            report.find(INCOMPLETE, f"the bundle is of another version, {said.get('format')!r}")
            return
        self._told(said)
        for name in sorted({*names, *FILES} ^ {*self.files, MANIFEST, SIGNATURE}):
            report.find(TAMPERED, f"{name} is {'not in the manifest' if name in names else 'missing'}")
        if len(names) != len(set(names)):
            report.find(TAMPERED, "the bundle holds two files of one name")
        keys = self._keys(manifest)
        if keys is None:
            return
        for name in set(self.files) & {"verify.py", "README.txt", "keys.txt"}:
            with self._open(name):
                pass
        with self._open("notes.txt") as notes, self._open("leaves.bin") as leaves:
            self._log(notes_in(notes.text()), leaves, keys)
        with self._open("events.jsonl") as events, self.bundle.open("leaves.bin") as plain:
            self._events(events, plain, keys)
        if self.options.anchor is not None:
            self._anchored(self.options.anchor, keys)

    def _told(self, said: Mapping[str, Any]) -> None:
        report = self.report
        report.log, report.digest = str(said.get("log")), str(said.get("digest"))
        report.filters, self.files = json_object(said.get("filters")), json_object(said.get("files"))
        for name in ("first", "size", "checkpoint", "events"):
            if type(said.get(name)) is not int:
                raise FormatError(f"the manifest has no number of {name}")
            setattr(report, name, said[name])

    def _keys(self, manifest: bytes) -> Keys | None:
        """Return the keys to go on with, once it is said whether a key that was given vouches for them."""
        texts = self._whole("keys.txt").decode().split()
        own, given = Keys(texts), Keys(self.options.keys)
        note = self._whole(SIGNATURE).decode()
        if own.log != self.report.log:
            self.report.find(TAMPERED, f"the keys are of the log {own.log}, the manifest is of {self.report.log}")
            return None
        if note_split(note)[0] != f"{FORMAT}\nsha256 {hashlib.sha256(manifest).hexdigest()}\n":
            self.report.find(TAMPERED, "the manifest is not the one that was signed")
        if not given.by_id:
            what = "no key was given to hold the bundle to, and anybody can make one with a key of their own; it names "
            self.report.find(INCOMPLETE, what + ", ".join(texts))
        elif given.log != own.log:
            self.report.find(INCOMPLETE, f"the bundle is of another log: {own.log}, and the key is of {given.log}")
        elif given.note_signed(note) is None:
            self.report.find(INCOMPLETE, "the bundle is signed by a key that is not known")
        # The key that signed the manifest vouches for the log's earlier ones, whose hash is in it. Where none did, the
        # verdict stands by now, and the bundle's own keys tell whether it agrees with itself.
        if own.note_signed(note) is not True:
            self.report.find(TAMPERED, "the signature of the manifest is wrong")
        return own

    def _log(self, notes: Iterator[str], leaves: _Hashed, keys: Keys) -> None:
        """Go through checkpoints and leaves together. A bundle that does not begin the log begins with a checkpoint."""
        report, tree, previous = self.report, Tree(), ""
        before: Checkpoint | None = None
        for note in notes:
            found = Checkpoint.read(note)
            self._signed(found, note, keys)
            if before is None and report.first:
                tree = Tree(found.size, found.frontier)
            if before and (found.number, found.previous.hex()) != (before.number + 1, previous):
                report.find(TAMPERED, f"checkpoint {found.number} does not follow checkpoint {before.number}")
            begin = tree.size
            if before is None and begin != report.first:
                report.find(TAMPERED, "the leaves do not begin where a checkpoint ends")
            while tree.size < found.size and len(leaf := leaves.read(HASH_BYTES)) == HASH_BYTES:
                tree.append(leaf)
            if (tree.size, tree.root()) != (found.size, found.root):
                what = (
                    f"leaves {begin} to {found.size - 1} are not those that checkpoint {found.number} was signed over"
                )
                report.find(TAMPERED, what)
                tree = Tree(found.size, found.frontier)
            before, previous = found, hashlib.sha256(note.encode()).hexdigest()
            self.unsigned_size = found.size if found.number == 1 else self.unsigned_size
            self.digests.execute("INSERT OR IGNORE INTO notes VALUES (?, ?)", (found.number, previous))
        if leaves.read(1):
            report.find(TAMPERED, "there are more leaves than the checkpoints cover")
        if before is None or (before.size, before.number, previous) != (report.size, report.checkpoint, report.digest):
            report.find(TAMPERED, "the last checkpoint is not the one that the manifest names")

    def _signed(self, found: Checkpoint, note: str, keys: Keys) -> None:
        signed = keys.note_signed(note)
        if found.log != keys.log or signed is None:
            self.report.find(TAMPERED, f"checkpoint {found.number} is signed by another log or by an unknown key")
        elif not signed:
            self.report.find(TAMPERED, f"the signature of checkpoint {found.number} is wrong")

    def _events(self, events: _Hashed, leaves: IO[bytes], keys: Keys) -> None:
        """Hold each event against its leaf. They stand in the order of their leaves, so that both are read once."""
        report, count, before = self.report, 0, self.report.first - 1
        is_found = not self.options.wanted
        for line in events.text():
            event = json_object(line)
            index, body, signature = event.get("leaf"), event.get("body"), event.get("signature")
            if type(index) is not int or not before < index < report.size or not isinstance(body, str):
                raise FormatError(f"behind leaf {before} stands an event of leaf {index!r}")
            _skip(leaves, (index - before - 1) * HASH_BYTES)
            before, count = index, count + 1
            digest = hashlib.sha256(body.encode()).digest()
            if leaves.read(HASH_BYTES) != hashlib.sha256(b"\0" + digest).digest():
                report.find(TAMPERED, f"the event of leaf {index} is not the one that was sealed")
                continue
            if self.options.has_signatures and (signature is not None or index >= self.unsigned_size):
                try:
                    is_signed = event_signed(digest, str(signature), keys)
                except FormatError:
                    is_signed = False
                if not is_signed:
                    report.find(TAMPERED, f"the event of leaf {index} was not signed when it was written")
            is_found = is_found or digest.hex() == self.options.wanted
            self.options.on_event(index)
            if not count % 2000:
                self.options.progress(count, report.events)
        if count != report.events:
            report.find(TAMPERED, f"the manifest names {report.events} events, and there are {count}")
        if not is_found:
            report.find(INCOMPLETE, "the event of the receipt is not in the bundle")

    def _anchored(self, lines: Iterable[str], keys: Keys) -> None:
        compared, others = 0, 0
        for note in notes_in(lines):
            try:
                number = Checkpoint.read(note).number
                if not keys.note_signed(note):
                    raise FormatError("it is not of this log")
            except FormatError:
                others += 1
                continue
            row = self.digests.execute("SELECT digest FROM notes WHERE number = ?", (number,)).fetchone()
            compared += row is not None
            if row and row[0] != hashlib.sha256(note.encode()).hexdigest():
                self.report.find(TAMPERED, f"checkpoint {number} is not the one that was published")
        if others:
            self.report.find(INCOMPLETE, f"the anchor holds {others} notes that are no checkpoints of this log")
        if not compared:
            self.report.find(INCOMPLETE, "the anchor holds no checkpoint of the bundle")

    def _open(self, name: str) -> _Hashed:
        return _Hashed(self.bundle, name, self.files, self.report)

    def _whole(self, name: str) -> bytes:
        with self.bundle.open(name) as stream:
            return stream.read(LINE_MAX)


class _Hashed:
    """A file of the bundle as it is read. At the end its size and SHA-256 are held against the manifest."""

    def __init__(self, bundle: zipfile.ZipFile, name: str, files: Mapping[str, Any], report: Report) -> None:
        self._stream, self._name, self._report = bundle.open(name), name, report
        self._said = json_object(files.get(name))
        self._sha256, self._size = hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        return self._took(self._stream.read(size))

    def text(self) -> Iterator[str]:
        """Yield the lines that are left. Raises FormatError for one that is longer than any that is written."""
        while line := self._took(self._stream.readline(LINE_MAX)):
            if len(line) == LINE_MAX:
                raise FormatError(f"{self._name} has a line of {LINE_MAX} bytes or more")
            yield line.decode()

    def _took(self, data: bytes) -> bytes:
        self._sha256.update(data)
        self._size += len(data)
        return data

    def __enter__(self) -> _Hashed:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        while kind is None and self.read(1 << 20):
            pass
        self._stream.close()
        if kind is None and self._said != {"bytes": self._size, "sha256": self._sha256.hexdigest()}:
            self._report.find(TAMPERED, f"{self._name} is not the one that the manifest names")


def receipt_verify(receipt: Mapping[str, Any], keys: Keys, report: Report) -> str:
    """Verify what `execute` or `approve` gave as a receipt. Returns the event's hash, which a bundle has to have."""
    try:
        digest = bytes.fromhex(str(receipt["hash"]))
        signed = event_signed(digest, str(receipt["signature"]), keys)
    except (KeyError, ValueError) as error:
        report.find(INCOMPLETE, f"this is no receipt ({error})")
        return ""
    if signed is None:
        report.find(INCOMPLETE, "the receipt is signed by a key that is not known")
    elif not signed:
        report.find(TAMPERED, "the signature of the receipt is wrong")
    return digest.hex()


def _skip(stream: IO[bytes], count: int) -> None:
    while count > 0 and (piece := stream.read(min(count, 1 << 20))):
        count -= len(piece)
