"""Canonical JSON: one spelling for one value, so that a digest of it means something.

The form is RFC 8785 (JSON Canonicalization Scheme) restricted to values that every reader spells alike: str, int whose
magnitude is below 2**53, bool, None, list or tuple, and mappings with ASCII keys. Floats are refused; bytes are the
caller's to encode. Standard library only, because the host process uses it too.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
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
_SIMPLE: Final = frozenset((bool, type(None)))


def _check(value: object) -> None:
    kind = type(value)
    if kind is dict or isinstance(value, dict):
        _check_mapping(cast("dict[object, object]", value))
    elif kind is list or kind is tuple:
        _check_all(cast("list[object]", value))
    elif isinstance(value, str):
        if not value.isascii():
            _check_text(value)
    elif kind is int:
        _check_number(value)
    elif isinstance(value, list | tuple):
        _check_all(value)
    elif kind not in _SIMPLE:
        raise CanonicalError(f"{kind.__name__} has no canonical JSON form")


def _check_mapping(value: Mapping[object, object]) -> None:
    for key in value:
        if not isinstance(key, str) or not key.isascii():
            raise CanonicalError(f"keys must be ASCII text, not {key!r}")
    _check_all(value.values())


def _check_all(values: Iterable[object]) -> None:
    for value in values:
        # Most values are ASCII text, and are done with here.
        if type(value) is not str or not value.isascii():
            _check(value)


def _check_number(value: object) -> None:
    if abs(cast(int, value)) > MAX_INTEGER:
        raise CanonicalError("integers must be below 2**53")


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise CanonicalError(f"text with a lone surrogate at {error.start}") from error
