"""Frozen dataclasses and named tuples as JSON values, and back. Standard library only.

`encode` gives what goes into JSON, `decode` reads it back and refuses anything of another shape; unknown keys are
passed over, so that a newer peer may say more.
"""

import functools
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

T = TypeVar("T")

_PLAIN: Final = frozenset((str, int, bool, type(None)))


class ProtocolError(ValueError):
    """A message that does not have the shape of the protocol."""


def encode(message: Any) -> Any:
    """Return a message as plain dicts, lists, text, integers and booleans.

    `dataclasses.asdict` would do the same by copying every value deeply, at several times the cost.
    """
    kind: Any = type(message)
    if kind in _PLAIN:
        return message
    if kind is tuple or kind is list:
        return [encode(item) for item in message]
    names = _names(kind)
    if names is None:
        return message
    values = [(name, getattr(message, name)) for name in names]
    return {name: value if type(value) in _PLAIN else encode(value) for name, value in values}


@functools.cache
def _names(kind: type) -> tuple[str, ...] | None:
    """Return the fields of a message's type, None for a value that is none."""
    return tuple(name for name, _annotation, _is_required in _fields(kind)) if _is_record(kind) else None


def decode(cls: type[T], data: object) -> T:
    """Read `data` as a message of type `cls`. Raises ProtocolError, naming the field, for any other shape."""
    if not isinstance(data, Mapping):
        raise ProtocolError(f"{cls.__name__}: expected an object, not {type(data).__name__}")
    values = {}
    for name, annotation, is_required in _fields(typing.cast(Any, cls)):
        if name in data:
            value = data[name]
            is_plain = type(value) is annotation and annotation in _PLAIN
            values[name] = value if is_plain else _value(f"{cls.__name__}.{name}", annotation, value)
        elif is_required:
            raise ProtocolError(f"{cls.__name__}.{name} is missing")
    return cls(**values)


@functools.cache
def _fields(cls: type) -> tuple[tuple[str, Any, bool], ...]:
    hints = typing.get_type_hints(cls)
    if issubclass(cls, tuple):
        record = typing.cast(Any, cls)
        return tuple((name, hints[name], name not in record._field_defaults) for name in record._fields)
    import dataclasses  # noqa: PLC0415 - named tuples do without, and it takes a fifth of what a short command may cost

    return tuple(
        (
            item.name,
            hints[item.name],
            item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING,
        )
        for item in dataclasses.fields(typing.cast(Any, cls))
    )


def _is_record(kind: type) -> bool:
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "_field_defaults")


def _value(where: str, annotation: Any, value: object) -> Any:
    origin = typing.get_origin(annotation)
    if origin is not None:
        return _items(where, origin, annotation, value)
    if isinstance(annotation, type) and _is_record(annotation):
        return decode(annotation, value)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        try:
            return annotation(typing.cast(str, value))
        except ValueError:
            raise ProtocolError(f"{where}: {value!r} is not one of {', '.join(annotation)}") from None
    if annotation is Any or type(value) is annotation:
        return value
    if annotation is float and type(value) is int:
        return float(value)
    raise ProtocolError(f"{where}: expected {annotation.__name__}, not {type(value).__name__}")


def _items(where: str, origin: Any, annotation: Any, value: object) -> Any:
    """Read a value whose type has a type inside: a list, an object, or one that may be None."""
    if origin is tuple:
        if not isinstance(value, list):
            raise ProtocolError(f"{where}: expected a list")
        inner = typing.get_args(annotation)[0]
        return tuple(_value(where, inner, item) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise ProtocolError(f"{where}: expected an object")
        inner = typing.get_args(annotation)[1]
        return value if inner is Any else {key: _value(where, inner, item) for key, item in value.items()}
    inner = typing.get_args(annotation)[0]
    return None if value is None else _value(where, inner, value)
