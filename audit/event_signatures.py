"""Signatures of events as they are written, before they are sealed.

The events of one call of `record` are signed together: one Ed25519 signature over the Merkle root of their hashes,
which costs as much for sixty events as for one. Each event's signature is that one and its own path to the root, so
that it can be verified alone: base64 of a version, the key's id, index and size (four bytes each), signature and path.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from audit import tree
from audit.trail_keys import PublicKeys, TrailKeys

_HEAD: Final = struct.Struct(">B4sII64s")
_VERSION: Final = 1
_MOST_KEPT: Final = 1024


class SignatureError(ValueError):
    """The text is not the signature of an event."""


@dataclass(frozen=True, slots=True)
class EventSignature:
    """A signature over `size` events, and the path of the one at `index` to their root."""

    key_id: bytes
    index: int
    size: int
    signature: bytes
    siblings: tuple[bytes, ...]

    def message(self, event_hash: bytes) -> bytes:
        """Return what has to be signed for an event with this hash. Raises SignatureError for a path that is wrong."""
        try:
            root = tree.root_from_path(tree.leaf_hash(event_hash), self.index, self.size, self.siblings)
        except tree.TreeError as error:
            raise SignatureError(SignatureError.__doc__) from error
        return _message(self.size, root)

    def is_of(self, event_hash: bytes, keys: PublicKeys) -> bool:
        """Return whether a known key signed an event with this hash."""
        try:
            return keys.is_signed(self.key_id, self.signature, self.message(event_hash))
        except SignatureError:
            return False


class _SignedHere:
    """What this process signed lately, for its own sealer: verifying costs more than all the rest of sealing.

    Whatever differs from what was signed by a bit is another message, and not in here.
    """

    def __init__(self) -> None:
        self._newer: set[bytes] = set()
        self._older: set[bytes] = set()

    def add(self, key_id: bytes, signature: bytes, message: bytes) -> None:
        if len(self._newer) >= _MOST_KEPT:
            self._older, self._newer = self._newer, set()
        self._newer.add(key_id + signature + message)

    def has(self, key_id: bytes, signature: bytes, message: bytes) -> bool:
        one = key_id + signature + message
        return one in self._newer or one in self._older


signed_here: Final = _SignedHere()


def events_sign(hashes: Sequence[bytes], keys: TrailKeys) -> list[str]:
    """Return a signature for each of these events, given by the SHA-256 of their bodies."""
    leaves = [tree.leaf_hash(one) for one in hashes]
    size = len(leaves)
    root, paths = tree.root_and_paths(leaves)
    message = _message(size, root)
    signature = keys.sign(message)
    signed_here.add(keys.id, signature, message)
    return [
        base64.b64encode(_HEAD.pack(_VERSION, keys.id, index, size, signature) + b"".join(siblings)).decode()
        for index, siblings in enumerate(paths)
    ]


def signatures_digest(signatures: Iterable[str | None]) -> bytes:
    """Return the SHA-256 that a checkpoint keeps of its events' signatures, each with a line's end."""
    return hashlib.sha256("".join(f"{signature or ''}\n" for signature in signatures).encode()).digest()


def event_signature_read(text: str) -> EventSignature:
    """Return a signature that was written. Raises SignatureError."""
    try:
        value = base64.b64decode(text, validate=True)
        version, key, index, size, signature = _HEAD.unpack_from(value)
    except (binascii.Error, ValueError, struct.error) as error:
        raise SignatureError(SignatureError.__doc__) from error
    rest = value[_HEAD.size :]
    if version != _VERSION or len(rest) % tree.HASH_BYTES:
        raise SignatureError(SignatureError.__doc__)
    siblings = tuple(rest[at : at + tree.HASH_BYTES] for at in range(0, len(rest), tree.HASH_BYTES))
    return EventSignature(key, index, size, signature, siblings)


def _message(size: int, root: bytes) -> bytes:
    return b"atom audit events 1\n%d\n%s\n" % (size, root.hex().encode())
