"""Machines on the network: what a value names, and whether it may be reached. Lexical only: no name is looked up.

A text that two programs may read differently (a backslash, two `@`, a number that is no address) is not read at all.
Protected is what only this machine or its cloud should be asked by: loopback, link-local, the addresses that hand out
credentials, and the product's own addresses. Numbers are read as `inet_aton` does: `127.1`, `0x7f.1`, `2130706433`.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_SCHEMES: Final = frozenset(["http", "https", "ftp", "ftps", "ws", "wss", "ssh", "git", "rsync", "sftp"])
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_USER: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:-]*")
_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_REMOTE: Final = re.compile(r"((?:[^/@:\s]+@)?(?:\[[0-9A-Fa-f:.]+\]|[^/@:\s\[\]]+)):(.*)", re.DOTALL)

_LOOPBACK: Final = "It is this machine itself."
_LINK_LOCAL: Final = "It is a link-local address, where clouds hand out credentials."
_METADATA: Final = "Clouds hand out credentials there."
_OWN: Final = "It is the product's own address."
_NETWORKS: Final = tuple(
    (ipaddress.ip_network(network), why)
    for network, why in (
        ("127.0.0.0/8", _LOOPBACK),
        ("0.0.0.0/8", _LOOPBACK),
        ("::1/128", _LOOPBACK),
        ("::/128", _LOOPBACK),
        ("169.254.0.0/16", _LINK_LOCAL),
        ("fe80::/10", _LINK_LOCAL),
        ("fd00:ec2::/32", _METADATA),
        ("fd20:ce::254/128", _METADATA),
        ("100.100.100.200/32", _METADATA),
        ("168.63.129.16/32", _METADATA),
        ("192.0.0.192/32", _METADATA),
    )
)
#: IPv6 networks that carry an IPv4 address, and by how many bits it is shifted.
_CARRIERS: Final = tuple(
    (ipaddress.IPv6Network(network), shift)
    for network, shift in (
        ("::ffff:0:0/96", 0),
        ("::/96", 0),
        ("::ffff:0:0:0/96", 0),
        ("64:ff9b::/96", 0),
        ("64:ff9b:1::/48", 0),
        ("2002::/16", 80),
    )
)
_NAMES: Final = {
    **dict.fromkeys(
        ["localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "loopback"],
        _LOOPBACK,
    ),
    **dict.fromkeys(["host.docker.internal", "gateway.docker.internal", "host.containers.internal"], _LOOPBACK),
    **dict.fromkeys(
        [
            "metadata",
            "metadata.google.internal",
            "metadata.goog",
            "metadata.azure.internal",
            "instance-data",
            "instance-data.ec2.internal",
            "kubernetes.default.svc",
            "kubernetes.default",
        ],
        _METADATA,
    ),
}
#: Domains whose names all lead to this machine.
_DOMAINS: Final = {
    ".localhost": _LOOPBACK,
    ".localhost.localdomain": _LOOPBACK,
    ".localtest.me": _LOOPBACK,
    ".lvh.me": _LOOPBACK,
    ".vcap.me": _LOOPBACK,
}
#: Domains whose names spell an address, so that any address may hide there.
_SPELLING: Final = (".nip.io", ".sslip.io", ".xip.io", ".traefik.me", ".1u.ms", ".rebind.it", ".rbndr.us", ".arpa")


@dataclass(frozen=True, slots=True)
class HostVerdict:
    """What is known of a host: why it is protected, or why it cannot be read; neither for any other."""

    host: str = ""
    protected: str = ""
    unreadable: str = ""


@lru_cache(maxsize=4096)
def judge_url(text: str, own: tuple[str, ...] = ()) -> HostVerdict:
    """Judge the host of a URL, or of what a program completes to one, as in `example.org/x`."""
    rest = text
    if match := _SCHEME.fullmatch(text):
        if match[1].lower() not in _SCHEMES:
            return HostVerdict(unreadable=f"its scheme is not one of {', '.join(sorted(_SCHEMES))}")
        rest = match[2]
    elif text.startswith("//") or not text or text[0] in "/-.":
        return HostVerdict(unreadable="it names no host")
    if any(not "!" <= character <= "~" or character in '\\{}<>"^`|' for character in text):
        return HostVerdict(unreadable="it holds a character that programs read differently")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(authority) :]
    if tail[:1] in ("?", "#") and "@" in tail:
        return HostVerdict(unreadable="it holds a sign that programs read differently")
    if re.search(r"[\[\]]", tail):
        return HostVerdict(unreadable="it may stand for several addresses")
    return judge_host(authority, own)


@lru_cache(maxsize=4096)
def judge_host(text: str, own: tuple[str, ...] = ()) -> HostVerdict:
    """Judge `[USER@]HOST[:PORT]`, or a bare IPv6 address. `own` are the product's own hosts, as names or addresses."""
    user, at, place = text.rpartition("@")
    if at and not _USER.fullmatch(user):
        return HostVerdict(unreadable="its user name holds a character that programs read differently")
    host, port = _without_port(place.lower())
    if port is not None and not (port == "" or (_PORT.fullmatch(port) and int(port) < 65536)):
        return HostVerdict(unreadable="its port is not a number")
    addresses, name = _read(host)
    if addresses is None:
        return HostVerdict(unreadable="it is neither a host's name nor an address")
    reasons = [reason for address in addresses if (reason := _address_reason(address))]
    if name:
        reasons += [_NAMES[name]] if name in _NAMES else []
        reasons += [why for domain, why in _DOMAINS.items() if f".{name}".endswith(domain)]
    if _is_own(addresses, name, own):
        reasons.append(_OWN)
    if reasons:
        return HostVerdict(host, protected=reasons[0])
    if f".{name}".endswith(_SPELLING):
        return HostVerdict(host, unreadable="its name can spell any address")
    return HostVerdict(host)


