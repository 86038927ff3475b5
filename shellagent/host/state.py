"""The state folder: the one place where the local agent keeps its key and its journal. Owner-only."""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from shellagent.client.credentials import read_secret, take_key
from shellagent.host.errors import AlreadyRunningError, StateError

KEY_VARIABLE: Final = "ATOM_HOST_KEY"
KEY_PREFIX: Final = "ath_"
#: The folder that `manage.py` is in: the product's own files.
PRODUCT: Final = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who this host is to its server. `path` are folders searched for programs after the system's own."""

    url: str = ""
    host_id: str = ""
    name: str = ""
    path: tuple[str, ...] = ()


def atom_home() -> Path:
    """Return the folder that ATOM_HOME names, by default `var` beside `manage.py`, as the server does."""
    home = os.environ.get("ATOM_HOME")
    return Path(home).expanduser().absolute() if home else PRODUCT / "var"


def default_state_folder() -> Path:
    """Return `$ATOM_HOME/host`; without ATOM_HOME `var/host` of this checkout where it exists (`make run` makes it),
    else `$XDG_STATE_HOME/atom-local-agent`.
    """
    folder = atom_home() / "host"
    # `os.path` says False of a folder that another user keeps to themselves, where `Path` raises.
    if os.environ.get("ATOM_HOME") or os.path.isdir(folder):
        return folder
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser().absolute() / "atom-local-agent"


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/atom-local-agent`, where commands have their scratch and temporary folders."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "atom-local-agent"


@dataclass
class StateFolder:
    """The folder and what is in it. Nothing is created before `create`; `lock` holds it for one process."""

    path: Path
    _lock: int = field(default=-1, init=False, repr=False)

    @property
    def key_file(self) -> Path:
        return self.path / "key"

    @property
    def server_keys(self) -> Path:
        """The keys of the server by which this host knows its grants."""
        return self.path / "server-keys.json"

    @property
    def ceiling(self) -> Path:
        return self.path / "ceiling.toml"

    @property
    def journal(self) -> Path:
        return self.path / "journal.log"

    @property
    def log_file(self) -> Path:
        return self.path / "local-agent.log"

    @property
    def pid_file(self) -> Path:
        return self.path / "pid.json"

    @property
    def lock_descriptor(self) -> int:
        """Return what holds the lock, for processes that are to hold it too."""
        return self._lock

    def create(self) -> None:
        """Make the folder, owner-only. Raises StateError where that cannot be done."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise StateError(
                f"The state folder {self.path} cannot be made: {error.strerror}. Give --state-dir."
            ) from error

    def lock(self) -> None:
        """Hold the folder until this process ends. Raises AlreadyRunningError where another process does."""
        descriptor = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise AlreadyRunningError(f"Another local agent already holds the state folder {self.path}.") from None
        self._lock = descriptor

    def is_held(self) -> bool:
        """Return whether a process holds the folder, without changing anything. Raises OSError."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def unlock(self) -> None:
        """Let the folder go."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def enrolment(self) -> Enrolment:
        """Return what enrolment left here, empty where there was none. Raises StateError for a damaged file."""
        try:
            data = json.loads((self.path / "config.json").read_text())
        except FileNotFoundError:
            return Enrolment()
        except (OSError, ValueError) as error:
            raise StateError(f"{self.path / 'config.json'} cannot be read: {error}. Enrol this host again.") from error
        if not isinstance(data, dict):
            raise StateError(f"{self.path / 'config.json'} is damaged. Enrol this host again.")
        texts = {name: str(data.get(name, "")) for name in ("url", "host_id", "name")}
        return Enrolment(**texts, path=tuple(str(item) for item in data.get("path", ())))

    def enrol(self, enrolment: Enrolment, key: str) -> None:
        """Keep a host's key and who it belongs to."""
        self.create()
        content = {"url": enrolment.url, "host_id": enrolment.host_id, "name": enrolment.name}
        write_durably(self.key_file, key.encode() + b"\n")
        write_durably(self.path / "config.json", json.dumps(content, indent=2).encode() + b"\n")

    def key(self) -> str:
        """Return the host's key from ATOM_HOST_KEY or the key file. Raises StateError with the next step."""
        key = take_key(KEY_VARIABLE)
        if key:
            return key
        return read_secret(self.key_file, missing="This host is not enrolled: run `manage.py localagent enroll`.")

    def instance_id(self) -> str:
        """Return the id of this folder on this machine: the same after a restart, another one for a copy elsewhere.

        A copied folder would otherwise speak as the machine it was copied from; the server refuses two instances.
        """
        info = self.path.stat()
        place = f"{_machine()}:{info.st_dev}:{info.st_ino}"
        place_digest = hashlib.sha256(place.encode()).hexdigest()
        file = self.path / "instance.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(file.read_text())
            if known["place"] == place_digest:
                return str(known["id"])
        instance = str(uuid.uuid4())
        write_durably(file, json.dumps({"id": instance, "place": place_digest}).encode())
        return instance


def conceal_key(variable: str) -> None:
    """Start this program again with the key in a file that only exists in memory, if the key is in the environment.

    The kernel shows a process's first environment to others for as long as it runs, whatever the process removes.
    """
    key = os.environ.pop(variable, "")
    if not key or not hasattr(os, "memfd_create"):
        if key:
            os.environ[variable] = key
        return
    descriptor = os.memfd_create(variable)
    os.write(descriptor, key.encode())
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - the standard library's signature
    os.environ[f"{variable}_FD"] = str(descriptor)
    os.execve(sys.executable, sys.orig_argv, dict(os.environ))  # noqa: S606 - ourselves, without a shell


def write_durably(path: Path, content: bytes) -> None:
    """Write a file, owner-only, so that after a power cut it is there whole or not at all. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.rename(path)
    sync(path.parent)


def free_bytes(folder: Path) -> int:
    """Return how much may still be written in a folder. Raises OSError."""
    info = os.statvfs(folder)
    return info.f_bavail * info.f_frsize


def sync(folder: Path) -> None:
    """Make the renames in a folder durable."""
    with _opened(folder) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def boot_id() -> str:
    """Return an id of this machine's boot."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"boot-{int(psutil.boot_time())}"


def _machine() -> str:
    with contextlib.suppress(OSError):
        return Path("/etc/machine-id").read_text().strip() + socket.gethostname()
    return socket.gethostname()
