"""Which addresses on the network are called: spelled in one way only, and public unless the operator allows private.

A name is resolved once, every address it has is checked, and the connection is made to one that was checked: a name
that leads elsewhere a moment later leads nowhere.
"""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from django.conf import settings

URL_MAX_CHARACTERS: Final = 500
#: One spelling that every reader of URLs reads alike: no user, no backslash, no fragment, nothing encoded in the host.
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
_HIDDEN: Final = re.compile(r"%(2e|2f|5c|00)", re.IGNORECASE)


class AddressError(ValueError):
    """An address is not one that may be called. The text says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a URL. `target` is what is asked for: path and query."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def target(self) -> str:
        """Return what is asked of the server."""
        return self.path + self.query

    @property
    def authority(self) -> str:
        """Return the Host header's value."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _port(self.scheme) else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """Return the address without what could be a secret: its path and query."""
        return f"{self.scheme}://{self.authority}/…"

    def begins_with(self, prefix: "Address") -> bool:
        """Return whether this is below another address: the same server, and its path by whole parts."""
        if (self.scheme, self.host, self.port) != (prefix.scheme, prefix.host, prefix.port) or prefix.query:
            return False
        base = prefix.path.rstrip("/") + "/"
        return self.path == prefix.path or self.path.startswith(base)


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def address_read(text: str) -> Address:
    """Return a URL's parts. Raises AddressError for one that could be read in two ways, or is not to be called."""
    match = _URL.fullmatch(text) if len(text) <= URL_MAX_CHARACTERS else None
    if match is None:
        raise AddressError(
            f"An address is like https://example.com/path, without a user, without #, and of {URL_MAX_CHARACTERS} "
            "characters at most."
        )
    scheme, host, path = match["scheme"], match["host"].lower().strip("[]"), match["path"] or "/"
    port = int(match["port"]) if match["port"] else _port(scheme)
    if not 0 < port < 65536:
        raise AddressError(f"There is no port {port}.")
    if _HIDDEN.search(path) or any(part in (".", "..") for part in path.split("/")):
        raise AddressError("An address has no `.` or `..` in its path, and no encoded slashes or dots.")
    if scheme == "http" and not settings.ATOM_WEBHOOK_PRIVATE_ADDRESSES:
        raise AddressError(
            "Use https. Plain http is for private addresses, where ATOM_WEBHOOK_PRIVATE_ADDRESSES=1 allows them."
        )
    try:
        refuse(ip_address(host), scheme)
    except ValueError as error:
        if isinstance(error, AddressError):
            raise
    return Address(scheme, host, port, path, match["query"] or "")


def refuse(address: IPv4Address | IPv6Address, scheme: str) -> None:
    """Raise AddressError for an address on the network that is not to be called."""
    inner = _inner(address)
    if inner.is_global and not inner.is_multicast:
        if scheme == "http":
            raise AddressError(f"{address} is a public address: it is called by https only.")
        return
    # What holds a cloud machine's credentials is link-local, and is called by nobody.
    is_private = inner.is_loopback or (
        inner.is_private
        and not (inner.is_link_local or inner.is_multicast or inner.is_unspecified or inner.is_reserved)
    )
    if not (is_private and settings.ATOM_WEBHOOK_PRIVATE_ADDRESSES):
        raise AddressError(
            f"{address} is no public address. ATOM_WEBHOOK_PRIVATE_ADDRESSES=1 allows private ones, but never "
            "link-local ones."
        )


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    number = int(address)
    if number >> 32 in (0, 0x0064FF9B << 64) and number > 1:
        return IPv4Address(number & 0xFFFFFFFF)
    return address


def resolved(host: str, port: int, scheme: str) -> str:
    """Return an address that a name has, once all that it has are known to be callable.

    Raises AddressError for one that is not, OSError for a name that nobody knows.
    """
    found = list(dict.fromkeys(item[4][0] for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    for text in found:
        refuse(ip_address(str(text).partition("%")[0]), scheme)
    return str(found[0])
