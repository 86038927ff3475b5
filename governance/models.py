"""Agents, their keys, and the rules that a person edits."""

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

from governance.policy.types import Access, Category, Maturity, Outcome

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


class PolicyGeneration(models.Model):
    """One row, raised by every change of a rule, so that a process sees in one read that its copy is old."""

    number = models.PositiveBigIntegerField(default=1)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.number)
