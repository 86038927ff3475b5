"""The trail: append-only events, and the erasable bytes that they commit to."""

from typing import Any, NoReturn, TypeVar

from django.conf import settings
from django.db import models


class AppendOnlyError(TypeError):
    """The audit trail takes new events only; nothing in it is changed or removed."""


Row = TypeVar("Row", bound=models.Model)


class AppendOnlyQuerySet(models.QuerySet[Row]):
    """Reads like any other; refuses to change or remove, before the database's own triggers would."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError(AppendOnlyError.__doc__)

    def delete(self) -> NoReturn:
        raise AppendOnlyError(AppendOnlyError.__doc__)


class AppendOnly(models.Model):
    """A row that is added and never changed."""

    class Meta:
        abstract = True

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError(AppendOnlyError.__doc__)


class AuditEvent(AppendOnly):
    """One line of what happened. `body` is the truth, in canonical JSON; the columns are copies to search by."""

    uid = models.UUIDField(unique=True)
    #: The session that the event belongs to, and its number among that session's events, from 1 without a gap.
    session_id = models.UUIDField(null=True)
    session_seq = models.PositiveIntegerField(null=True)
    occurred_at = models.DateTimeField("time", db_index=True)
    tag = models.CharField("event", max_length=40)
    actor_type = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_label = models.CharField("actor", max_length=200, blank=True)
    subject_type = models.CharField(max_length=16)
    subject_id = models.CharField(max_length=64, blank=True)
    subject_label = models.CharField("subject", max_length=200, blank=True)
    outcome = models.CharField(max_length=20, blank=True)
    #: What it is about besides its parties; null rather than empty, so that a column is added without a rewrite.
    agent_id = models.BigIntegerField(null=True)
    host_id = models.BigIntegerField(null=True)
    category = models.CharField(max_length=10, null=True)  # noqa: DJ001
    body = models.TextField()
    #: SHA-256 of `body`, hexadecimal.
    hash = models.CharField(max_length=64)
    #: What `audit.event_signatures` made of `hash`; null for events from before there were signatures.
    signature = models.TextField(null=True)  # noqa: DJ001

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        permissions = [
            ("view_audit", "Can read the audit trail"),
            ("export_audit", "Can export the audit trail"),
            ("erase", "Can erase stored output and requests"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["session_id", "session_seq"], name="audit_event_session_seq"),
        ]
        indexes = [
            models.Index(fields=["tag", "-id"], name="audit_event_tag"),
            models.Index(fields=["actor_type", "actor_id", "-id"], name="audit_event_actor"),
            models.Index(fields=["subject_type", "subject_id", "-id"], name="audit_event_subject"),
            models.Index(
                fields=["agent_id", "-id"], condition=models.Q(agent_id__isnull=False), name="audit_event_agent"
            ),
            models.Index(fields=["host_id", "-id"], condition=models.Q(host_id__isnull=False), name="audit_event_host"),
            models.Index(
                fields=["category", "-id"], condition=models.Q(category__isnull=False), name="audit_event_category"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tag} {self.subject_label}".strip()


class AuditPending(models.Model):
    """An event that has no leaf yet. A trigger of the database adds it, in the event's own transaction."""

    event = models.OneToOneField(
        AuditEvent, on_delete=models.PROTECT, primary_key=True, related_name="+", db_constraint=False
    )
    #: Why it cannot be sealed, where it is not what was signed; empty while it only waits.
    refusal = models.CharField(max_length=100, default="", db_default="", blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"event {self.event_id} waits"


class AuditLeaf(AppendOnly):
    """An event's place in the log, from 0 without a gap, and the RFC 6962 hash of its leaf."""

    index = models.BigIntegerField(primary_key=True)
    # Rows that nobody can remove need no constraint, and its check would cost each event as much as its trigger.
    event = models.OneToOneField(AuditEvent, on_delete=models.PROTECT, related_name="+", db_constraint=False)
    hash = models.BinaryField(max_length=32)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"leaf {self.index}"


class AuditCheckpoint(AppendOnly):
    """A signed statement of how long the log is and what its root is. `note` is the truth (`audit.notes`)."""

    #: From 1 without a gap.
    number = models.BigIntegerField(primary_key=True)
    size = models.BigIntegerField()
    sealed_at = models.DateTimeField()
    note = models.TextField()
    #: SHA-256 of `note` and of the note before it, hexadecimal.
    digest = models.CharField(max_length=64, unique=True)
    previous = models.CharField(max_length=64, unique=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["size"], name="audit_checkpoint_size")]

    def __str__(self) -> str:
        return f"checkpoint {self.number} of {self.size} events"


class AuditAnchor(AppendOnly):
    """Where a checkpoint was published outside the database."""

    checkpoint = models.ForeignKey(AuditCheckpoint, on_delete=models.PROTECT, related_name="+", db_constraint=False)
    sink = models.CharField(max_length=200)
    anchored_at = models.DateTimeField()

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["sink", "-checkpoint"], name="audit_anchor_newest")]

    def __str__(self) -> str:
        return f"{self.checkpoint_id} at {self.sink}"


