"""Databases of a test's own, for tests that race across processes, commit for real, or meet the audit triggers."""

import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db import connection, connections


@dataclass(frozen=True, slots=True)
class OwnDatabase:
    """A migrated, empty database that nobody else uses. `url` is a DATABASE_URL; `path` is its file on SQLite."""

    url: str
    path: Path | None = None

    def environment(self, home: Path) -> dict[str, str]:
        """Return the environment of a process of the product on this database, with `home` as its ATOM_HOME.

        It gets a copy of this process's keys: what one signs or lets run, the other knows.
        """
        if not (home / "keys").exists():
            shutil.copytree(settings.ATOM_KEYS, home / "keys")
        own = {
            "DATABASE_URL": self.url,
            "ATOM_HOME": str(home),
            "SECRET_KEY": settings.SECRET_KEY,
            "DJANGO_SETTINGS_MODULE": "atomsite.settings",
        }
        return {**os.environ, **own}


@contextmanager
def cloned(folder: Path) -> Iterator[OwnDatabase]:
    """Clone the (empty) test database, and let this process's default connection be to the clone for the duration.

    Threads started inside get the clone too; they close their own connections.
    """
    if connection.in_atomic_block:
        raise RuntimeError("a test with a database of its own cannot use the `db` fixture or the django_db mark too")
    original = str(connection.settings_dict["NAME"])
    if not original.startswith(("test_", "file:memorydb_")):
        raise RuntimeError(f"{original} is not a test database")
    make = _sqlite_clone if connection.vendor == "sqlite" else _postgresql_clone
    with make(original, folder) as own:
        name = str(own.path) if own.path else own.url.rsplit("/", 1)[-1]
        # Put aside, not closed: a database in memory is gone with its last connection.
        kept, connection.connection = connection.connection, None
        connection.settings_dict["NAME"] = name
        try:
            yield own
        finally:
            connections.close_all()
            connection.settings_dict["NAME"] = original
            connection.connection = kept


@contextmanager
def _sqlite_clone(original: str, folder: Path) -> Iterator[OwnDatabase]:
    path = folder / f"own-{secrets.token_hex(4)}.sqlite3"
    connection.ensure_connection()
    copy = sqlite3.connect(path)
    try:
        source: Any = connection.connection
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=WAL")
    finally:
        copy.close()
    yield OwnDatabase(f"sqlite:///{path}", path)


@contextmanager
def _postgresql_clone(original: str, folder: Path) -> Iterator[OwnDatabase]:
    name = f"{original}_own_{secrets.token_hex(4)}"
    # CREATE DATABASE copies only a template that nobody is connected to.
    connections.close_all()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{original}"')
    try:
        yield OwnDatabase(postgresql_url(connection.settings_dict, name))
    finally:
        drop_postgresql(name)


def drop_postgresql(name: str) -> None:
    """Drop a database, whoever is still connected to it."""
    connections.close_all()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def postgresql_url(server: Mapping[str, Any], name: str) -> str:
    """Return the URL of a database on the server of these Django settings."""
    user = quote(str(server["USER"]), safe="")
    password = f":{quote(str(server['PASSWORD']), safe='')}" if server["PASSWORD"] else ""
    port = f":{server['PORT']}" if server["PORT"] else ""
    return f"postgresql://{user}{password}@{server['HOST']}{port}/{name}"
