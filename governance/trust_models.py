"""What stops agents, and what they earn: kept here, filled from sessions by the services above."""

from django.conf import settings
from django.db import models


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
