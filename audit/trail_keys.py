"""The keys that sign the trail: events as they are written, and checkpoints as they are sealed.

One owner-only file outside the database, `audit.json` in the folder of keys, made by `init`. The newest key signs. Of
those before it only the public part stays, so that what they signed still verifies and nothing new can be signed.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings

from audit.key_files import Watched, damaged, key_file_read, key_file_write

FILE: Final = "audit.json"
#: The type that signed notes give Ed25519.
_ED25519: Final = b"\x01"


def key_id(log: str, public_key: bytes) -> bytes:
    """Return the four bytes by which a signed note names a key (C2SP signed-note: SHA-256 of name and key)."""
    return hashlib.sha256(log.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def verifier_text(log: str, public_key: bytes) -> str:
    """Return a public key as signed notes write it: `name+id+base64`."""
    return f"{log}+{key_id(log, public_key).hex()}+{base64.b64encode(_ED25519 + public_key).decode()}"


def is_signed_by(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether a signature is this key's over this message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What is needed to verify: the log's name, and each public key by its id."""

    log: str
    keys: Mapping[bytes, bytes]

    def is_signed(self, identity: bytes, signature: bytes, message: bytes) -> bool:
        """Return whether the key of this id signed the message. A key that is not known signed nothing."""
        public = self.keys.get(identity)
        return public is not None and is_signed_by(public, signature, message)


@dataclass(frozen=True, slots=True)
class TrailKeys:
    """The keys of a file. `id` is that of the newest, which signs."""

    public: PublicKeys
    id: bytes
    _private: Ed25519PrivateKey = field(repr=False)

    @property
    def log(self) -> str:
        """Return the log's name, the first line of every checkpoint."""
        return self.public.log

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of a signature."""
        return self._private.sign(message)


def trail_keys() -> TrailKeys:
    """Return this server's keys. Raises KeyFileError: then nothing can be recorded, and nothing new happens."""
    return _watched.get(f"{settings.ATOM_KEYS}/{FILE}")


def read(path: Path) -> TrailKeys:
    """Return the keys of a file. Raises KeyFileError where it is missing, damaged, or others may read it."""
    content = key_file_read(path)
    try:
        log, stored = str(content["log"]), content["keys"]
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(stored[-1]["private"]))
        public = [bytes.fromhex(item["public"]) for item in stored]
        if private.public_key().public_bytes_raw() != public[-1] or not _is_name(log):
            raise damaged(path)
    except (ValueError, LookupError, TypeError) as error:
        raise damaged(path) from error
    known = {key_id(log, key): key for key in public}
    return TrailKeys(PublicKeys(log, known), key_id(log, public[-1]), private)


def create(folder: Path) -> bool:
    """Make the log's name and its first key where there is no file. Returns whether it did.

    Raises OSError, KeyFileError.
    """
    path = folder / FILE
    if path.exists():
        read(path)
        return False
    key_file_write(path, {"log": f"atom-local-agent/{secrets.token_hex(8)}", "keys": [_new()]})
    return True


def rotate(folder: Path) -> TrailKeys:
    """Put a new key in place, and forget the private part of the one before. Raises OSError, KeyFileError."""
    path = folder / FILE
    read(path)
    content = key_file_read(path)
    before = [{"public": item["public"], "made_at": item["made_at"]} for item in content["keys"]]
    key_file_write(path, {"log": content["log"], "keys": [*before, _new()]})
    _watched.look_again()
    return read(path)


def _new() -> dict[str, object]:
    key = Ed25519PrivateKey.generate()
    return {
        "public": key.public_key().public_bytes_raw().hex(),
        "private": key.private_bytes_raw().hex(),
        "made_at": int(time.time()),
    }


def _is_name(log: str) -> bool:
    return bool(log) and log.isascii() and log.isprintable() and not any(sign in log for sign in " +")


_watched = Watched(read)
