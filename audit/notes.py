"""Checkpoints as text: signed notes of a log (C2SP tlog-checkpoint and signed-note). No Django, no database.

atom-local-agent/5f2a…        the log's name
48211                         how many leaves it has
(base64)                      the root over them
number 912                    the checkpoint's own number, from 1 without a gap
time 1767322800123456         when it was sealed, microseconds since 1970
previous (base64)             SHA-256 of the note before it, 32 zero bytes for the first
frontier (base64) (base64)    the roots of the full subtrees, from which the log goes on
signatures (base64)           SHA-256 of the signatures of the events that it took in, a line each

— atom-local-agent/5f2a… (base64 of key id and signature)
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from audit.trail_keys import PublicKeys, TrailKeys
from audit.tree import Frontier, TreeError

FIRST: Final = bytes(32)
_DASH: Final = "— "


class NoteError(ValueError):
    """The text is not a checkpoint. It says what is wrong."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says. `previous` is 32 bytes; `time_us` is microseconds since 1970.

    `signatures` is None where it says nothing of them, as the first versions' did; `more` are lines that a later
    version of the product wrote.
    """

    log: str
    size: int
    root: bytes
    number: int
    time_us: int
    previous: bytes
    frontier: tuple[bytes, ...]
    signatures: bytes | None = None
    more: tuple[str, ...] = ()

    def text(self) -> str:
        """Return what is signed."""
        lines = [
            self.log,
            str(self.size),
            _encoded(self.root),
            f"number {self.number}",
            f"time {self.time_us}",
            f"previous {_encoded(self.previous)}",
            " ".join(["frontier", *map(_encoded, self.frontier)]),
            *([] if self.signatures is None else [f"signatures {_encoded(self.signatures)}"]),
            *self.more,
        ]
        return "\n".join(lines) + "\n"

    def tree(self) -> Frontier:
        """Return the log's frontier at this size. Raises NoteError where it is not that of the root."""
        try:
            found = Frontier(self.size, self.frontier)
        except TreeError as error:
            raise NoteError(f"checkpoint {self.number}: its frontier is not that of a log of {self.size}") from error
        if found.root() != self.root:
            raise NoteError(f"checkpoint {self.number}: its frontier does not lead to its root")
        return found


def note_sign(checkpoint: Checkpoint, keys: TrailKeys) -> str:
    """Return the signed note."""
    return text_sign(checkpoint.text(), keys)


def text_sign(text: str, keys: TrailKeys) -> str:
    """Return a signed note of this text, which ends with a line end."""
    return f"{text}\n{_DASH}{keys.log} {_encoded(keys.id + keys.sign(text.encode()))}\n"


def note_text(note: str) -> str:
    """Return the text that a note signs, whoever did. Raises NoteError."""
    return _split(note)[0]


def note_digest(note: str) -> bytes:
    """Return the SHA-256 that the next checkpoint names this one by."""
    return hashlib.sha256(note.encode()).digest()


def note_read(note: str) -> Checkpoint:
    """Return what a note says, whoever signed it. Raises NoteError."""
    text, _signatures = _split(note)
    lines = text.split("\n")
    if len(lines) < 8:
        raise NoteError("a checkpoint has at least seven lines")
    values = []
    for line, name in zip(lines[3:7], ("number", "time", "previous", "frontier"), strict=True):
        found, _, value = line.partition(" ")
        if found != name:
            raise NoteError(f"a checkpoint of this version has the line {name!r}, not {found[:20]!r}")
        values.append(value)
    number, time_us, previous, frontier = values
    more, signatures = lines[7:-1], None
    if more and more[0].startswith("signatures "):
        signatures = _hash(more.pop(0).partition(" ")[2])
    checkpoint = Checkpoint(
        log=lines[0],
        size=_number(lines[1]),
        root=_hash(lines[2]),
        number=_number(number),
        time_us=_number(time_us),
        previous=_hash(previous),
        frontier=tuple(_hash(one) for one in frontier.split()),
        signatures=signatures,
        more=tuple(more),
    )
    if checkpoint.text() != text:
        raise NoteError("the checkpoint is not spelled as it would be written")
    return checkpoint


def is_note_signed(note: str, keys: PublicKeys) -> bool | None:
    """Return whether a known key signed the note: True, False for a signature that is wrong, None for no known key.

    Signatures of others, as witnesses add them, are passed over. Raises NoteError for what is no note.
    """
    text, signatures = _split(note)
    found = None
    for line in signatures:
        name, _, encoded = line.removeprefix(_DASH).rpartition(" ")
        value = _decoded(encoded)
        if name == keys.log and value[:4] in keys.keys:
            if not keys.is_signed(value[:4], value[4:], text.encode()):
                return False
            found = True
    return found


def notes_in(lines: Iterable[str]) -> Iterator[str]:
    """Yield the notes of a file that holds one after another with an empty line between; a cut last one is left out."""
    part: list[str] = []
    is_signed = False
    for line in lines:
        if is_signed and not line.startswith(_DASH):
            yield "".join(part)
            part, is_signed = [], False
        if not part and not line.strip():
            continue
        part.append(line)
        is_signed = line.startswith(_DASH) and line.endswith("\n")
    if is_signed:
        yield "".join(part)


def _split(note: str) -> tuple[str, list[str]]:
    text, separator, rest = note.rpartition("\n\n")
    signatures = rest.split("\n")
    if not separator or signatures.pop() or not signatures or not all(one.startswith(_DASH) for one in signatures):
        raise NoteError("a note is text, an empty line and signatures")
    return text + "\n", signatures


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"{text[:20]!r} is not base64") from error


def _hash(text: str) -> bytes:
    value = _decoded(text)
    if len(value) != 32:
        raise NoteError("a hash has 32 bytes")
    return value


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 19 or (text[0] == "0" and text != "0"):
        raise NoteError(f"{text[:20]!r} is not a number")
    return int(text)
