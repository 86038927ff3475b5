"""What the server signs and the host checks: Ed25519 over canonical bytes. No Django.

A start is granted by a signature over exactly what was granted, one for all that are granted together; a new key of
the server is endorsed by the one before it. Keys and signatures are lower-case hexadecimal text: 64 digits of a public
or private key, 128 of a signature.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit import canonical
from shellagent.protocol import VERSION, ServerKey, StartGrant


class Start(NamedTuple):
    """What is granted: this session, under this start key of the host's, with this digest, for so long."""

    session_id: str
    start_key: str
    digest: str
    deadline_seconds: int


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

    def granted(self, *starts: Start, host_id: str) -> str:
        """Return the signature that grants these starts of a host together, in this order."""
        return self._key.sign(_starts(starts, host_id)).hex()

    def endorse(self, key: str, until: int) -> ServerKey:
        """Return the word of this key that `key` follows it, and that its own grants count until then (Unix time)."""
        signature = self._key.sign(_succession(key, self.public_key, until)).hex()
        return ServerKey(key, endorsed_by=self.public_key, until=until, endorsement=signature)


class Granted:
    """The grants of one answer, each with the start key and the digest of what the host would run.

    One signature is over all grants that carry it, in their order, and is checked once: where one of them is not what
    was signed, none of them is signed.
    """

    def __init__(self, host_id: str, grants: Iterable[tuple[StartGrant, str, str]]) -> None:
        self._host_id = host_id
        self._starts: dict[tuple[str, str], list[Start]] = {}
        for grant, start_key, digest in grants:
            start = Start(grant.id, start_key, digest, grant.deadline_seconds)
            self._starts.setdefault((grant.key, grant.signature), []).append(start)
        self._known: dict[tuple[str, str], bool] = {}

    def is_signed(self, grant: StartGrant, *, start_key: str, digest: str) -> bool:
        """Return whether the key that a grant names signed it for exactly this. Whose key that is, is not judged."""
        by = grant.key, grant.signature
        if Start(grant.id, start_key, digest, grant.deadline_seconds) not in self._starts.get(by, ()):
            return False
        if by not in self._known:
            self._known[by] = _is_signed(*by, _starts(self._starts[by], self._host_id))
        return self._known[by]


def is_endorsed(offered: ServerKey) -> bool:
    """Return whether the key that a new key names as the one before it signed for it."""
    return _is_signed(
        offered.endorsed_by, offered.endorsement, _succession(offered.key, offered.endorsed_by, offered.until)
    )


def is_key(text: str) -> bool:
    """Return whether a text has the form of a public key."""
    return len(text) == KEY_DIGITS and _bytes(text) is not None


def _starts(starts: Sequence[Start], host_id: str) -> bytes:
    told = [
        {
            "session": start.session_id,
            "start_key": start.start_key,
            "digest": start.digest,
            "deadline_seconds": start.deadline_seconds,
        }
        for start in starts
    ]
    return _message("starts", host=host_id, starts=told)


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
