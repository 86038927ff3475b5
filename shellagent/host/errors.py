"""What can go wrong on the host. Standard library only; each class's docstring is its default message."""

from shellagent.client.errors import (
    AtomError,
    CallError,
    ConflictError,
    DeclinedError,
    Exit,
    StateError,
    UnauthorisedError,
    UnavailableError,
    UpgradeRequiredError,
)

__all__ = [
    "AtomError",
    "CallError",
    "ConflictError",
    "DeclinedError",
    "StateError",
    "UnauthorisedError",
    "UnavailableError",
    "UpgradeRequiredError",
]


class HostError(AtomError):
    """The local agent could not do this."""


class AlreadyRunningError(StateError):
    """Another local agent already holds this state folder."""

    ends_with = Exit.ANOTHER_INSTANCE


class AnotherInstanceError(ConflictError):
    """Another live process uses this host's key."""

    ends_with = Exit.ANOTHER_INSTANCE


class RefusedError(HostError):
    """The host will not run this session. `reason` is a protocol.Reason; the message is a sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CommandError(HostError):
    """One command of a plan cannot be started; the plan goes on with its `exit_code`, and the message is printed."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
