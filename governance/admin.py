"""The admin of agents and rules."""

from governance.admin_agents import AgentAdmin
from governance.admin_policy import PolicyRuleAdmin, PolicyVersionAdmin
from governance.admin_rules import DirectoryRowAdmin, MatrixRowAdmin

__all__ = ["AgentAdmin", "DirectoryRowAdmin", "MatrixRowAdmin", "PolicyRuleAdmin", "PolicyVersionAdmin"]