def split_remote(text: str) -> tuple[str, str] | None:
    """Return the host and the path of `[USER@]HOST:PATH`, or None for a path on this machine."""
    match = _REMOTE.fullmatch(text)
    return (match[1], match[2]) if match else None


def host_of(url: str) -> str:
    """Return the host of one of the product's own URLs, lower case and without its port; empty where there is none."""
    match = _SCHEME.fullmatch(url)
    authority = re.split(r"[/?#]", match[2] if match else url, maxsplit=1)[0]
    return _without_port(authority.rpartition("@")[2].lower())[0].rstrip(".")


def _without_port(place: str) -> tuple[str, str | None]:
    """Return the host without brackets, and the port's text, or None where none is given."""
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        if not bracket or (port and port[0] != ":"):
            return "", None
        return (host if ":" in host else ""), (port[1:] if port else None)
    if place.count(":") == 1:
        host, _, port = place.partition(":")
        return host, port
    return place, None


def _read(host: str) -> tuple[tuple[_Address, ...] | None, str]:
    """Return the addresses that a host's text may mean and its name, or None for what is neither."""
    if ":" in host:
        try:
            return (ipaddress.IPv6Address(host.partition("%")[0]),), ""
        except ValueError:
            return None, ""
    name = host.removesuffix(".")
    labels = name.split(".")
    if name and all(_NUMBER.fullmatch(label) for label in labels):
        return _numbers(labels), ""
    if not _NAME.fullmatch(name) or _NUMBER.fullmatch(labels[-1]):
        return None, ""
    return (), name


def _numbers(labels: list[str]) -> tuple[_Address, ...] | None:
    """Return each address that these numbers may be: a leading zero means octal to some programs only."""
    readings = {tuple(_value(label, is_octal=is_octal) for label in labels) for is_octal in (True, False)}
    found = [address for numbers in readings if (address := _ipv4(numbers)) is not None]
    return tuple(found) or None


def _value(label: str, *, is_octal: bool) -> int:
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    if is_octal and label.startswith("0") and label.isdigit() and set(label) <= set("01234567"):
        return int(label, 8)
    return int(label) if len(label) <= 12 else 1 << 40


def _ipv4(numbers: tuple[int, ...]) -> ipaddress.IPv4Address | None:
    if len(numbers) > 4 or any(number > 255 for number in numbers[:-1]):
        return None
    room = 8 * (5 - len(numbers))
    if numbers[-1] >= 1 << room:
        return None
    total = numbers[-1]
    for index, number in enumerate(numbers[:-1]):
        total |= number << (24 - 8 * index)
    return ipaddress.IPv4Address(total)


def _address_reason(address: _Address) -> str:
    for candidate in (address, *_carried(address)):
        for network, why in _NETWORKS:
            if candidate.version == network.version and candidate in network:
                return why
    return ""


def _carried(address: _Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [
        ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
        for network, shift in _CARRIERS
        if address in network
    ]
    return [*found, *(address.teredo or ())]


def _is_own(addresses: Iterable[_Address], name: str, own: tuple[str, ...]) -> bool:
    for text in own:
        own_addresses, own_name = _read(text)
        if (own_name and own_name == name) or set(own_addresses or ()) & set(addresses):
            return True
    return False
