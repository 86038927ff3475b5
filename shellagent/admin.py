"""The admin of sessions and hosts."""

from shellagent.admin_hosts import AgentHostAdmin, HostAdmin
from shellagent.admin_sessions import ShellSessionAdmin

__all__ = ["AgentHostAdmin", "HostAdmin", "ShellSessionAdmin"]
