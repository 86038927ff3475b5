"""How the API describes itself: the kinds of keys, and the host protocol's messages as schemas."""

import dataclasses
import typing
from enum import StrEnum
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from audit.canonical import MAX_INTEGER
from shellagent import protocol

Schema = dict[str, Any]
_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER},
    int | None: {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER, "nullable": True},
    bool: {"type": "boolean"},
    Any: {},
}
_VERSION: Schema = {"type": "integer", "enum": [protocol.VERSION]}


class AgentKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """An agent's key."""

    target_class = "governance.authentication.BearerKeyAuthentication"
    name = "agentKey"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return _bearer("An agent's key, `ata_…`.")


class HostKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """A host's key."""

    target_class = "shellagent.authentication.HostKeyAuthentication"
    name = "hostKey"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return _bearer("A host's key, `ath_…`.")


class EnrolmentCodeScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """An enrolment code."""

    target_class = "shellagent.authentication.EnrolmentCodeAuthentication"
    name = "enrolmentCode"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return _bearer("An enrolment code, `ate_…`: ten minutes, one use.")


def problems(*statuses: int) -> dict[int, None]:
    """Return what a call may answer with besides the problems of every call, for `atomsite.schema` to shape."""
    return dict.fromkeys(statuses)


def _bearer(description: str) -> Schema:
    return {"type": "http", "scheme": "bearer", "description": description}


def message(cls: type) -> Schema:
    """Return the JSON schema of a protocol message, which is a frozen dataclass."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    return {
        "type": "object",
        "description": (cls.__doc__ or "").partition("\n")[0],
        "properties": {item.name: _VERSION if item.name == "v" else _of(hints[item.name]) for item in fields},
        "required": [
            item.name
            for item in fields
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        ],
    }


def _of(annotation: Any) -> Schema:
    if annotation in _PLAIN:
        return dict(_PLAIN[annotation])
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return {"type": "array", "items": _of(inner[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(inner[1])}
    if dataclasses.is_dataclass(annotation):
        return message(typing.cast(type, annotation))
    if issubclass(annotation, StrEnum):
        return {"type": "string", "enum": [item.value for item in annotation]}
    raise TypeError(f"no schema for {annotation}")