class AuditRetirement(AppendOnly):
    """A signed statement that the events before a leaf may go, because a verified bundle holds them.

    `note` is the truth (`audit.retiring`). Leaves and checkpoints stay, so that the log still verifies.
    """

    #: From 1 without a gap.
    number = models.BigIntegerField(primary_key=True)
    #: The events of leaves below this one may go.
    size = models.BigIntegerField(unique=True)
    note = models.TextField()
    retired_at = models.DateTimeField()

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"retired to {self.size}"


class AuditSink(models.Model):
    """Whether a sink takes what is published. No part of the trail: what was published is an `AuditAnchor`."""

    #: Without what may be secret in it (`audit.anchors.sink_label`).
    name = models.CharField(primary_key=True, max_length=200)
    #: Empty once it works again; when it failed last stays.
    error = models.CharField(max_length=300, blank=True)
    failed_at = models.DateTimeField(null=True)
    failing_since = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class AuditVerdict(models.Model):
    """What the server last said of its own trail: one row, signed (`audit.verdicts`)."""

    body = models.TextField()
    #: Base64 of the key's id and the signature over `body`.
    signature = models.TextField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return "the verdict on the trail"


class AuditWatch(models.Model):
    """One row that is written again and again, to know that writing works. No part of the trail."""

    looked_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"looked at {self.looked_at}"


class AuditLoss(models.Model):
    """An event that could not be written, on a host in best effort. Told of, and removed, once one can be again."""

    tag = models.CharField(max_length=40)
    host_id = models.BigIntegerField(null=True)
    session_id = models.UUIDField(null=True)
    session_seq = models.PositiveIntegerField(null=True)
    lost_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.tag} of {self.session_id}"


class AuditPayload(models.Model):
    """Bytes that belong to a session and that erasure may take out: the request, decisions and output.

    The event that they belong to holds SHA-256(salt and bytes), so that erasing leaves the trail valid. `offset` is the
    byte offset for output and a counter for the rest. An erased row stays, without salt and bytes: it keeps its place,
    its size and the commitment, which an event of the erasure or of the retention repeats.
    """

    class Kind(models.TextChoices):
        REQUEST = "request"
        DECISION = "decision"
        STDOUT = "stdout"
        STDERR = "stderr"
        SCRIPTS = "scripts"

    session_id = models.UUIDField()
    kind = models.CharField(max_length=10, choices=Kind.choices)
    offset = models.PositiveBigIntegerField(default=0)
    salt = models.BinaryField(max_length=16)
    data = models.BinaryField()
    created_at = models.DateTimeField()
    erased_at = models.DateTimeField(null=True)
    #: Both only once it is erased: until then they follow from salt and bytes.
    commitment = models.CharField(max_length=64, null=True)  # noqa: DJ001
    size = models.PositiveBigIntegerField(null=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["session_id", "kind", "offset"], name="audit_payload_place"),
        ]
        indexes = [
            # What can still age out; an erased row is not looked at again.
            models.Index(fields=["created_at"], condition=models.Q(erased_at=None), name="audit_payload_age"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.session_id} at {self.offset}"


class AuditErasure(models.Model):
    """A wish to erase what is stored of one session, and what a second person said to it."""

    class Part(models.TextChoices):
        REQUEST = "request", "what was asked: command, argv, reason and environment, and the words of the decisions"
        OUTPUT = "output", "what it printed"
        ALL = "all", "both"

    class State(models.TextChoices):
        WAITING = "waiting"
        ERASED = "erased"
        REFUSED = "refused"

    session_id = models.UUIDField()
    part = models.CharField(max_length=7, choices=Part.choices)
    reason = models.TextField()
    state = models.CharField(max_length=7, choices=State.choices, default=State.WAITING)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    requested_by_label = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    decided_by_label = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["session_id"], condition=models.Q(state="waiting"), name="audit_erasure_one_waits"
            ),
        ]
        indexes = [models.Index(fields=["session_id"], name="audit_erasure_session")]

    def __str__(self) -> str:
        return f"erasure of {self.part} of {self.session_id}"


class AuditDay(models.Model):
    """How many events of a tag a day had. Counted by a task, so that no page counts the trail."""

    day = models.DateField()
    tag = models.CharField(max_length=40)
    count = models.PositiveBigIntegerField()
    #: The lowest and the highest number of these events: between them a filter by day looks.
    first_id = models.PositiveBigIntegerField(default=0)
    last_id = models.PositiveBigIntegerField(default=0)
    #: False while the day is not over and may get more.
    is_final = models.BooleanField(default=False)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["day", "tag"], name="audit_day_tag")]

    def __str__(self) -> str:
        return f"{self.count} of {self.tag} on {self.day}"
