"""ATOM_HOME: the one owner-only folder that holds the database, the keys and the demonstration's credentials."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, slots=True)
class Home:
    """The folder and the files in it. Creating it is the `init` command's work; reading needs nothing to exist."""

    path: Path

    @classmethod
    def from_environment(cls, base: Path) -> "Home":
        """Return the folder that ATOM_HOME names, by default `var` beside `manage.py`."""
        return cls(Path(os.environ.get("ATOM_HOME") or base / "var").expanduser().absolute())

    @property
    def database(self) -> Path:
        return self.path / "db.sqlite3"

    @property
    def credentials(self) -> Path:
        return self.path / "credentials.json"

    @property
    def host_state(self) -> Path:
        """The state folder of the local agent that `init` enrols on this machine."""
        return self.path / "host"

    @property
    def lock(self) -> Path:
        """Held by the one `up` that runs from this folder; its content is that process's id."""
        return self.path / "up.lock"

    @property
    def tour_marker(self) -> Path:
        """There once the tour of the first start has been shown."""
        return self.path / "tour-shown"

    def create(self) -> None:
        """Make the folder, readable by its owner only. Raises OSError where that cannot be done."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Wait until no other process sets this folder up, and keep others waiting meanwhile. Raises OSError."""
        descriptor = os.open(self.path / "init.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def create_database(self) -> None:
        """Make the database's file, empty and owner-only, so that SQLite gives its other files the same mode."""
        os.close(os.open(self.database, os.O_CREAT | os.O_RDWR, 0o600))
        self.database.chmod(0o600)

    def secret_key(self) -> str:
        """Return the key that signs Django's cookies, made on first use with owner-only mode.

        Raises ImproperlyConfigured where the folder cannot be used.
        """
        return self._secret("secret_key")

    def write_secret(self, file: Path, content: str) -> None:
        """Write a file in the folder, owner-only, so that it is there whole or as it was. Raises OSError."""
        partial = file.with_name(f".{file.name}.partial")
        descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            os.fchmod(descriptor, 0o600)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        partial.replace(file)

    def _secret(self, name: str) -> str:
        file = self.path / name
        try:
            if not file.exists():
                self.create()
                # Linked into place whole: of two processes that start together both then read the same value.
                partial = file.with_name(f".{name}.{os.getpid()}.partial")
                self.write_secret(partial, secrets.token_urlsafe(48))
                with suppress(FileExistsError):
                    os.link(partial, file)
                partial.unlink()
            return file.read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"ATOM_HOME ({self.path}) cannot be used: {error.strerror}.") from error
