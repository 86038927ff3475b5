"""The host's own ceiling: a small TOML file on the host that says what may run there at most.

Whatever the server decides, it is refused here where the file says less. Only its owner may be able to change it, and
it is read once, at the start. Without a file the host adds nothing to what the server decided, and gives no secret.
"""

import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from governance.policy.types import Access, Category
from shellagent.client.credentials import read_secret
from shellagent.host.environment import NAME, is_within
from shellagent.host.errors import RefusedError, StateError
from shellagent.host.journal import SPOOL_BYTES
from shellagent.host.limits import MEBIBYTE, Limits
from shellagent.masking import SHORTEST_KNOWN
from shellagent.protocol import PathGrant, Reason

MOST_SECONDS: Final = 300
LARGEST: Final = 10**9
#: For each size in [limits] what it sets, in which unit, and the least with which a command still starts.
_LIMITS: Final = {
    "memory_mib": ("memory_bytes", MEBIBYTE, 16),
    "processes": ("processes", 1, 1),
    "file_mib": ("file_bytes", MEBIBYTE, 1),
    "cpu_seconds": ("cpu_seconds", 1, 1),
    "open_files": ("open_files", 1, 32),
}
#: Names that the host gives every command; no secret may stand in their place.
_OWN_NAMES: Final = frozenset({"PATH", "LANG", "HOME", "TMPDIR", "USER", "LOGNAME"})
_ORDER: Final = tuple(sorted((one for one in Category if one is not Category.BLOCKED), key=lambda one: one.severity))


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret's value is: a variable of the host's environment, or an owner-only file of one line."""

    environment: str = ""
    file: str = ""

    def value(self, name: str) -> str:
        """Return the value. Raises RefusedError, which says what is missing and never a value."""
        if self.environment:
            value = os.environ.get(self.environment, "")
            missing = f"the local agent's environment has no {self.environment}"
        else:
            try:
                value = read_secret(Path(self.file), missing=f"{self.file} does not exist")
            except StateError as error:
                raise RefusedError(Reason.HOST_CEILING, f"The secret {name} cannot be read: {error}") from error
            missing = f"{self.file} is empty"
        if not value or "\0" in value:
            raise RefusedError(Reason.HOST_CEILING, f"The secret {name} cannot be given: {missing}.")
        if len(value.encode(errors="surrogateescape")) < SHORTEST_KNOWN:
            raise RefusedError(Reason.HOST_CEILING, f"The secret {name} is too short to be masked in output.")
        return value


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What the file says. None stands for no limit, and roots of none for whatever the server grants."""

    path: str = ""
    roots: tuple[PathGrant, ...] | None = None
    blocked_programs: tuple[str, ...] = ()
    highest_category: Category | None = None
    network: bool = True
    longest_timeout_seconds: int | None = None
    #: Names that a session may set, or their beginnings with a star; None: all that no other rule refuses.
    environment: tuple[str, ...] | None = None
    secrets: Mapping[str, SecretSource] = field(default_factory=dict)
    #: What one session may take of the machine.
    limits: Limits = field(default_factory=Limits)
    #: What results that wait for the server may take of the disk before nothing more is claimed.
    spool_mib: int = SPOOL_BYTES // MEBIBYTE

    @property
    def judges_plans(self) -> bool:
        """Return whether a plan has to be read to know whether it may run."""
        return bool(self.blocked_programs or self.highest_category is not None or self.roots is not None)

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files that no command may reach: this one and those that hold secrets."""
        own = (self.path,) if self.path else ()
        return (*own, *(source.file for source in self.secrets.values() if source.file))

    def may_set(self, name: str) -> bool:
        """Return whether a session may set an environment name."""
        return self.environment is None or any(fnmatchcase(name, pattern) for pattern in self.environment)

    def values_of(self, names: tuple[str, ...]) -> dict[str, str]:
        """Return the values of secrets. Raises RefusedError for a name that is not listed, or has no value."""
        unknown = [name for name in names if name not in self.secrets]
        if unknown:
            listed = "it lists no such name" if self.path else "this host has no ceiling file, which would list them"
            raise RefusedError(
                Reason.HOST_CEILING, f"This host gives no secret called {', '.join(map(repr, unknown))}: {listed}."
            )
        return {name: self.secrets[name].value(name) for name in names}

    def shown(self) -> dict[str, Any]:
        """Return what people may see of it: of secrets only the names and where they come from."""
        limits: dict[str, Any] = {
            "roots": None if self.roots is None else [f"{root.path} ({root.access})" for root in self.roots],
            "blocked_programs": list(self.blocked_programs) or None,
            "highest_category": str(self.highest_category) if self.highest_category else None,
            "network": None if self.network else False,
            "longest_timeout_seconds": self.longest_timeout_seconds,
            "environment": None if self.environment is None else list(self.environment),
            "secrets": {
                name: f"environment {source.environment}" if source.environment else f"file {source.file}"
                for name, source in self.secrets.items()
            }
            or None,
            "limits": self._own_limits() or None,
        }
        return {"file": self.path, **{name: value for name, value in limits.items() if value is not None}}

    def shown_limits(self) -> dict[str, int]:
        """Return the sizes that hold here, whether the file says them or not."""
        return {**self.limits.shown(), "spool_mib": self.spool_mib}

    def _own_limits(self) -> dict[str, int]:
        usual = NO_CEILING.shown_limits()
        return {name: value for name, value in self.shown_limits().items() if value != usual[name]}


NO_CEILING: Final = Ceiling()


def narrowed(grants: tuple[PathGrant, ...], roots: tuple[PathGrant, ...]) -> tuple[PathGrant, ...]:
    """Return the grants as far as the roots go, by real paths: never more than either of the two opens."""
    kept: dict[tuple[str, str], None] = {}
    for grant in grants:
        granted = os.path.realpath(grant.path)
        for root in roots:
            opened = os.path.realpath(root.path)
            inner = granted if is_within(granted, opened) else opened if is_within(opened, granted) else ""
            if inner:
                is_write = grant.access == root.access == Access.WRITE
                kept[inner, str(Access.WRITE if is_write else Access.READ)] = None
    return tuple(PathGrant(path, access) for path, access in kept)


def load(path: Path, *, must_exist: bool = False) -> Ceiling:
    """Read the file. Raises StateError where it has an unknown key or a wrong value, or others can change it."""
    try:
        with path.open("rb") as stream:
            _check_owner(path, os.fstat(stream.fileno()))
            content = tomllib.load(stream)
    except FileNotFoundError:
        if must_exist:
            raise StateError(f"The ceiling {path} does not exist.") from None
        return NO_CEILING
    except OSError as error:
        raise StateError(f"The ceiling {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StateError(f"The ceiling {path} is not TOML: {error}.") from error
    return _Reader(path, content).ceiling()


def _check_owner(path: Path, info: os.stat_result) -> None:
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateError(f"The ceiling {path} can be changed by others. Run `chmod go-w {path}`.")
    folder = os.stat(path.parent)
    if folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not folder.st_mode & stat.S_ISVTX:
        raise StateError(f"Others can put another file in place of the ceiling {path}. Run `chmod go-w {path.parent}`.")
    if {info.st_uid, folder.st_uid} - {os.geteuid(), 0}:
        raise StateError(f"The ceiling {path} or its folder belongs to another user. Make it yours or root's.")


class _Reader:
    """The content of a file, checked key by key."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path = path
        self.content = content
        self.keys: dict[str, Callable[[str, Any], object]] = {
            "roots": self._roots,
            "blocked_programs": self._texts,
            "highest_category": self._category,
            "network": self._flag,
            "longest_timeout_seconds": self._seconds,
            "environment": self._names,
            "secrets": self._secrets,
            "limits": self._limits,
            "spool_mib": self._number,
        }

    def ceiling(self) -> Ceiling:
        """Return what it says. Raises StateError."""
        self._only(self.content, self.keys, "")
        values: dict[str, Any] = {name: self.keys[name](name, value) for name, value in self.content.items()}
        return Ceiling(path=str(self.path.absolute()), **values)

    def _wrong(self, what: str) -> StateError:
        return StateError(f"The ceiling {self.path}: {what}.")

    def _only(self, table: Mapping[str, Any], known: Mapping[str, Any] | tuple[str, ...], where: str) -> None:
        if unknown := [name for name in table if name not in known]:
            raise self._wrong(f"{where}{unknown[0]!r} is no key of it. There are: {', '.join(known)}")

    def _texts(self, name: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._wrong(f"{name!r} is a list of texts")
        return tuple(value)

    def _flag(self, name: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise self._wrong(f"{name!r} is true or false")
        return value

    def _seconds(self, name: str, value: object) -> int:
        if type(value) is not int or not 1 <= value <= MOST_SECONDS:
            raise self._wrong(f"{name!r} is a whole number from 1 to {MOST_SECONDS}")
        return value

    def _number(self, name: str, value: object, least: int = 1) -> int:
        if type(value) is not int or not least <= value <= LARGEST:
            raise self._wrong(f"{name!r} is a whole number from {least} to {LARGEST}")
        return value

    def _limits(self, name: str, value: object) -> Limits:
        if not isinstance(value, dict):
            raise self._wrong(f"{name!r} is a table: [{name}]")
        self._only(value, _LIMITS, f"in [{name}], ")
        sizes = {}
        for one, number in value.items():
            field_name, factor, least = _LIMITS[one]
            sizes[field_name] = self._number(one, number, least) * factor
        return Limits(**sizes)

    def _category(self, name: str, value: object) -> Category:
        if value not in _ORDER:
            raise self._wrong(f"{name!r} is one of {', '.join(_ORDER)}")
        return Category(str(value))

    def _names(self, name: str, value: object) -> tuple[str, ...]:
        names = self._texts(name, value)
        for one in names:
            if not NAME.match(one.removesuffix("*")):
                raise self._wrong(f"{one!r} in {name!r} is no name, nor the beginning of one with a star")
        return names

    def _roots(self, name: str, value: object) -> tuple[PathGrant, ...]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(f"{name!r} is a list of tables: [[{name}]]")
        return tuple(self._root(item) for item in value)

    def _root(self, item: Mapping[str, Any]) -> PathGrant:
        self._only(item, ("path", "access"), "in `roots`, ")
        path, access = item.get("path"), item.get("access")
        expanded = os.path.expanduser(path) if isinstance(path, str) else ""
        if not expanded.startswith("/"):
            raise self._wrong(f"the path of a root is absolute or begins with ~, not {path!r}")
        if access not in tuple(Access):
            raise self._wrong(f"the access of a root is {' or '.join(Access)}, not {access!r}")
        return PathGrant(os.path.normpath(expanded), str(access))

    def _secrets(self, name: str, value: object) -> dict[str, SecretSource]:
        if not isinstance(value, dict):
            raise self._wrong(f"{name!r} is a table: [{name}]")
        return {secret: self._secret(secret, source) for secret, source in value.items()}

    def _secret(self, name: str, source: object) -> SecretSource:
        if not NAME.match(name) or name in _OWN_NAMES or name.startswith("ATOM_"):
            raise self._wrong(f"{name!r} cannot be the name of a secret: it becomes a variable of the command")
        if not isinstance(source, dict):
            raise self._wrong(f'the secret {name} says where it is: {{ environment = "…" }} or {{ file = "…" }}')
        self._only(source, ("environment", "file"), f"in the secret {name}, ")
        where = [item for item in source.values() if isinstance(item, str) and item]
        if len(where) != 1 or len(source) != 1:
            raise self._wrong(f"the secret {name} has either an `environment` or a `file`")
        file = os.path.expanduser(source.get("file", ""))
        if file and not file.startswith("/"):
            raise self._wrong(f"the file of the secret {name} is absolute or begins with ~")
        return SecretSource(environment=source.get("environment", ""), file=file)
