"""The fixed words of the host protocol. Standard library only."""

from enum import StrEnum


class RunOutcome(StrEnum):
    """How a session ended, as the host reports it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    ABORTED = "aborted"
    REFUSED = "refused"
    LOST = "lost"


class Reason(StrEnum):
    """Why a session ended as it did."""

    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    AGENT_STOP = "agent_stop"
    KILL_SWITCH = "kill_switch"
    SPEC_MISMATCH = "spec_mismatch"
    BAD_GRANT = "bad_grant"
    SCRIPT_CHANGED = "script_changed"
    HOST_CEILING = "host_ceiling"
    NO_FOLDER = "no_folder"
    NOT_FOUND = "not_found"
    NOT_EXECUTABLE = "not_executable"
    OUTPUT_LIMIT = "output_limit"
    MEMORY_LIMIT = "memory_limit"
    PROCESS_LIMIT = "process_limit"
    OOM_SUSPECTED = "oom_suspected"
    AGENT_RESTART = "agent_restart"


class Rung(StrEnum):
    """How far the ending of a run had to go; each rung comes after those before it in time."""

    #: It ended by itself, and nothing of it was left.
    NONE = "none"
    TERM = "term"
    KILL = "kill"
    #: Processes lived on when it was over, or started faster than they were killed; these were hunted down.
    SWEEP = "sweep"


class GrantStatus(StrEnum):
    """The server's answer to a start: only `granted` may run."""

    GRANTED = "granted"
    ALREADY_GRANTED = "already-granted"
    CANCELLED = "cancelled"
    STALE_DECISION = "stale-decision"


class Desired(StrEnum):
    """What the server wants of a host's process."""

    RUNNING = "running"
    STOPPED = "stopped"
