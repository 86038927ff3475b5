"""API keys: how they look, and the digest that is stored in place of one."""

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

#: How much of a key may be shown afterwards: its kind and four characters, to tell keys apart.
PREFIX_LENGTH = 8


class KeyKind(StrEnum):
    """The first letters of a key say whose it is."""

    AGENT = "ata_"
    HOST = "ath_"
    ENROLMENT = "ate_"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `text` is shown once and stored nowhere."""

    text: str
    prefix: str
    digest: str


def make(kind: KeyKind) -> NewKey:
    """Return a new random key of 256 bits."""
    text = kind.value + secrets.token_urlsafe(32)
    return NewKey(text, text[:PREFIX_LENGTH], digest(text))


def digest(text: str) -> str:
    """Return the SHA-256 of a key, hexadecimal. A random key of 256 bits needs no slow hash."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def kind_of(text: str) -> KeyKind | None:
    """Return the kind that a key's first letters name, or None."""
    return next((kind for kind in KeyKind if text.startswith(kind.value)), None)
