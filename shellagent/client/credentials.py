"""Where the server is and with which key it is asked: from the environment or an owner-only file, never from argv."""

import json
import os
import stat
import urllib.parse
from typing import Any, Final, NamedTuple

from shellagent.client.errors import StateError

URL_VARIABLE: Final = "ATOM_URL"
KEY_VARIABLE: Final = "ATOM_KEY"
SECRET_BYTES: Final = 4096
KEY_PREFIX: Final = "ata_"


class Access(NamedTuple):
    """A server's URL, and an agent's key for it."""

    url: str
    key: str

    def __repr__(self) -> str:
        return f"Access(url={self.url!r})"


def credentials_file() -> str:
    """Return `$XDG_CONFIG_HOME/atom/credentials.json`, by default below ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "atom", "credentials.json")


def find_access() -> Access:
    """Return the URL and the key from ATOM_URL and ATOM_KEY, else from the credentials file.

    The file's key goes to the file's server only: another one in the environment does not get it. Raises StateError
    with the next step.
    """
    url, key, file = os.environ.get(URL_VARIABLE, "").strip(), take_key(KEY_VARIABLE), credentials_file()
    kept = {} if url and key else _kept(file)
    if not key:
        key = kept.get("key", "")
        if not key:
            raise StateError(f"There is no key: set {KEY_VARIABLE} to the agent's key, or write {file}.")
        if url and url.rstrip("/") != kept.get("url", "").rstrip("/"):
            raise StateError(
                f"The key in {file} is for {kept.get('url') or 'no server'}, not for {url}. Set {KEY_VARIABLE} too, or "
                f"unset {URL_VARIABLE}."
            )
    url = url or kept.get("url", "")
    if not url:
        raise StateError(f"There is a key but no server: set {URL_VARIABLE} to its address, or write it to {file}.")
    return Access(checked_url(url), checked_key(key))


def checked_url(url: str) -> str:
    """Return a server's address without a slash at its end. Raises StateError for one that is not http or https."""
    try:
        parts = urllib.parse.urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or parts.username or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise StateError(f"{url!r} is not the address of a server: it looks like https://atom.example.com.")
    if parts.path.rstrip("/").endswith(("/api", "/api/local-agent")):
        server = url[: url.rindex("/api")]
        raise StateError(f"{url!r} is an address of the API. Give the server's: {server}")
    return url.rstrip("/")


def checked_key(key: str) -> str:
    """Return an agent's key. Raises StateError, which does not show it, for what is none."""
    if not key.startswith(KEY_PREFIX) or not (key.isascii() and key.isprintable()):
        kind = {"ath_": "a host's key", "ate_": "an enrolment code"}.get(key[:4], "no key")
        raise StateError(f"That is {kind}: an agent's key begins with {KEY_PREFIX}. A person makes it in the admin.")
    return key


def is_exposed(url: str) -> bool:
    """Return whether a key that is sent there travels for others to read: without TLS, to a public address."""
    parts = urllib.parse.urlsplit(url)
    name = parts.hostname or ""
    if parts.scheme == "https" or name in ("localhost", "127.0.0.1", "::1") or name.endswith(".localhost"):
        return False
    import ipaddress  # noqa: PLC0415 - few need it, and it takes a tenth of a short command
    import socket  # noqa: PLC0415

    try:
        found = {str(item[4][0]) for item in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        # Nothing can be sent to what has no address.
        return False
    return any(ipaddress.ip_address(address.partition("%")[0]).is_global for address in found)


def take_key(variable: str) -> str:
    """Return a key from the environment and remove it there, so that no child is started with it."""
    key = os.environ.pop(variable, "").strip()
    descriptor = os.environ.pop(f"{variable}_FD", "")
    if key or not descriptor.isdigit():
        return key
    try:
        with os.fdopen(int(descriptor)) as stream:
            stream.seek(0)
            return stream.read(4096).strip()
    except (OSError, ValueError) as error:
        raise StateError(f"{variable}_FD does not name a file that can be read: {error}") from error


def read_secret(path: str | os.PathLike[str], *, missing: str) -> str:
    """Return the one line of an owner-only file. Raises StateError where it is missing or others may read it."""
    try:
        with open(path, encoding="utf-8") as stream:
            info = os.fstat(stream.fileno())
            if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise StateError(
                    f"{path} can be read by others. Run `chmod 600 {path}`, and renew the key if it leaked."
                )
            if info.st_uid not in (os.geteuid(), 0):
                raise StateError(f"{path} belongs to another user. Make it yours, or give another file.")
            return stream.read(SECRET_BYTES).strip()
    except FileNotFoundError:
        raise StateError(missing) from None
    except (OSError, UnicodeError) as error:
        raise StateError(f"{path} cannot be read: {error}") from error


def _kept(file: str) -> dict[str, str]:
    if not os.path.exists(file):
        return {}
    try:
        data: Any = json.loads(read_secret(file, missing=""))
        return {name: value for name, value in data.items() if isinstance(value, str)}
    except (ValueError, AttributeError):
        form = '{"url": "https://atom.example.com", "key": "ata_..."}'
        raise StateError(f"{file} is damaged. It looks like this: {form}") from None
