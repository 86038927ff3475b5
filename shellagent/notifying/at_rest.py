"""Addresses and signing secrets, encrypted by a key outside the database: a copy of the database gives none away.

The key is `secrets.json` in ATOM_KEYS, owner-only, the same for every server process.
"""

import os
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from django.conf import settings

from audit.key_files import KeyFileError, Watched, damaged, key_file_read, key_file_write

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

FILE: Final = "secrets.json"


class UnreadableSecretError(KeyFileError):
    """A secret was encrypted with a key that is not here. Enter it again, or put the key's file back."""


def create(folder: Path) -> bool:
    """Make the key where there is no file. Returns whether it was made. Raises OSError, KeyFileError."""
    path = folder / FILE
    if path.exists():
        _read(path)
        return False
    key_file_write(path, {"keys": [urlsafe_b64encode(os.urandom(32)).decode()]})
    return True


def sealed(text: str) -> str:
    """Return a text encrypted. Raises KeyFileError where this server has no key for it."""
    return _cipher().encrypt(text.encode()).decode()


def opened(text: str) -> str:
    """Return what `sealed` was given. Raises KeyFileError."""
    from cryptography.fernet import InvalidToken  # noqa: PLC0415

    try:
        return _cipher().decrypt(text.encode()).decode()
    except InvalidToken:
        raise UnreadableSecretError(UnreadableSecretError.__doc__) from None


def signing_secret() -> str:
    """Return a new secret in the form of Standard Webhooks: `whsec_` and 32 random bytes in base64."""
    return f"whsec_{b64encode(os.urandom(32)).decode()}"


def _cipher() -> "MultiFernet":
    return _watched.get(f"{settings.ATOM_KEYS}/{FILE}")


def _read(path: Path) -> "MultiFernet":
    # 8 MiB of a web process, and most never encrypt anything.
    from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415

    try:
        keys: Sequence[str] = key_file_read(path)["keys"]
        return MultiFernet([Fernet(key) for key in reversed(keys)])
    except (ValueError, LookupError, TypeError) as error:
        raise damaged(path) from error


_watched = Watched(_read)
