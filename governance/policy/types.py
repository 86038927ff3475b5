"""The values that governance reads and returns. Frozen, and free of Django, clocks and I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from governance.policy.plan import Plan


class Maturity(StrEnum):
    """How much trust an agent has earned, least first."""

    STUDENT = "STUDENT"
    INTERN = "INTERN"
    SUPERVISED = "SUPERVISED"
    AUTONOMOUS = "AUTONOMOUS"

    @property
    def rank(self) -> int:
        """Return 0 for STUDENT up to 3 for AUTONOMOUS."""
        return _MATURITY_RANK[self]


class Category(StrEnum):
    """What a plan does, least severe first."""

    READ = "read"
    WRITE = "write"
    BUILD = "build"
    NETWORK = "network"
    DEVOPS = "devops"
    DELETE = "delete"
    UNKNOWN = "unknown"
    BLOCKED = "blocked"

    @property
    def severity(self) -> int:
        """Return 0 for read up to 7 for blocked."""
        return _CATEGORY_SEVERITY[self]


class Outcome(StrEnum):
    """What governance says, least strict first."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"

    @property
    def strictness(self) -> int:
        """Return 0 for allow, 1 for ask, 2 for deny."""
        return _OUTCOME_STRICTNESS[self]


_MATURITY_RANK = {maturity: rank for rank, maturity in enumerate(Maturity)}
_CATEGORY_SEVERITY = {category: rank for rank, category in enumerate(Category)}
_OUTCOME_STRICTNESS = {outcome: rank for rank, outcome in enumerate(Outcome)}


class Access(StrEnum):
    """What may be done below a path; write includes read."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Grant:
    """A path, absolute and normalised, that the host's sandbox opens for the command."""

    path: str
    access: Access


@dataclass(frozen=True, slots=True)
class DirectoryRule:
    """A root where agents of at least a maturity may work. `root` may start with `~`."""

    root: str
    access: Access
    least_maturity: Maturity


@dataclass(frozen=True, slots=True)
class Facts:
    """What the host reported of itself; an empty text where it has not reported yet."""

    home: str = ""
    user: str = ""
    scratch: str = ""
    is_sandboxed: bool = False
    #: Paths that no command may reach on this host: its state folder, keys and product files.
    protected: tuple[str, ...] = ()
    #: Hosts that no command may reach: the product's own addresses, as names or addresses.
    own_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """All that a decision depends on, besides the policy."""

    plan: Plan
    maturity: Maturity
    facts: Facts
    #: Absolute, or empty for the agent's scratch folder on the host.
    working_directory: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    #: Folders that an operator gave to this agent on this host, read and write.
    agent_roots: tuple[str, ...] = ()
    #: The names of the agent and of the host, for operators' rules about them.
    agent: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """One word of the command: what it is and what it does.

    `role` is program, subcommand, option, value, operand or redirect.
    """

    text: str
    role: str
    effect: str
    category: Category


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that fired: its stable id, what it demands, and why in one sentence."""

    id: str
    outcome: Outcome
    justification: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What governance says of a question, and why. The API, the admin and the command line all show this object."""

    outcome: Outcome
    category: Category
    plan: Plan
    tokens: tuple[Token, ...]
    rules: tuple[Rule, ...]
    explanation: str
    would_allow: str
    policy_version: str
    grants: tuple[Grant, ...] = ()
    #: What the host must do or refuse: `sandbox` (a file system sandbox must be active), `network` (the command may
    #: reach the network; without it the sandbox closes that), `daemon` (it may ask a daemon over its socket),
    #: `read-only` (it changes nothing, so that nothing of it may), `git-hardened` (git runs nothing that a repository
    #: names).
    obligations: tuple[str, ...] = ()
    #: The place among `tokens` of the first one that has the plan's category.
    raised_by: int = 0
    #: Files of code that the plan runs, absolute.
    scripts: tuple[str, ...] = ()

    def has_rule(self, rule_id: str) -> bool:
        """Return whether the rule with this id fired."""
        return any(rule.id == rule_id for rule in self.rules)

    def to_json(self) -> dict[str, object]:
        """Return the decision as the API shows it: plain text, lists and objects."""
        return {
            "outcome": str(self.outcome),
            "category": str(self.category),
            "plan": self.plan.to_json(),
            "tokens": [
                {"text": token.text, "role": token.role, "effect": token.effect, "category": str(token.category)}
                for token in self.tokens
            ],
            "rules": [
                {"id": rule.id, "outcome": str(rule.outcome), "justification": rule.justification}
                for rule in self.rules
            ],
            "explanation": self.explanation,
            "would_allow": self.would_allow,
            "policy_version": self.policy_version,
            "grants": [{"path": grant.path, "access": str(grant.access)} for grant in self.grants],
            "obligations": list(self.obligations),
            "raised_by": self.raised_by,
            "scripts": list(self.scripts),
        }
