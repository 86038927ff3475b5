"""What can go wrong between this machine and the server. Each class's docstring is its default message."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, ClassVar


class Exit(IntEnum):
    """The exit codes of `atom`, `localagent` and `runlocalagent`."""

    OK = 0
    UNAUTHORISED = 3
    ANOTHER_INSTANCE = 4
    STALLED = 5
    USAGE = 64
    UNAVAILABLE = 69
    INTERNAL = 70
    WAITING = 75
    PROTOCOL = 76
    DENIED = 77
    TIMED_OUT = 124
    CANCELLED = 130


class AtomError(Exception):
    """This could not be done."""

    #: With what a command ends that this error ends.
    ends_with: ClassVar[Exit] = Exit.USAGE

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class StateError(AtomError):
    """What is kept on this machine cannot be used: an address, a key, a file, a folder."""


class CallError(AtomError):
    """A call to the server did not give an answer that can be used. `problem` is what it said, empty where nothing."""

    ends_with = Exit.UNAVAILABLE

    def __init__(self, message: str = "", *, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.problem: Mapping[str, Any] = problem or {}


class UnavailableError(CallError):
    """The server cannot be reached, or what answers is not the server."""

    def __init__(
        self,
        message: str = "",
        *,
        retry_after_seconds: float = 0.0,
        problem: Mapping[str, Any] | None = None,
        may_have_arrived: bool = False,
    ) -> None:
        super().__init__(message, problem=problem)
        self.retry_after_seconds = retry_after_seconds
        #: Whether the request was sent, so that the server may have done what it asks for.
        self.may_have_arrived = may_have_arrived


class ThrottledError(UnavailableError):
    """The server takes no more requests of this key for a while, or too many wait for a person."""

    ends_with = Exit.WAITING


class UnauthorisedError(CallError):
    """The server refuses the key."""

    ends_with = Exit.UNAUTHORISED


class UpgradeRequiredError(CallError):
    """The server speaks another version of the protocol."""

    ends_with = Exit.PROTOCOL


class DeclinedError(CallError):
    """The server read the request and says no, with a problem document."""

    ends_with = Exit.USAGE

    def __init__(self, message: str, *, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(message, problem=problem)
        self.status = status


class DeniedError(DeclinedError):
    """Governance denies the command. `problem` holds `decision` and `session_id`, where it is kept."""

    ends_with = Exit.DENIED


class ConflictError(DeclinedError):
    """The server holds something else: another instance of this key, another offset, another record."""
