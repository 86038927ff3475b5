"""Where messages go, what is to be told, and what became of each message. All state is here, so that nothing is lost
with a process.

A `Notice` is written in the transaction of the event that it tells of. Later a worker spreads notices over the sinks
that want them, gathered into a `Message` each, and delivers those; an `Attempt` tells of each try.
"""

from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from uuid_utils.compat import uuid7

from governance.models import Agent
from shellagent.notifying.kinds import CHOICES, Kind


def all_kinds() -> list[str]:
    """Return every kind that a sink can choose."""
    return [kind.value for kind in CHOICES]


def message_name() -> str:
    """Return a new message's id. It stays the same over every attempt, so that a receiver knows a repetition."""
    return f"msg_{uuid7().hex}"


def check_zone(name: str) -> None:
    """Raise ValidationError for what is no time zone."""
    if name not in available_timezones():
        raise ValidationError(f"{name!r} is no time zone. Write one like Europe/Berlin.")


class Sink(models.Model):
    """A place that messages are sent to. Its address and its signing secret are kept encrypted."""

    class Way(models.TextChoices):
        APPRISE = "apprise", "a service, by its Apprise URL"
        EMAIL = "email", "email"
        WEBHOOK = "webhook", "a signed webhook"

    class Detail(models.TextChoices):
        LINK = "link", "that something happened, and the link"
        FACTS = "facts", "agent, host and category too"
        COMMAND = "command", "the command too (it may hold what nobody recognised as a secret)"

    name = models.CharField(max_length=60, unique=True)
    way = models.CharField("way", max_length=8, choices=Way.choices)
    is_enabled = models.BooleanField("enabled", default=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="sinks",
        help_text="Whose it is: their quiet hours count, and they are not told what they did themselves. "
        "Empty: a channel of several people.",
    )
    kinds = models.JSONField("tells when", default=all_kinds)
    detail = models.CharField("says", max_length=8, choices=Detail.choices, default=Detail.FACTS)
    group_seconds = models.PositiveIntegerField(
        "gather for (seconds)",
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(24 * 3600)],
        help_text="The first is told at once; what comes within this time after a message is told together.",
    )
    most_per_hour = models.PositiveIntegerField(
        "messages an hour at most", default=60, validators=[MinValueValidator(1), MaxValueValidator(3600)]
    )
    address = models.TextField(editable=False)
    #: The address as it may be shown: without what could be a secret.
    address_shown = models.CharField("address", max_length=200, editable=False)
    secret = models.TextField(editable=False, blank=True)
    #: No message before that, but for what is urgent.
    next_at = models.DateTimeField(null=True, editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)
    last_error = models.CharField(max_length=300, blank=True, editable=False)
    last_sent_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def wants(self, kind: str) -> bool:
        """Return whether this kind is told here."""
        return kind in self.kinds


