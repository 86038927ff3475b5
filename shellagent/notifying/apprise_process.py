"""The process that sends by Apprise: reads one JSON object from the standard input, writes one, and ends. No Django.

What it reads: `url`, `allows_private`, and to send `title` and `text`; without them the URL is only looked at.
"""

import json
import logging
import re
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

#: What needs no network, runs something here, or is a webhook without a signature.
REFUSED: Final = frozenset(
    {
        *("dbus", "glib", "gio", "kde", "qt", "gnome", "macosx", "windows", "syslog", "rsyslog", "file"),
        *("json", "jsons", "xml", "xmls", "form", "forms"),
    }
)


class _Kept(logging.Handler):
    """Keeps what Apprise warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def answer(question: dict[str, Any]) -> dict[str, object]:
    """Look at a URL, and send where there is something to send."""
    url = str(question["url"])
    schema = url.partition("://")[0].lower()
    if schema in REFUSED:
        return {"problem": f"{schema}:// is not used here. For a program of your own there is the signed webhook."}
    if re.search(r"[?&]redirect=", url, re.IGNORECASE):
        return {"problem": "`redirect=` is not used here: redirects are never followed."}
    import apprise  # noqa: PLC0415 - a second, and only where the URL may be used

    asset = apprise.AppriseAsset(http_redirects=False, app_id="Atom", app_desc="Atom Local Agent", async_mode=False)
    service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if service is None:
        return {"problem": "Apprise knows no service with such a URL. Its documentation has the form of each."}
    if "text" not in question:
        return {}
    kept = _Kept()
    logging.getLogger("apprise").addHandler(kept)
    guard(allows_private=bool(question.get("allows_private")))
    sender = apprise.Apprise(asset=asset)
    sender.add(service)
    is_delivered = bool(
        sender.notify(title=question["title"], body=question["text"], body_format=apprise.NotifyFormat.TEXT)
    )
    told = scrubbed(" ".join(kept.lines), url) or "The service did not take it."
    return {"is_delivered": is_delivered, "detail": "The service took it." if is_delivered else told}


def scrubbed(text: str, url: str) -> str:
    """Return a text in which every piece of the URL that could be a secret is masked."""
    for piece in sorted(set(re.split(r"[/:@?&=#,]+", url.partition("://")[2])), key=len, reverse=True):
        if len(piece) >= 4:
            text = text.replace(piece, "***")
    return " ".join(text.split())[:300]


def guard(*, allows_private: bool) -> None:
    """Let this process connect to public addresses only, or to private ones too; never to link-local ones."""
    connect: Callable[..., Any] = socket.socket.connect

    def checked(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            found = socket.getaddrinfo(address[0], address[1], family=self.family, type=socket.SOCK_STREAM)
            place = ip_address(str(found[0][4][0]).partition("%")[0])
            place = getattr(place, "ipv4_mapped", None) or place
            is_private = (place.is_private or place.is_loopback) and not (place.is_link_local or place.is_unspecified)
            if place.is_multicast or not (place.is_global or (is_private and allows_private)):
                raise PermissionError(f"{place} is no public address")
            # The very address that was looked at.
            return connect(self, found[0][4])
        return connect(self, address)

    socket.socket.connect = checked  # type: ignore[assignment, method-assign]


def main() -> int:
    """Answer one question."""
    logging.basicConfig(level=logging.CRITICAL)
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
