"""What supervisors are told of this host, once, when they are made."""

from dataclasses import dataclass, field

from shellagent.host.capabilities import find_account
from shellagent.host.limits import Limits
from shellagent.host.sandbox import Sandbox
from shellagent.protocol import PathGrant


@dataclass(frozen=True, slots=True)
class Settings:
    """`protections` are what the probe proved; `run_as` is a user's name, empty for the local agent's own."""

    scratch: str
    user: str
    home: str
    protected: tuple[str, ...]
    path: tuple[str, ...]
    tool_roots: tuple[str, ...]
    protections: tuple[str, ...]
    grace_seconds: float
    run_as: str = ""
    #: The roots of the host's own ceiling, None where it has none: no grant opens more.
    roots: tuple[PathGrant, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    #: The slot's own folder.
    temporary: str = ""
    #: The slot's own cgroup, empty where there is none.
    cgroup: str = ""

    def sandbox(self) -> Sandbox:
        """Return a sandbox that need not be probed again. Raises StateError where there is no such user."""
        made = Sandbox(tool_roots=self.tool_roots, account=find_account(self.run_as) if self.run_as else None)
        made.protections = self.protections
        return made
