"""What can go wrong with a session or a host, as the caller is told it."""

from governance.errors import ConflictError, ForbiddenError, InvalidError, ProblemError


class CommandRejectedError(InvalidError):
    """The command cannot be read."""

    type = "syntax"
    title = "The command cannot be read"


class ForbiddenContentError(InvalidError):
    """The request holds what may not be stored or set. `what` names it for the trail."""

    def __init__(self, what: str, detail: str, **extra: object) -> None:
        self.what = what
        super().__init__(detail, **extra)


class NotAllowlistedError(InvalidError):
    """The program is not on the allowlist."""

    type = "not-allowlisted"
    title = "Program not on the allowlist"


class DeniedError(ForbiddenError):
    """Governance denies this command."""

    type = "denied"
    title = "Denied"


class StoppedError(ForbiddenError):
    """A kill switch is on: nothing begins until a person lifts it. Do not ask again by yourself."""

    type = "kill-switch"
    title = "Kill switch"


class HostRequiredError(InvalidError):
    """The agent may use several hosts and has no default: name one in `host`."""

    type = "host-required"
    title = "Host required"


class NoHostError(ProblemError):
    """No enrolled and enabled host may run this agent's commands. Enrol one with `localagent enroll`."""

    status = 503
    type = "no-host"
    title = "No host"
    next_action = "wait"


class IdempotencyConflictError(ConflictError):
    """This Idempotency-Key was used with another body."""

    type = "idempotency-conflict"
    title = "Idempotency-Key used with another body"
    next_action = "revise"


class TooLargeError(ProblemError):
    """The body is too large."""

    status = 413
    type = "too-large"
    title = "Body too large"


class TooManyError(ProblemError):
    """Too many requests."""

    status = 429
    type = "throttled"
    title = "Too many requests"
    next_action = "wait"


class SigningKeyError(ProblemError):
    """The server cannot sign starts, so that nothing may run. An operator has to look at its log."""

    status = 503
    type = "unavailable"
    title = "Service unavailable"
    next_action = "wait"

    def __init__(self, reason: str) -> None:
        #: What is wrong and the next step, for operators: it names a file.
        self.reason = reason
        super().__init__()

    def __str__(self) -> str:
        return self.reason


class TrailFailedError(ProblemError):
    """The server cannot keep its audit trail, so nothing new runs. An operator has to look at its log."""

    status = 503
    type = "unavailable"
    title = "Service unavailable"
    next_action = "wait"


class StateError(ConflictError):
    """Somebody else was first: the session is in another state now."""


class InstanceError(ConflictError):
    """Another live process uses this host's key."""

    type = "another-instance"
    title = "Another process is this host"
    next_action = "stop"


class ProtocolVersionError(ProblemError):
    """The server speaks version 1 of the host protocol."""

    status = 426
    type = "upgrade-required"
    title = "Unknown protocol version"
    next_action = "stop"
