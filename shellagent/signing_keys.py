"""The server's own signing keys: one owner-only file outside the database, which every server process reads.

The newest key signs. Those before it stay in the file: hosts that have not heard of the newest learn it by their word,
and what was warranted with them stays warranted.
"""

import hashlib
import hmac
import json
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Final
from uuid import UUID

from django.conf import settings

from shellagent.errors import SigningKeyError
from shellagent.protocol import ServerKey
from shellagent.signing import Signer, new_private_key

FILE: Final = "starts.json"
#: A host that was away for as many rotations learns the newest key all the same.
MOST_KEYS: Final = 8
#: For how long a key's grants count after the next one took its place.
OVERLAP_SECONDS: Final = 24 * 60 * 60
#: The file is looked at again after so long: asking the system costs more than all that is done with a key.
RECHECK_SECONDS: Final = 1.0
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


class _Cache:
    """The keys as last read, and what the file was like then."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.seen: tuple[object, ...] = ()
        self.keys: SigningKeys | None = None
        #: Until when the file is not looked at again, by `time.monotonic`.
        self.until = 0.0


_cache = _Cache()


def signing_keys() -> SigningKeys:
    """Return this server's keys, read again within a second where the file was replaced.

    Raises SigningKeyError: nothing is granted.
    """
    now = time.monotonic()
    if _cache.keys is not None and now < _cache.until:
        return _cache.keys
    path = Path(settings.ATOM_KEYS) / FILE
    try:
        info = os.stat(path)
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be read: {error.strerror}. Run `manage.py init`.") from error
    seen = (str(path), info.st_ino, info.st_mtime_ns, info.st_size, info.st_mode, info.st_uid)
    with _cache.lock:
        if _cache.keys is None or _cache.seen != seen:
            _cache.keys, _cache.seen = read(path), seen
        _cache.until = now + RECHECK_SECONDS
        return _cache.keys


def read(path: Path) -> SigningKeys:
    """Return the keys of a file. Raises SigningKeyError where it is missing, damaged, or others may read it."""
    try:
        with path.open() as stream:
            info = os.fstat(stream.fileno())
            if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SigningKeyError(f"{path} can be read by others. Run `chmod 600 {path}` and then rotate the key.")
            if info.st_uid not in (os.geteuid(), 0):
                raise SigningKeyError(f"{path} belongs to another user. Make it the server's own.")
            stored = json.load(stream)["keys"]
        signers = tuple(Signer(item["private"]) for item in stored)
        public = tuple(
            ServerKey(signer.public_key, item["endorsed_by"], int(item["until"]), item["endorsement"])
            for signer, item in zip(signers, stored, strict=True)
        )
        secrets = tuple(hashlib.sha256(b"warrants" + bytes.fromhex(item["private"])).digest() for item in stored)
    except OSError as error:
        raise SigningKeyError(
            f"{path} cannot be read: {error.strerror}. Run `manage.py init` on the server."
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise SigningKeyError(f"{path} is damaged. Put back a copy of it, or remove it and run `init`.") from error
    if not signers:
        raise SigningKeyError(f"{path} holds no key. Remove it and run `manage.py init`.")
    return SigningKeys(signers, public, secrets)


def create(folder: Path) -> bool:
    """Make the first key where there is no file. Returns whether it was made. Raises OSError, SigningKeyError."""
    path = folder / FILE
    if path.exists():
        read(path)
        return False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(path, [_item(new_private_key(), ServerKey(""))])
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
    _write(path, items)
    return key


def _item(private: str, word: ServerKey) -> dict[str, object]:
    return {
        "private": private,
        "endorsed_by": word.endorsed_by,
        "until": word.until,
        "endorsement": word.endorsement,
    }


def _write(path: Path, items: Sequence[dict[str, object]]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, 0o600)
        json.dump({"keys": list(items)}, stream, indent=2)
        stream.write("\n")
        stream.flush()
        os.fsync(descriptor)
    partial.replace(path)
