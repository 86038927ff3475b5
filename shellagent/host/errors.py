"""What can go wrong on the host. Standard library only; each class's docstring is its default message."""


class HostError(Exception):
    """The local agent could not do this."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class StateError(HostError):
    """The state folder cannot be used."""


class AlreadyRunningError(StateError):
    """Another local agent already holds this state folder."""


class CallError(HostError):
    """A call to the server did not give an answer that can be used."""


class UnavailableError(CallError):
    """The server cannot be reached, or what answers is not the server."""

    def __init__(self, message: str = "", *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnauthorisedError(CallError):
    """The server refuses the key."""


class UpgradeRequiredError(CallError):
    """The server speaks another version of the protocol."""


class DeclinedError(CallError):
    """The server read the request and says no, with a problem document."""

    def __init__(self, message: str, *, status: int, problem: dict[str, object]) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem


class ConflictError(DeclinedError):
    """The server holds something else: another instance of this key, another offset, another record."""


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
