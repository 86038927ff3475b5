"""Frozen dataclasses and named tuples as JSON values, and back. Standard library only.

`encode` gives what goes into JSON, `decode` reads it back and refuses anything of another shape; unknown keys are
passed over, so that a newer peer may say more.
"""

import functools
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

T = TypeVar("T")
Reader = Callable[[object], Any]

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
    for name, plain, read, is_required in _readers(typing.cast(Any, cls)):
        if name in data:
            value = data[name]
            values[name] = value if type(value) is plain else read(value)
        elif is_required:
            raise ProtocolError(f"{cls.__name__}.{name} is missing")
    return cls(**values)


@functools.cache
def _readers(cls: type) -> tuple[tuple[str, type | None, Reader, bool], ...]:
    """Return each field's name, the type whose values stand for themselves, what reads others, whether it must be."""
    return tuple(
        (name, annotation if annotation in _PLAIN else None, _reader(f"{cls.__name__}.{name}", annotation), is_required)
        for name, annotation, is_required in _fields(cls)
    )


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


def _reader(where: str, annotation: Any) -> Reader:
    """Return what reads a value of this type. Looking at types costs more than reading, so it is done once."""
    origin = typing.get_origin(annotation)
    if origin is tuple:
        return _list_reader(where, typing.get_args(annotation)[0])
    if origin is dict:
        return _object_reader(where, typing.get_args(annotation)[1])
    if origin is not None:
        inner = _reader(where, typing.get_args(annotation)[0])
        return lambda value: None if value is None else inner(value)
    if annotation is Any:
        return lambda value: value
    if _is_record(annotation):
        return functools.partial(decode, annotation)
    return functools.partial(_member if issubclass(annotation, StrEnum) else _scalar, where, annotation)


def _list_reader(where: str, inner: Any) -> Reader:
    read = _reader(where, inner)

    def read_list(value: object) -> Any:
        if not isinstance(value, list):
            raise ProtocolError(f"{where}: expected a list")
        return tuple(map(read, value))

    return read_list


def _object_reader(where: str, inner: Any) -> Reader:
    read = None if inner is Any else _reader(where, inner)

    def read_object(value: object) -> Any:
        if not isinstance(value, dict):
            raise ProtocolError(f"{where}: expected an object")
        return value if read is None else {key: read(item) for key, item in value.items()}

    return read_object


def _member(where: str, annotation: type[StrEnum], value: object) -> StrEnum:
    try:
        return annotation(typing.cast(str, value))
    except ValueError:
        raise ProtocolError(f"{where}: {value!r} is not one of {', '.join(annotation)}") from None


def _scalar(where: str, annotation: type, value: object) -> Any:
    if type(value) is annotation:
        return value
    if annotation is float and type(value) is int:
        return float(value)
    raise ProtocolError(f"{where}: expected {annotation.__name__}, not {type(value).__name__}")