class Preference(models.Model):
    """When a person is left in peace, and who is told where they did not decide in time."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notify_preference")
    time_zone = models.CharField(max_length=60, default="UTC", validators=[check_zone])
    quiet_from = models.TimeField(null=True, blank=True, help_text="In their own time, such as 22:00.")
    quiet_until = models.TimeField(null=True, blank=True, help_text="Such as 07:30, also after midnight.")
    escalate_after_minutes = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(24 * 60)],
        help_text="Empty: nobody else is told.",
    )
    escalate_to = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Told, in quiet hours too, what was told to this person and nobody decided on since.",
    )

    class Meta:
        verbose_name = "quiet hours and escalation"
        verbose_name_plural = "quiet hours and escalation"

    def __str__(self) -> str:
        return str(self.user)

    def clean(self) -> None:
        """Raise ValidationError where one half of a pair is missing."""
        if (self.quiet_from is None) != (self.quiet_until is None):
            raise ValidationError("Give both ends of the quiet hours, or neither.")
        if (self.escalate_after_minutes is None) != (self.escalate_to is None):
            raise ValidationError("Give both the minutes and the person, or neither.")
        if self.escalate_to is not None and self.escalate_to_id == self.user_id:
            raise ValidationError({"escalate_to": "That is the same person."})

    @property
    def zone(self) -> ZoneInfo:
        """Return the time zone."""
        return ZoneInfo(self.time_zone)


class Notice(models.Model):
    """One thing to tell. Its uid is that of its event, or made of what it tells, so that nothing is told twice."""

    uid = models.UUIDField(unique=True)
    kind = models.CharField(max_length=20, choices=[(kind.value, kind.value) for kind in Kind])
    occurred_at = models.DateTimeField()
    session_id = models.UUIDField(null=True)
    agent_id = models.BigIntegerField(null=True)
    host_id = models.BigIntegerField(null=True)
    category = models.CharField(max_length=10, blank=True)
    outcome = models.CharField(max_length=20, blank=True)
    #: What it is about, where that is no session.
    subject = models.CharField(max_length=200, blank=True)
    actor = models.CharField(max_length=200, blank=True)
    actor_user_id = models.BigIntegerField(null=True)
    #: Only to this person, or to this sink; to all where both are empty.
    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+")
    sink = models.ForeignKey(Sink, on_delete=models.CASCADE, null=True, related_name="+")
    spread_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(fields=["id"], condition=models.Q(spread_at=None), name="notice_unspread"),
            models.Index(fields=["session_id", "kind"], name="notice_by_session"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} at {self.occurred_at:%Y-%m-%d %H:%M:%S}"


class Message(models.Model):
    """What is sent to one place at once: several notices to a sink, or one session to its agent's callback address."""

    class State(models.TextChoices):
        HELD = "held", "until the session ends"
        OPEN = "open", "to be sent"
        SENDING = "sending", "being sent"
        RETRY = "retry", "to be tried again"
        SENT = "sent", "sent"
        GIVEN_UP = "given-up", "given up"

    name = models.CharField("id", max_length=40, unique=True, default=message_name)
    #: Empty for a callback.
    sink = models.ForeignKey(Sink, on_delete=models.CASCADE, null=True, related_name="messages")
    notices: "models.ManyToManyField[Notice, Any]" = models.ManyToManyField(Notice, related_name="messages")
    #: Of a callback: the session that is told, and its agent, whose secret signs.
    session_id = models.UUIDField(null=True, unique=True)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, null=True, related_name="+")
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    due_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    first_tried_at = models.DateTimeField(null=True)
    #: While it is being sent: when another worker may take it for one that died.
    leased_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view", "change")
        indexes = [
            models.Index(
                fields=["due_at"], condition=models.Q(state__in=["open", "retry", "sending"]), name="message_due"
            ),
            models.Index(fields=["session_id"], condition=models.Q(state="held"), name="message_held"),
            models.Index(fields=["sink", "-first_tried_at"], name="message_by_sink"),
            models.Index(fields=["created_at"], name="message_by_age"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["sink"], condition=models.Q(state="open", attempts=0), name="message_one_open_a_sink"
            ),
            models.CheckConstraint(
                condition=models.Q(sink__isnull=False) | models.Q(session_id__isnull=False), name="message_has_a_place"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Attempt(models.Model):
    """One try to deliver a message."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="tries")
    at = models.DateTimeField()
    is_delivered = models.BooleanField()
    #: Of an HTTP answer.
    status = models.PositiveSmallIntegerField(null=True)
    detail = models.CharField(max_length=300)
    duration_ms = models.PositiveIntegerField()

    class Meta:
        default_permissions = ()
        ordering = ["id"]

    def __str__(self) -> str:
        return self.detail


class Bell(models.Model):
    """One row: whether a worker was asked to look since it last did. It keeps a thousand events from queueing a
    thousand tasks."""

    is_rung = models.BooleanField(default=False)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return "rung" if self.is_rung else "not rung"


class CallbackPlace(models.Model):
    """A beginning of addresses that agents may name as `callback_url`."""

    prefix = models.CharField(
        "addresses that begin with",
        max_length=500,
        help_text="Such as https://ci.example.com/atom/. Scheme, host and port count whole, and the path by its parts.",
    )
    agent = models.ForeignKey(
        Agent,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty: every agent may name it.",
    )
    note = models.CharField(max_length=200, blank=True, help_text="Whose it is, and why.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "callback address"
        verbose_name_plural = "callback addresses"
        ordering = ["prefix"]

    def __str__(self) -> str:
        return self.prefix


class CallbackSecret(models.Model):
    """What an agent's callbacks are signed with. Kept encrypted; the one before it signs too for a day."""

    agent = models.OneToOneField(Agent, on_delete=models.CASCADE, related_name="callback_secret")
    secret = models.TextField(editable=False)
    previous = models.TextField(editable=False, blank=True)
    previous_until = models.DateTimeField(null=True, editable=False)
    issued_at = models.DateTimeField(editable=False)

    class Meta:
        default_permissions = ("view", "change")
        verbose_name = "callback secret"

    def __str__(self) -> str:
        return f"of {self.agent}"
