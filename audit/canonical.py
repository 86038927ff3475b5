"""Canonical JSON: one spelling for one value, so that a digest of it means something.

The form is RFC 8785 (JSON Canonicalization Scheme) restricted to values that every reader spells alike: str, int whose
magnitude is below 2**53, bool, None, list or tuple, and mappings with ASCII keys. Floats are refused; bytes are the
caller's to encode. Standard library only, because the host process uses it too.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Final, cast

MAX_INTEGER: Final = 2**53 - 1


class CanonicalError(TypeError):
    """The value has no canonical JSON form."""


def dumps(value: object) -> str:
    """Return the canonical JSON text of `value`.

    Raises CanonicalError for a float, an integer of 2**53 or more, a key that is not ASCII text, a lone surrogate or
    any other type.
    """
    _check(value)
    return _ENCODE(value)


def sha256(value: object) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()


_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


def _check(value: object) -> None:
    """Walk through a value; what is most of one, ASCII text and small integers, costs no call."""
    for item in _items(value):
        kind = type(item)
        if kind is str:
            if not cast(str, item).isascii():
                _check_text(cast(str, item))
        elif kind is int:
            if not -MAX_INTEGER <= cast(int, item) <= MAX_INTEGER:
                raise CanonicalError("integers must be below 2**53")
        elif kind is dict or kind is list or kind is tuple:
            if item:
                _check(item)
        elif item is not None and kind is not bool:
            _check_other(item)


def _items(value: object) -> Iterable[object]:
    """Return what a value holds, or itself where it is no container. Raises CanonicalError for a key of its own."""
    if isinstance(value, dict):
        _check_keys(value)
        return value.values()
    return value if isinstance(value, list | tuple) else (value,)


def _check_keys(keys: Iterable[object]) -> None:
    try:
        is_ascii = "".join(cast("Iterable[str]", keys)).isascii()
    except TypeError:
        is_ascii = False
    if not is_ascii:
        wrong = next(key for key in keys if not isinstance(key, str) or not key.isascii())
        raise CanonicalError(f"keys must be ASCII text, not {wrong!r}")


def _check_other(value: object) -> None:
    """Check what is of a type derived from one of the usual ones, as an enum's text is."""
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict | list | tuple):
        _check(value)
    else:
        raise CanonicalError(f"{type(value).__name__} has no canonical JSON form")


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise CanonicalError(f"text with a lone surrogate at {error.start}") from error
