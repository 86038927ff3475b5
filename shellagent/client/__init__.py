"""Asking the server from any machine: a typed client, and the command `atom`. Python's standard library is enough."""

from shellagent.client.atom import Atom
from shellagent.client.errors import (
    AtomError,
    CallError,
    ConflictError,
    DeclinedError,
    DeniedError,
    StateError,
    ThrottledError,
    UnauthorisedError,
    UnavailableError,
)
from shellagent.client.types import Agent, Approval, Decision, Offsets, Output, OutputPart, Session, Status

__all__ = [
    "Agent",
    "Approval",
    "Atom",
    "AtomError",
    "CallError",
    "ConflictError",
    "Decision",
    "DeclinedError",
    "DeniedError",
    "Offsets",
    "Output",
    "OutputPart",
    "Session",
    "StateError",
    "Status",
    "ThrottledError",
    "UnauthorisedError",
    "UnavailableError",
]
