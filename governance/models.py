"""Agents, their keys, and the rules that a person edits."""

import json
import zlib
from datetime import UTC
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from governance.policy.rules import EVERYBODY, OperatorRule, Pattern, Scope
from governance.policy.types import Access, Category, Maturity, Outcome
from governance.trust_models import (
    AgentDay,
    AgentDaysCounted,
    DemotionRow,
    KillSwitch,
    PromotionProposal,
    PromotionRow,
    Violation,
)

__all__ = [
    "MATURITY_CHOICES",
    "Agent",
    "AgentDay",
    "AgentDaysCounted",
    "AgentKey",
    "DemotionRow",
    "DirectoryRow",
    "KillSwitch",
    "MatrixRow",
    "PolicyGeneration",
    "PolicyRule",
    "PolicyVersion",
    "PromotionProposal",
    "PromotionRow",
    "Violation",
]

APPROVALS_CHOICES = [(1, "one person"), (2, "two people")]
MATURITY_CHOICES = [(level.value, level.value.title()) for level in Maturity]


class Agent(models.Model):
    """An AI agent that asks for commands. Its maturity changes through `services.agent_set_maturity` only."""

    name = models.CharField(
        max_length=60,
        unique=True,
        validators=[RegexValidator(r"^[a-z0-9][a-z0-9._-]*\Z", "Use lower-case letters, digits, dots, dashes.")],
        help_text="A short name, as the agent's owner would call it: lower-case letters, digits, dots and dashes.",
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="agents", help_text="Who answers for it."
    )
    maturity = models.CharField(max_length=12, choices=MATURITY_CHOICES, default=Maturity.STUDENT.value)
    is_suspended = models.BooleanField("suspended", default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    #: When it got its maturity: its record counts from there. None where that was at its creation.
    maturity_since = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["name"]
        permissions = [
            ("change_maturity", "Can change an agent's maturity"),
            ("edit_policy", "Can edit the rules that decide"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(maturity__in=[level.value for level in Maturity]), name="agent_maturity_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class AgentKey(models.Model):
    """An API key of an agent. Only its SHA-256 is stored; the key itself is shown once."""

    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="keys")
    label = models.CharField(max_length=80, blank=True, help_text="Where it is used, so that you know it later.")
    prefix = models.CharField(max_length=16, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.agent}"


class MatrixRow(models.Model):
    """What governance says of a category at a maturity, before paths and rules. Strictest wins."""

    category = models.CharField(max_length=10, choices=[(item.value, item.value) for item in Category])
    maturity = models.CharField(max_length=12, choices=MATURITY_CHOICES)
    outcome = models.CharField(max_length=5, choices=[(item.value, item.value) for item in Outcome])

    class Meta:
        default_permissions = ()
        verbose_name = "matrix row"
        constraints = [models.UniqueConstraint(fields=["category", "maturity"], name="matrix_one_row_a_cell")]

    def __str__(self) -> str:
        return f"{self.category} at {self.maturity}: {self.outcome}"


class DirectoryRow(models.Model):
    """A root where agents of at least a maturity may work without being asked about the place."""

    root = models.CharField(max_length=500, unique=True, help_text="An absolute path, or one that starts with ~/.")
    access = models.CharField(max_length=5, choices=[(item.value, item.value) for item in Access])
    least_maturity = models.CharField(max_length=12, choices=MATURITY_CHOICES)

    class Meta:
        default_permissions = ()
        verbose_name = "directory rule"
        ordering = ["root"]

    def __str__(self) -> str:
        return f"{self.root}: {self.access} from {self.least_maturity}"


class PolicyRule(models.Model):
    """A rule that an operator added to the tables and the matrix. One that allows is a grant, and expires."""

    name = models.CharField(max_length=80, unique=True, help_text="What people call it.")
    tokens = models.CharField(
        "words",
        max_length=500,
        help_text="The words that a command starts with, as in: git push|fetch origin. A bar stands between words of "
        "which any will do; a word with a blank or a bar stands in single quotes.",
    )
    is_whole = models.BooleanField("nothing may follow", default=False)
    outcome = models.CharField(max_length=5, choices=[(item.value, item.value) for item in Outcome])
    justification = models.CharField(max_length=300, help_text="Why, in one sentence: agents and approvers read it.")
    agents = models.JSONField(default=list, blank=True)
    hosts = models.JSONField(default=list, blank=True)
    least_maturity = models.CharField("from maturity", max_length=12, choices=MATURITY_CHOICES, blank=True)
    most_maturity = models.CharField("up to maturity", max_length=12, choices=MATURITY_CHOICES, blank=True)
    directories = models.JSONField(default=list, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="A rule that allows must expire.")
    approvals_required = models.PositiveSmallIntegerField(
        "people who must approve",
        choices=APPROVALS_CHOICES,
        default=1,
        help_text="Counts where the rule asks: so many different people have to approve what it is about.",
    )
    examples = models.JSONField(default=list)
    refuses = models.JSONField(default=list, blank=True)
    #: Who saved it last, as text that outlives the person.
    author = models.CharField(max_length=200, blank=True, editable=False)
    #: The session whose card a grant was given from, and how many requests it let through.
    granted_from = models.UUIDField(null=True, editable=False)
    used = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        default_permissions = ()
        verbose_name = "operator's rule"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(outcome=Outcome.ALLOW.value) | models.Q(expires_at__isnull=False),
                name="rule_that_allows_expires",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def value(self) -> OperatorRule:
        """Return the rule as the engine takes it. Raises ValueError for a row that was not saved by its form."""
        return OperatorRule(
            str(self.pk or "new"),
            self.name,
            Pattern.read(self.tokens, is_whole=self.is_whole),
            Outcome(self.outcome),
            self.justification,
            Scope.from_json(
                {
                    "agents": self.agents,
                    "hosts": self.hosts,
                    "least_maturity": self.least_maturity,
                    "most_maturity": self.most_maturity,
                    "directories": self.directories,
                }
            ),
            f"{self.expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if self.expires_at else "",
        )

    def value_or_strict(self) -> OperatorRule | None:
        """Return the rule as the engine takes it. One that cannot be read allows nothing, or is about every command."""
        try:
            return self.value()
        except ValueError as error:
            if self.outcome == Outcome.ALLOW:
                return None
            outcome = Outcome.ASK if self.outcome == Outcome.ASK else Outcome.DENY
            why = f"This rule cannot be read ({error}), so it is about every command."
            return OperatorRule(str(self.pk), self.name, Pattern(()), outcome, why, EVERYBODY)


class ApprovalTerms(models.Model):
    """How people approve commands of a category: in which time, how many of them, and whether with a one-time code."""

    category = models.CharField(max_length=10, unique=True, choices=[(item.value, item.value) for item in Category])
    minutes = models.PositiveSmallIntegerField(
        default=15,
        validators=[MinValueValidator(1), MaxValueValidator(45)],
        help_text="A request that nobody decides on expires after so many minutes, from 1 to 45.",
    )
    approvals_required = models.PositiveSmallIntegerField(
        "people who must approve", choices=APPROVALS_CHOICES, default=1
    )
    needs_code = models.BooleanField(
        "needs a one-time code",
        default=False,
        help_text="Who approves has to give a code of their authenticator. Each sets theirs up on their own page.",
    )

    class Meta:
        default_permissions = ()
        verbose_name = "terms of approval"
        verbose_name_plural = "terms of approval"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(minutes__gte=1, minutes__lte=45, approvals_required__in=[1, 2]),
                name="approval_terms_in_range",
            ),
        ]

    def __str__(self) -> str:
        code = ", with a code" if self.needs_code else ""
        return f"{self.category}: {self.get_approvals_required_display()} within {self.minutes} min{code}"


class PolicyVersion(models.Model):
    """What a policy was made of: written when it is first in force, so that an old explanation can be rebuilt."""

    version = models.CharField(max_length=64, primary_key=True)
    engine = models.PositiveIntegerField()
    #: JSON, compressed: `policy.content` says what is in it.
    content = models.BinaryField()
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.version[:12]

    @staticmethod
    def packed(content: object) -> bytes:
        """Return the bytes that are stored."""
        return zlib.compress(json.dumps(content, sort_keys=True).encode())

    def unpacked(self) -> dict[str, Any]:
        """Return the content."""
        return dict(json.loads(zlib.decompress(bytes(self.content))))


class PolicyGeneration(models.Model):
    """One row, raised by every change of a rule, so that a process sees in one read that its copy is old."""

    number = models.PositiveBigIntegerField(default=1)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.number)
