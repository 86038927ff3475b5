"""The admin of agents and rules."""

from governance.admin_agents import AgentAdmin
from governance.admin_policy import PolicyRuleAdmin, PolicyVersionAdmin
from governance.admin_rules import DirectoryRowAdmin, MatrixRowAdmin
from governance.admin_terms import ApprovalTermsAdmin

__all__ = [
    "AgentAdmin",
    "ApprovalTermsAdmin",
    "DirectoryRowAdmin",
    "MatrixRowAdmin",
    "PolicyRuleAdmin",
    "PolicyVersionAdmin",
]
