"""The admin of sessions and hosts."""

from governance import previews
from shellagent.admin_hosts import AgentHostAdmin, HostAdmin
from shellagent.admin_sessions import ShellSessionAdmin
from shellagent.admin_stops import KillSwitchAdmin
from shellagent.admin_trail import ReviewedEventAdmin
from shellagent.replaying import SessionHistory

__all__ = [
    "AgentHostAdmin",
    "HostAdmin",
    "KillSwitchAdmin",
    "ReviewedEventAdmin",
    "ShellSessionAdmin",
]

previews.register(SessionHistory())
