"""The server's own signing keys: one owner-only file outside the database, which every server process reads.

The newest key signs. Those before it stay in the file: hosts that have not heard of the newest learn it by their word,
and what was warranted with them stays warranted.
"""

import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from django.conf import settings

from audit.key_files import KeyFileError, Watched, damaged, key_file_read, key_file_write
from shellagent.errors import SigningKeyError
from shellagent.protocol import ServerKey
from shellagent.signing import Signer, new_private_key

FILE: Final = "starts.json"
#: A host that was away for as many rotations learns the newest key all the same.
MOST_KEYS: Final = 8
#: For how long a key's grants count after the next one took its place.
OVERLAP_SECONDS: Final = 24 * 60 * 60
#: A warrant is good for so long after its session was made, whatever the database says of that session.
WARRANT_SECONDS: Final = 60 * 60


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The keys of a file, oldest first."""

    signers: tuple[Signer, ...]
    #: What hosts are told of them, in the same order.
    public: tuple[ServerKey, ...]
    _secrets: tuple[bytes, ...] = field(repr=False)

    @property
    def signer(self) -> Signer:
        """Return the one that signs."""
        return self.signers[-1]

    def warrant(self, session_id: UUID, *, agent_id: int, host_id: int, digest: str) -> str:
        """Return the word of this server that this session may run with this digest: who can only write the database
        cannot give it.
        """
        return _warrant(self._secrets[-1], session_id, agent_id, host_id, digest)

    def is_warranted(self, warrant: str, session_id: UUID, *, agent_id: int, host_id: int, digest: str) -> bool:
        """Return whether a warrant is one, and the session it was given to is not of long ago."""
        made = (session_id.int >> 80) / 1000  # a UUID of version 7 begins with its time in milliseconds
        # A clock that was set back makes a session of the future, which is as good as one of now.
        if time.time() - made >= WARRANT_SECONDS:
            return False
        expected = (_warrant(secret, session_id, agent_id, host_id, digest) for secret in reversed(self._secrets))
        return any(hmac.compare_digest(one, warrant) for one in expected)


def _warrant(secret: bytes, session_id: UUID, agent_id: int, host_id: int, digest: str) -> str:
    message = f"warrant-1\n{session_id}\n{agent_id}\n{host_id}\n{digest}".encode()
    return hmac.digest(secret, message, "sha256").hex()


def signing_keys() -> SigningKeys:
    """Return this server's keys, read again within a second where the file was replaced.

    Raises SigningKeyError: nothing is granted.
    """
    try:
        return _watched.get(f"{settings.ATOM_KEYS}/{FILE}")
    except KeyFileError as error:
        raise SigningKeyError(str(error)) from error


def read(path: Path) -> SigningKeys:
    """Return the keys of a file. Raises SigningKeyError where it is missing, damaged, or others may read it."""
    try:
        stored = key_file_read(path)["keys"]
        signers = tuple(Signer(item["private"]) for item in stored)
        public = tuple(
            ServerKey(signer.public_key, item["endorsed_by"], int(item["until"]), item["endorsement"])
            for signer, item in zip(signers, stored, strict=True)
        )
        secrets = tuple(hashlib.sha256(b"warrants" + bytes.fromhex(item["private"])).digest() for item in stored)
    except KeyFileError as error:
        raise SigningKeyError(str(error)) from error
    except (ValueError, LookupError, TypeError) as error:
        raise SigningKeyError(str(damaged(path))) from error
    if not signers:
        raise SigningKeyError(f"{path} holds no key. Remove it and run `manage.py init`.")
    return SigningKeys(signers, public, secrets)


_watched = Watched(read)
look_again = _watched.look_again


def create(folder: Path) -> bool:
    """Make the first key where there is no file. Returns whether it was made. Raises OSError, SigningKeyError."""
    path = folder / FILE
    if path.exists():
        read(path)
        return False
    key_file_write(path, {"keys": [_item(new_private_key(), ServerKey(""))]})
    return True


def rotate(folder: Path, *, overlap_seconds: int = OVERLAP_SECONDS, is_endorsed: bool = True) -> str:
    """Put a new key in place and return its public part. Raises OSError, SigningKeyError.

    The key before it endorses it, and its own grants count for `overlap_seconds` more. Without the endorsement, for a
    key that leaked, every host has to be enrolled again.
    """
    path = folder / FILE
    known = read(path)
    stored = json.loads(path.read_text())["keys"]
    private = new_private_key()
    key = Signer(private).public_key
    if is_endorsed:
        word = known.signer.endorse(key, int(time.time()) + overlap_seconds)
        items = [*stored, _item(private, word)][-MOST_KEYS:]
    else:
        items = [_item(private, ServerKey(key))]
    key_file_write(path, {"keys": items})
    return key


def _item(private: str, word: ServerKey) -> dict[str, object]:
    return {
        "private": private,
        "endorsed_by": word.endorsed_by,
        "until": word.until,
        "endorsement": word.endorsement,
    }
