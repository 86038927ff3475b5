"""The trail: append-only events, and the erasable bytes that they commit to."""

from typing import Any, NoReturn

from django.db import models


class AppendOnlyError(TypeError):
    """The audit trail takes new events only; nothing in it is changed or removed."""


class AppendOnlyQuerySet(models.QuerySet["AuditEvent"]):
    """Reads like any other; refuses to change or remove, before the database's own triggers would."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError(AppendOnlyError.__doc__)

    def delete(self) -> NoReturn:
        raise AppendOnlyError(AppendOnlyError.__doc__)


class AuditEvent(models.Model):
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
    body = models.TextField()
    #: SHA-256 of `body`, hexadecimal.
    hash = models.CharField(max_length=64)

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
        ]

    def __str__(self) -> str:
        return f"{self.tag} {self.subject_label}".strip()

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError(AppendOnlyError.__doc__)


class AuditPayload(models.Model):
    """Bytes that belong to a session and that erasure may take out: the request, decisions and output.

    The event that they belong to holds SHA-256(salt and bytes), so that erasing leaves the trail valid. `offset` is the
    byte offset for output and a counter for the rest.
    """

    class Kind(models.TextChoices):
        REQUEST = "request"
        DECISION = "decision"
        STDOUT = "stdout"
        STDERR = "stderr"

    session_id = models.UUIDField()
    kind = models.CharField(max_length=10, choices=Kind.choices)
    offset = models.PositiveBigIntegerField(default=0)
    salt = models.BinaryField(max_length=16)
    data = models.BinaryField()
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["session_id", "kind", "offset"], name="audit_payload_place"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.session_id} at {self.offset}"
