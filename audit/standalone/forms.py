"""What the trail is written in, read once more: public keys, signed notes, checkpoints, the Merkle tree, signatures.

RFC 6962 and C2SP's signed notes, by the standard library and `cryptography` alone: no line of this is shared with what
writes the trail, so that a mistake in one of them shows in the other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DASH = "— "
HASH_BYTES = 32


class FormatError(ValueError):
    """Something does not have the form that it should have. It says what."""


class Keys:
    """Public keys by the four bytes that name them, of one log."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Take keys as signed notes spell them, `name+id+base64`. Raises FormatError."""
        self.log = ""
        self.by_id: dict[bytes, Ed25519PublicKey] = {}
        self._known: dict[tuple[bytes, bytes, bytes], bool] = {}
        for text in texts:
            self.add(text)

    def add(self, text: str) -> bytes:
        """Take another key of the same log. Returns its id. Raises FormatError."""
        name, plus, rest = text.strip().partition("+")
        identity, _, encoded = rest.partition("+")
        value = _decoded(encoded)
        if not plus or len(value) != 33 or value[0] != 1:
            raise FormatError(f"{text.strip()[:40]!r} is no key: it has the form name+id+base64")
        found = hashlib.sha256(name.encode() + b"\n" + value).digest()[:4]
        if found.hex() != identity:
            raise FormatError(f"the key {text.strip()[:40]!r} is not the one that its id names")
        if self.log not in ("", name):
            raise FormatError(f"the keys are of two logs, {self.log} and {name}")
        self.log = name
        self.by_id[found] = Ed25519PublicKey.from_public_bytes(value[1:])
        return found

    def signed(self, identity: bytes, signature: bytes, message: bytes) -> bool | None:
        """Return whether the key of this id signed the message; None where it is not known."""
        key = self.by_id.get(identity)
        if key is None:
            return None
        question = (identity, signature, message)
        if question not in self._known:
            if len(self._known) > 4096:
                self._known.clear()
            try:
                key.verify(signature, message)
                self._known[question] = True
            except InvalidSignature:
                self._known[question] = False
        return self._known[question]

    def note_signed(self, note: str) -> bool | None:
        """Return whether a known key signed a note; None where none of its signatures is by one. Raises FormatError."""
        text, signatures = note_split(note)
        found = None
        for name, value in signatures:
            said = self.signed(value[:4], value[4:], text.encode()) if name == self.log else None
            if said is not None:
                found = said if found is None else found and said
        return found


def note_split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return a signed note's text, and name and value of each signature. Raises FormatError."""
    text, separator, rest = note.rpartition("\n\n")
    lines = rest.split("\n")
    if not separator or lines.pop() or not lines or not all(line.startswith(DASH) for line in lines):
        raise FormatError("a note is text, an empty line and signatures")
    signatures = []
    for line in lines:
        name, _, encoded = line[len(DASH) :].rpartition(" ")
        signatures.append((name, _decoded(encoded)))
    return text + "\n", signatures


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says."""

    log: str
    size: int
    root: bytes
    number: int
    time_us: int
    previous: bytes
    frontier: list[bytes]

    @classmethod
    def read(cls, note: str) -> Checkpoint:
        """Read a note. Raises FormatError."""
        lines = note_split(note)[0].split("\n")
        names = [line.partition(" ")[0] for line in lines[3:7]]
        # What stands behind these lines is signed with them, and says nothing of the tree.
        if len(lines) < 8 or names != ["number", "time", "previous", "frontier"]:
            raise FormatError("a checkpoint has at least seven lines")
        number, time_us, previous, frontier = (line.partition(" ")[2] for line in lines[3:7])
        hashes = [_hash(one) for one in frontier.split()]
        made = cls(
            lines[0], _number(lines[1]), _hash(lines[2]), _number(number), _number(time_us), _hash(previous), hashes
        )
        if len(hashes) != bin(made.size).count("1") or Tree(made.size, hashes).root() != made.root:
            raise FormatError(f"the frontier of checkpoint {made.number} does not lead to its root")
        return made


class Tree:
    """A Merkle tree of RFC 6962 that only grows: its size and the roots of its full subtrees, the largest first."""

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        level = self.size
        while level & 1:
            leaf = node_hash(self.hashes.pop(), leaf)
            level >>= 1
        self.hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Return the root."""
        if not self.hashes:
            return hashlib.sha256().digest()
        found = self.hashes[-1]
        for left in self.hashes[-2::-1]:
            found = node_hash(left, found)
        return found


def event_signed(event_hash: bytes, signature: str, keys: Keys) -> bool | None:
    """Return whether a known key signed an event when it was written, None for an unknown key. Raises FormatError."""
    value = _decoded(signature)
    if len(value) < 77 or value[0] != 1 or (len(value) - 77) % HASH_BYTES:
        raise FormatError("the signature of an event is damaged")
    identity, index, size = value[1:5], int.from_bytes(value[5:9], "big"), int.from_bytes(value[9:13], "big")
    path = [value[at : at + HASH_BYTES] for at in range(77, len(value), HASH_BYTES)]
    node, last, found = index, size - 1, hashlib.sha256(b"\0" + event_hash).digest()
    for sibling in path:
        if last <= 0:
            raise FormatError("the signature of an event is damaged")
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    if last or not 0 <= index < size:
        raise FormatError("the signature of an event is damaged")
    return keys.signed(identity, value[13:77], b"atom audit events 1\n%d\n%s\n" % (size, found.hex().encode()))


def notes_in(lines: Iterable[str]) -> Iterator[str]:
    """Yield the notes of a text that holds one after another with an empty line between."""
    part: list[str] = []
    for line in lines:
        if part and part[-1].startswith(DASH) and not line.startswith(DASH):
            yield "".join(part)
            part = []
        if part or line.strip():
            part.append(line)
    if part and part[-1].startswith(DASH) and part[-1].endswith("\n"):
        yield "".join(part)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two others."""
    return hashlib.sha256(b"\1" + left + right).digest()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"{text[:20]!r} is not base64") from None


def _hash(text: str) -> bytes:
    value = _decoded(text)
    if len(value) != HASH_BYTES:
        raise FormatError("a hash has 32 bytes")
    return value


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        raise FormatError(f"{text[:20]!r} is not a number")
    return int(text)


def json_object(value: object) -> Mapping[str, Any]:
    """Return an object, read where it is text. Raises FormatError."""
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise FormatError("what should be JSON is not") from None
    if not isinstance(value, dict):
        raise FormatError("what should be a JSON object is not")
    return value
