"""The admin of sessions and hosts."""

from governance import previews
from shellagent.admin_hosts import AgentHostAdmin, HostAdmin
from shellagent.admin_sessions import ShellSessionAdmin
from shellagent.admin_stops import KillSwitchAdmin
from shellagent.admin_trail import ReviewedEventAdmin
from shellagent.admin_trust import DemotionRowAdmin, PromotionProposalAdmin, PromotionRowAdmin
from shellagent.replaying import SessionHistory

__all__ = [
    "AgentHostAdmin",
    "DemotionRowAdmin",
    "HostAdmin",
    "KillSwitchAdmin",
    "PromotionProposalAdmin",
    "PromotionRowAdmin",
    "ReviewedEventAdmin",
    "ShellSessionAdmin",
]

previews.register(SessionHistory())
