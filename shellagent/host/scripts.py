"""What files of code hold: told before a person decides, and looked at again before they are run."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from typing import Final

from governance.policy.paths import load_protection
from governance.policy.types import Access, Facts
from shellagent.host.errors import RefusedError
from shellagent.host.reach import shown
from shellagent.protocol import ABSENT, Look, Looked, Reason, ScriptDigest

#: A larger file is not looked at.
MOST_BYTES: Final = 16 * 1024 * 1024


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file, `absent` where there is none, or an empty text for what cannot be looked at."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        return ABSENT if error.errno in (errno.ENOENT, errno.ENOTDIR) else ""
    except ValueError:
        return ""
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size > MOST_BYTES:
            return ""
        with open(descriptor, "rb", closefd=False) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def look(wishes: Iterable[Look], facts: Facts) -> tuple[Looked, ...]:
    """Return what is to be known of scripts. Of what no command may read, nothing is told."""
    protection = load_protection()

    def found(path: str) -> str:
        real = os.path.realpath(path)
        is_protected = any(protection.reason(name, Access.READ, facts) for name in (path, real))
        return "" if is_protected or not path.startswith("/") else digest_of(path)

    return tuple(
        Looked(
            wish.id,
            tuple(ScriptDigest(path, digest) for path in wish.paths if "\0" not in path and (digest := found(path))),
        )
        for wish in wishes
    )


def check(scripts: Iterable[ScriptDigest]) -> None:
    """Raise RefusedError where a script no longer holds what it held when a person decided."""
    for script in scripts:
        now = digest_of(script.path)
        if now == script.sha256:
            continue
        if script.sha256 == ABSENT:
            what = "is there now, and was not"
        elif now == ABSENT:
            what = "is no longer there, as it was"
        else:
            what = "is another one than it was" if now else "cannot be looked at any more, as it was"
        raise RefusedError(Reason.SCRIPT_CHANGED, f"{shown(script.path)} {what} when a person decided.")
