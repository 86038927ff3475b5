"""What stops agents, and what they earn: kept here, filled from sessions by the services above."""

from django.conf import settings
from django.db import models

from governance.policy.types import Maturity
from governance.trust import Criterion


class KillSwitch(models.Model):
    """One time that somebody stopped everything, a host or an agent. In force until it is lifted."""

    class Scope(models.TextChoices):
        EVERYTHING = "everything"
        HOST = "host"
        AGENT = "agent"

    scope = models.CharField(max_length=10, choices=Scope.choices)
    #: The name of the host or the agent, which does not change; empty for everything.
    subject = models.CharField(max_length=60, blank=True)
    reason = models.TextField()
    switched_at = models.DateTimeField()
    switched_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    #: Who it was, as text that outlives the person; for a command, the account that ran it.
    switched_label = models.CharField(max_length=200)
    lifted_at = models.DateTimeField(null=True)
    lifted_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    lifted_label = models.CharField(max_length=200, blank=True)
    lifted_reason = models.TextField(blank=True)

    class Meta:
        default_permissions = ("view",)
        ordering = ["-id"]
        verbose_name_plural = "kill switches"
        constraints = [
            models.UniqueConstraint(
                fields=["scope", "subject"], condition=models.Q(lifted_at=None), name="kill_switch_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.subject}".rstrip()


class AgentDay(models.Model):
    """How many of an agent's sessions of a day (by the server's time zone) became what. Counted on by the worker."""

    agent = models.ForeignKey("governance.Agent", on_delete=models.CASCADE, related_name="days", db_index=False)
    day = models.DateField()
    asked = models.PositiveIntegerField(default=0)
    #: Of those that were asked: let through without a person, by a person, and neither.
    allowed = models.PositiveIntegerField(default=0)
    approved = models.PositiveIntegerField(default=0)
    denied = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0)
    #: A person cancelled it, or had it aborted.
    stopped = models.PositiveIntegerField(default=0)
    #: How what ran ended.
    succeeded = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    #: The host refused it.
    refused = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["agent", "day"], name="agent_day_once")]

    def __str__(self) -> str:
        return f"{self.agent_id} on {self.day}"


class AgentDaysCounted(models.Model):
    """One row: up to when sessions, by their id, are in the days' counts."""

    counted_to = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.counted_to.isoformat()


class Violation(models.Model):
    """An agent asked for what is denied to everybody. One row a session, written with it."""

    class Kind(models.TextChoices):
        BLOCKED_COMMAND = "blocked-command", "a blocked command"
        PROTECTED_PATH = "protected-path", "a protected path"
        PROTECTED_HOST = "protected-host", "a protected host"
        ENVIRONMENT = "environment", "a variable that changes what programs do"

    agent = models.ForeignKey("governance.Agent", on_delete=models.PROTECT, related_name="violations", db_index=False)
    #: Its session; without a foreign key, because sessions are of the app above.
    session_id = models.UUIDField(unique=True)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    happened_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["agent", "-happened_at"], name="violation_by_agent")]

    def __str__(self) -> str:
        return f"{self.kind} by {self.agent_id}"


class PromotionRow(models.Model):
    """What an agent's record has to be for this maturity to be proposed. A row that is missing proposes nothing."""

    maturity = models.CharField(
        max_length=12, unique=True, choices=[(level.value, level.value.title()) for level in list(Maturity)[1:]]
    )
    decided = models.PositiveSmallIntegerField(
        "decided sessions", help_text="As many different ones, since the agent has the maturity below this."
    )
    most_intervention = models.PositiveSmallIntegerField(
        "at most intervened, %", help_text="The share of decided sessions that a person rejected, cancelled or aborted."
    )
    least_score = models.DecimalField("score", max_digits=3, decimal_places=2, help_text="From 0.00 to 1.00.")

    class Meta:
        default_permissions = ()
        verbose_name = "promotion rule"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(most_intervention__lte=100, least_score__gte=0, least_score__lte=1, decided__gte=1),
                name="promotion_in_range",
            ),
        ]

    def __str__(self) -> str:
        return f"to {self.maturity}"

    @property
    def criterion(self) -> Criterion:
        """Return the row as a value."""
        return Criterion(Maturity(self.maturity), self.decided, self.most_intervention, int(self.least_score * 100))


class DemotionRow(models.Model):
    """What takes an agent one maturity down at once, by itself. What no row lists is held against its score alone."""

    class Kind(models.TextChoices):
        BLOCKED_COMMAND = Violation.Kind.BLOCKED_COMMAND.value, "asks for a blocked command"
        PROTECTED_PATH = Violation.Kind.PROTECTED_PATH.value, "asks for a protected path"
        PROTECTED_HOST = Violation.Kind.PROTECTED_HOST.value, "asks to reach a protected host"
        ENVIRONMENT = Violation.Kind.ENVIRONMENT.value, "sets a variable that changes what programs do"
        REJECTIONS = "rejections-in-a-row", "is rejected by people, in a row"
        HOST_REFUSALS = "host-refusals", "asks for what is above a host's ceiling"

    kind = models.CharField("what it does", max_length=20, unique=True, choices=Kind.choices)
    times = models.PositiveSmallIntegerField(
        default=1, help_text="After so many times since the agent has its maturity; rejections in a row."
    )

    class Meta:
        default_permissions = ()
        verbose_name = "demotion rule"
        constraints = [models.CheckConstraint(condition=models.Q(times__gte=1), name="demotion_times_positive")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}, {self.times} times" if self.times > 1 else self.get_kind_display()


class PromotionProposal(models.Model):
    """The nightly review found that an agent earned the next maturity. A person grants or declines it."""

    class Status(models.TextChoices):
        PENDING = "pending"
        GRANTED = "granted"
        DECLINED = "declined"
        #: Its maturity changed otherwise, or its record is not what it was.
        WITHDRAWN = "withdrawn"

    agent = models.ForeignKey("governance.Agent", on_delete=models.PROTECT, related_name="proposals")
    agent_label = models.CharField(max_length=60)
    before = models.CharField(max_length=12)
    after = models.CharField(max_length=12)
    #: The figures that it was proposed by.
    figures = models.JSONField()
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.PENDING)
    proposed_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    decided_label = models.CharField(max_length=200, blank=True)
    reason = models.TextField(blank=True)

    class Meta:
        default_permissions = ("view",)
        ordering = ["-id"]
        verbose_name = "proposed promotion"
        constraints = [
            models.UniqueConstraint(
                fields=["agent"], condition=models.Q(status="pending"), name="promotion_one_pending"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent_label} to {self.after}"
