"""`EMAIL_URL`: the mail server to send by, as one setting."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

#: By scheme: the port where none is given, and whether TLS comes first or by STARTTLS.
_SCHEMES: Final[Mapping[str, tuple[int, bool, bool]]] = {
    "smtp": (587, False, True),
    "smtps": (465, True, False),
    "smtp+plain": (25, False, False),
}


def email_settings(url: str) -> dict[str, object]:
    """Return Django's settings for a URL, none for an empty one. Raises ImproperlyConfigured, without the URL."""
    if not url:
        return {}
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ImproperlyConfigured(
            "EMAIL_URL must be like smtp://user:password@mail.example.com:587 (with STARTTLS), smtps://… (TLS from the "
            "start) or smtp+plain://localhost:25 (neither)."
        )
    default, is_tls, is_starttls = _SCHEMES[parts.scheme]
    return {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": port or default,
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_SSL": is_tls,
        "EMAIL_USE_TLS": is_starttls,
    }
