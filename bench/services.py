"""The databases of a run: a private Redis, and databases of our own on a PostgreSQL server that is already there."""

import os
import shutil
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from bench.workspace import PeerFailed, Workspace, free_port, is_listening


class Redis:
    """A redis-server on a loopback port that keeps nothing on disk."""

    def __init__(self) -> None:
        self.port = 0

    @staticmethod
    def missing() -> str | None:
        return None if shutil.which("redis-server") else "redis-server is not installed"

    def start(self, workspace: Workspace) -> str:
        """Start it once and return its address. Raises PeerFailed."""
        if not self.port:
            port = free_port()
            argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
            server = workspace.spawn(argv, name="redis", cwd=workspace.folder("redis"))
            server.wait_for(lambda: is_listening(port), seconds=10)
            self.port = port
        return f"redis://127.0.0.1:{self.port}/0"


class Postgres:
    """A PostgreSQL server on which databases may be created; each is dropped with the workspace."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._reason: str | None = None
        self._is_known = False

    def missing(self) -> str | None:
        """Return why it cannot be used. Asks the server once."""
        if not self._is_known:
            self._is_known = True
            try:
                psycopg.connect(self.url, connect_timeout=3).close()
            except psycopg.Error as error:
                self._reason = f"no PostgreSQL server ({str(error).splitlines()[0]})"
        return self._reason

    def create(self, workspace: Workspace, name: str) -> str:
        """Create an empty database and return its URL. Raises PeerFailed where that is not allowed."""
        database = f"atom_bench_{name}_{os.getpid()}"
        self._execute("CREATE DATABASE {}", database)
        workspace.callback(self._execute, "DROP DATABASE IF EXISTS {} WITH (FORCE)", database)
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{database}"))

    def version(self) -> str:
        """Return the server's own version."""
        with psycopg.connect(self.url) as connection:
            major, minor = divmod(connection.info.server_version, 10_000)
        return f"{major}.{minor}"

    def _execute(self, statement: str, database: str) -> None:
        try:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(sql.SQL(statement).format(sql.Identifier(database)))
        except psycopg.Error as error:
            raise PeerFailed(f"PostgreSQL: {error}") from error
