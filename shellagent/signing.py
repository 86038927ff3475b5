"""What the server signs and the host checks: Ed25519 over canonical bytes. No Django.

A start is granted by a signature over exactly what was granted; a new key of the server is endorsed by the one before
it. Keys and signatures are lower-case hexadecimal text: 64 digits of a public or private key, 128 of a signature.
"""

from functools import lru_cache
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit import canonical
from shellagent.protocol import VERSION, ServerKey, StartGrant

KEY_DIGITS: Final = 64
SIGNATURE_DIGITS: Final = 128


def new_private_key() -> str:
    """Return a new private key."""
    return Ed25519PrivateKey.generate().private_bytes_raw().hex()


class Signer:
    """Signs with one private key. Raises ValueError for a text that is none."""

    def __init__(self, private_key: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private_key))
        self.public_key = self._key.public_key().public_bytes_raw().hex()

    def granted(self, session_id: str, *, host_id: str, start_key: str, digest: str, deadline_seconds: int) -> str:
        """Return the signature that grants a start."""
        return self._key.sign(_start(session_id, host_id, start_key, digest, deadline_seconds)).hex()

    def endorse(self, key: str, until: int) -> ServerKey:
        """Return the word of this key that `key` follows it, and that its own grants count until then (Unix time)."""
        signature = self._key.sign(_succession(key, self.public_key, until)).hex()
        return ServerKey(key, endorsed_by=self.public_key, until=until, endorsement=signature)


def is_granted(grant: StartGrant, *, host_id: str, start_key: str, digest: str) -> bool:
    """Return whether the key that a grant names signed this start of this host. Whose key that is, is not judged."""
    message = _start(grant.id, host_id, start_key, digest, grant.deadline_seconds)
    return _is_signed(grant.key, grant.signature, message)


def is_endorsed(offered: ServerKey) -> bool:
    """Return whether the key that a new key names as the one before it signed for it."""
    return _is_signed(
        offered.endorsed_by, offered.endorsement, _succession(offered.key, offered.endorsed_by, offered.until)
    )


def is_key(text: str) -> bool:
    """Return whether a text has the form of a public key."""
    return len(text) == KEY_DIGITS and _bytes(text) is not None


def _start(session_id: str, host_id: str, start_key: str, digest: str, deadline_seconds: int) -> bytes:
    return _message(
        "start",
        session=session_id,
        host=host_id,
        start_key=start_key,
        digest=digest,
        deadline_seconds=deadline_seconds,
    )


def _succession(key: str, previous: str, until: int) -> bytes:
    return _message("server-key", key=key, previous=previous, until=until)


def _message(what: str, **content: Any) -> bytes:
    """Return canonical bytes; `what` keeps a signature of one kind from counting as one of another."""
    return canonical.dumps({"what": what, "v": VERSION, **content}).encode()


def _is_signed(key: str, signature: str, message: bytes) -> bool:
    public, signed = _bytes(key), _bytes(signature)
    if public is None or signed is None:
        return False
    try:
        _public(public).verify(signed, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=16)
def _public(key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(key)


def _bytes(text: str) -> bytes | None:
    if not text.isascii() or text != text.lower() or not text.isalnum():
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
