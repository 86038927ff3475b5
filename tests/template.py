"""The migrated database that every test database begins as a copy of.

Migrating takes seconds, and copying next to none. A run that finds no template migrates, and leaves one: on SQLite a
file below `XDG_CACHE_HOME`, on PostgreSQL a database beside the test database. It carries the digest of all that
migrations can read, so that a change of the product makes a new one.
"""

import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.test.utils import setup_databases

SOURCES = ("atomsite", "audit", "governance", "shellagent")


def make_test_database() -> list[Any]:
    """Make the test database of this process. Returns what `teardown_databases` asks for."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "atom-local-agent-tests"
    folder.mkdir(parents=True, exist_ok=True)
    begun = _as_copy_of_file(folder) if connection.vendor == "sqlite" else _as_copy_of_database()
    # The processes of a run begin together: the first makes the template, and the others wait for it.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with begun:
            # In a copy there is nothing to migrate.
            return setup_databases(verbosity=0, interactive=False, aliases={"default": None}, serialized_aliases=[])


def _digest() -> str:
    root = Path(settings.BASE_DIR)
    found = hashlib.sha256((root / "requirements.txt").read_bytes())
    for path in sorted(path for source in SOURCES for path in (root / source).rglob("*.py")):
        found.update(f"\0{path.relative_to(root)}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:32]


@contextmanager
def _as_copy_of_file(folder: Path) -> Iterator[None]:
    template = folder / f"{_digest()}.sqlite3"
    if template.exists():
        creation: Any = connection.creation
        # It is in memory, and there as long as somebody is connected to it.
        memory = sqlite3.connect(creation._get_test_db_name(), uri=True)
        with closing(memory), closing(sqlite3.connect(template)) as source:
            source.backup(memory)
            yield
        return
    yield
    for old in folder.glob("*.sqlite3"):
        if old.stat().st_mtime < time.time() - 86_400:
            old.unlink()
    unfinished = template.with_suffix(".new")
    with closing(sqlite3.connect(unfinished)) as copy:
        made: Any = connection.connection
        made.backup(copy)
    unfinished.rename(template)


@contextmanager
def _as_copy_of_database() -> Iterator[None]:
    template, digest = f"test_{connection.settings_dict['NAME']}_template", _digest()
    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [template])
        is_there = cursor.fetchone() == (digest,)
    if is_there:
        connection.settings_dict["TEST"]["TEMPLATE"] = template
        yield
        return
    yield
    made = connection.settings_dict["NAME"]
    # CREATE DATABASE copies only what nobody is connected to.
    connection.close()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{template}"')
        cursor.execute(f'CREATE DATABASE "{template}" TEMPLATE "{made}"')
        cursor.execute(f"COMMENT ON DATABASE \"{template}\" IS '{digest}'")
