"""The command `atom` as one file that runs wherever there is Python 3.11 or newer: a zip archive with a first line.

It is the same, byte for byte, wherever it is made of the same sources by the same version of Python. Beside each source
it holds what that version compiles it to, so that a call does not compile again; other versions use the sources.
"""

import hashlib
import importlib.util
import io
import marshal
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Final

NAME: Final = "atom"
SHEBANG: Final = b"#!/usr/bin/env python3\n"
ROOT: Final = Path(__file__).resolve().parent.parent
#: All that the client imports of this product.
MODULES: Final = ("shellagent/__init__.py", "shellagent/codec.py", "shellagent/client/*.py")
#: What it shows and never imports.
TEXTS: Final = ("shellagent/client/recipes/*.*",)
MAIN: Final = """\
import sys

if sys.version_info < (3, 11):
    sys.exit("atom needs Python 3.11 or newer; this is %d.%d." % sys.version_info[:2])
from shellagent.client.cli import main

sys.exit(main())
"""
#: The first moment that a zip archive can name.
_THEN: Final = (1980, 1, 1, 0, 0, 0)
#: A header that says: of this source, and do not look whether it has changed.
_UNCHECKED: Final = (1).to_bytes(4, "little")
#: The newest form of compiled code that does not depend on what else is in memory.
_MARSHAL_VERSION: Final = 2


@cache
def client_file() -> bytes:
    """Return the file's content."""
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a") as archive:
        _add(archive, "__main__.py", MAIN.encode())
        for path in sorted(path for pattern in MODULES for path in ROOT.glob(pattern)):
            _add(archive, path.relative_to(ROOT).as_posix(), path.read_bytes())
        for path in sorted(path for pattern in TEXTS for path in ROOT.glob(pattern)):
            _write(archive, path.relative_to(ROOT).as_posix(), path.read_bytes())
    return buffer.getvalue()


def client_digest() -> str:
    """Return the file's SHA-256, hexadecimal."""
    return hashlib.sha256(client_file()).hexdigest()


def main(path: str) -> None:
    """Write the file and print its SHA-256, as sha256sum does."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(client_file())
    partial.chmod(0o755)
    partial.rename(target)
    sys.stdout.write(f"{client_digest()}  {path}\n")


def _add(archive: zipfile.ZipFile, name: str, source: bytes) -> None:
    code = marshal.dumps(compile(source, name, "exec", dont_inherit=True, optimize=0), _MARSHAL_VERSION)
    compiled = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source) + code
    _write(archive, name, source)
    _write(archive, f"{name}c", compiled)


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    information = zipfile.ZipInfo(name, _THEN)
    information.external_attr = 0o644 << 16
    archive.writestr(information, content)


if __name__ == "__main__":
    main(*sys.argv[1:])
