"""Hosts, sessions and what can happen to a session more than once."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

from audit import driver
from audit.statements import preparer
from governance.models import MATURITY_CHOICES, Agent, AgentKey
from shellagent.host_keys import HostKeys
from shellagent.protocol import Desired
from shellagent.session_writes import row_update, update_rows
from shellagent.states import AUDIT_MODES, TRANSITIONS, Numbered, Status


class Host(HostKeys):
    """A machine, and the local agent on it. A host without a key digest is not enrolled yet."""

    name = models.CharField(
        max_length=60,
        unique=True,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", "Use letters, digits, dots and dashes.")],
    )
    is_enabled = models.BooleanField("enabled", default=True)
    is_local = models.BooleanField(
        "is this server's own machine", default=False, help_text="Only such a host's process is started from here."
    )
    desired_state = models.CharField(
        max_length=8, choices=[(item.value, item.value) for item in Desired], default=Desired.RUNNING.value
    )
    audit_mode = models.CharField(
        max_length=11, choices=AUDIT_MODES, default="strict", db_default="strict", editable=False
    )
    instance_id = models.CharField(max_length=64, blank=True, editable=False)
    boot_id = models.CharField(max_length=64, blank=True, editable=False)
    version = models.CharField(max_length=32, blank=True, editable=False)
    facts = models.JSONField(default=dict, editable=False)
    protections = models.JSONField(default=list, editable=False)
    #: As of `last_seen_at`.
    spool = models.PositiveIntegerField(default=0, editable=False)
    #: How far the host's clock is ahead of the server's.
    clock_skew_ms = models.BigIntegerField(null=True, editable=False)
    last_error = models.CharField(max_length=500, blank=True, editable=False)
    last_error_at = models.DateTimeField(null=True, editable=False)
    #: Whether a person is to decide on scripts whose content it has not told of.
    has_looks = models.BooleanField(default=False, editable=False)
    last_seen_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        permissions = [("control_host", "Can start, stop and enrol hosts")]

    def __str__(self) -> str:
        return self.name


class EnrolmentCode(models.Model):
    """A one-use code that turns a machine into the host of this name. Only its digest is stored."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="enrolment_codes")
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"enrolment of {self.host}"


class AgentHost(models.Model):
    """An agent may use a host: whether by default, in which folder, and how much of its maturity counts there."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="hosts")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="agents")
    is_default = models.BooleanField("default", default=False)
    working_directory = models.CharField(
        max_length=500, blank=True, help_text="The agent's own folder there, read and write. Empty: the scratch folder."
    )
    maturity_cap = models.CharField(max_length=12, choices=MATURITY_CHOICES, blank=True)

    class Meta:
        verbose_name = "agent's host"
        constraints = [
            models.UniqueConstraint(fields=["agent", "host"], name="agent_host_once"),
            models.UniqueConstraint(
                fields=["agent"], condition=models.Q(is_default=True), name="agent_host_one_default"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent} on {self.host}"


class SessionQuerySet(models.QuerySet["ShellSession"]):
    """Sessions, and the one guarded write that changes a status."""

    def move(self, to: Status, sources: Iterable[Status], **columns: Any) -> list[Numbered]:
        """Move every session of this set that is in one of `sources` to `to`. Call it inside a transaction.

        Returns what `move_ids` does.
        """
        return self.move_ids(self._locked(), to, sources, **columns)

    def move_ids(self, ids: Sequence[UUID], to: Status, sources: Iterable[Status], **columns: Any) -> list[Numbered]:
        """Move each of these sessions that is in one of `sources` to `to`, in one conditional UPDATE.

        Returns those that moved, each with its event's number; one that is missing was moved by somebody else first.
        Raises ValueError for an arrow that TRANSITIONS does not have.
        """
        states = sorted(sources)
        for source in states:
            if (source, to) not in TRANSITIONS:
                raise ValueError(f"no arrow leads from {source} to {to}")
        return update_rows(ShellSession, ids, states, {"status": to.value, **columns})

    def move_locked(self, rows: Sequence[tuple[UUID, int, Mapping[str, Any]]], way: Sequence[Status]) -> None:
        """Move sessions that were read under a lock, given as (id, event_seq, columns), all with the same columns.

        `way` begins with the status that they are in; each further one is an arrow with an event of its own.
        Raises ValueError for an arrow that TRANSITIONS does not have, MissedError, in a block of `driver.together` at
        its end, where one is not as it was read.
        """
        for source, to in pairwise(way):
            if (source, to) not in TRANSITIONS:
                raise ValueError(f"no arrow leads from {source} to {to}")
        fields, update = row_update(ShellSession, tuple(rows[0][2]), len(way) - 1)
        prepare = preparer(driver.database_now().vendor)
        key = ShellSession._meta.pk
        values = [
            (
                way[-1].value,
                *(prepare(field, value) for field, value in zip(fields, columns.values(), strict=True)),
                prepare(key, session_id),
                seq,
                way[0].value,
            )
            for session_id, seq, columns in rows
        ]
        driver.update_each(update, values)

    def number(self, **columns: Any) -> list[Numbered]:
        """Take the next event number of every session of this set, with these columns, whatever its status."""
        return update_rows(ShellSession, self._locked(), [], columns)

    def _locked(self) -> list[UUID]:
        return list(self.select_for_update(of=("self",)).order_by("pk").values_list("pk", flat=True))


class ShellSession(models.Model):
    """One command's whole life. Command, argv, environment and the agent's reason are an erasable payload."""

    id = models.UUIDField(primary_key=True, editable=False)
    status = models.CharField(max_length=10, choices=[(item.value, item.value) for item in Status])
    #: Order in the host's queue: microseconds since 1970. Not the primary key, whose scan a planner prefers.
    queue_key = models.BigIntegerField()
    event_seq = models.PositiveIntegerField(default=0)

    # No index of their own: the composite ones below serve agent and host, and nothing asks by the requester.
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="sessions", db_index=False)
    agent_label = models.CharField(max_length=60)
    maturity = models.CharField(max_length=12)
    requester_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    requester_key = models.ForeignKey(AgentKey, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    requester_label = models.CharField(max_length=200)
    host = models.ForeignKey(Host, on_delete=models.PROTECT, related_name="sessions", db_index=False)
    host_label = models.CharField(max_length=60)

    category = models.CharField(max_length=10)
    outcome = models.CharField(max_length=5)
    policy_version = models.CharField(max_length=64)
    digest = models.CharField(max_length=64)
    #: Digest of what the decision depended on besides the request; the same again means the same decision.
    circumstances = models.CharField(max_length=64)
    #: This server's word, by a key outside the database, that `digest` may run; empty while it may not.
    warrant = models.CharField(max_length=64, blank=True, editable=False)
    working_directory = models.CharField(max_length=4096, blank=True)
    timeout_seconds = models.PositiveSmallIntegerField()
    approval_required = models.BooleanField(default=False)

    created_at = models.DateTimeField(db_index=True)
    expires_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_reason = models.CharField(max_length=20, blank=True)

    instance_id = models.CharField(max_length=64, blank=True)
    boot_id = models.CharField(max_length=64, blank=True)
    claim_key = models.CharField(max_length=64, blank=True)
    start_key = models.CharField(max_length=64, blank=True)
    lease_expires_at = models.DateTimeField(null=True)

    termination_reason = models.CharField(max_length=20, blank=True)
    termination_detail = models.TextField(blank=True)
    exit_code = models.IntegerField(null=True)
    #: A person stepped in: `rejected`, `cancelled` or `aborted` (which its host may have been too late for).
    intervention = models.CharField(max_length=9, blank=True, default="", editable=False)

    objects = SessionQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        verbose_name = "session"
        permissions = [
            ("approve", "Can approve and reject commands"),
            ("execute_for_agent", "Can ask for commands in any agent's name"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=[item.value for item in Status]), name="session_status_known"
            ),
            models.CheckConstraint(
                condition=models.Q(timeout_seconds__gte=1, timeout_seconds__lte=300), name="session_timeout_in_range"
            ),
            models.CheckConstraint(
                condition=~models.Q(status="running") | (~models.Q(start_key="") & models.Q(started_at__isnull=False)),
                name="session_running_was_granted",
            ),
            models.CheckConstraint(
                condition=~models.Q(status__in=["claimed", "running"]) | models.Q(lease_expires_at__isnull=False),
                name="session_claimed_has_lease",
            ),
        ]
        indexes = [
            models.Index(fields=["host", "queue_key"], condition=models.Q(status="queued"), name="session_queue"),
            models.Index(
                fields=["host", "lease_expires_at"],
                condition=models.Q(status__in=["claimed", "running"]),
                name="session_leases",
            ),
            models.Index(
                fields=["expires_at"], condition=models.Q(status__in=["pending", "queued"]), name="session_expiry"
            ),
            models.Index(fields=["agent"], condition=models.Q(status="pending"), name="session_pending"),
            models.Index(fields=["agent", "-id"], name="session_by_agent"),
            models.Index(fields=["host", "-id"], name="session_by_host"),
            models.Index(fields=["status", "-id"], name="session_by_status"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Decision(models.Model):
    """What governance said, at the request, the approval or the claim. The whole object is a payload of the session."""

    class Moment(models.TextChoices):
        REQUEST = "request"
        APPROVAL = "approval"
        CLAIM = "claim"

    #: Without an index of its own: that of the constraint below begins with it.
    session = models.ForeignKey(ShellSession, on_delete=models.PROTECT, related_name="decisions", db_index=False)
    moment = models.CharField(max_length=8, choices=Moment.choices)
    #: The place of the whole decision among the session's payloads of kind `decision`.
    number = models.PositiveSmallIntegerField()
    outcome = models.CharField(max_length=5)
    category = models.CharField(max_length=10)
    rules = models.JSONField(default=list)
    maturity = models.CharField(max_length=12)
    policy_version = models.CharField(max_length=64)
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        constraints = [models.UniqueConstraint(fields=["session", "number"], name="decision_number_once")]

    def __str__(self) -> str:
        return f"{self.outcome} at {self.moment}"


class Approval(models.Model):
    """One approver's word on one session, bound to the digest of what they saw."""

    session = models.ForeignKey(ShellSession, on_delete=models.PROTECT, related_name="approvals")
    decision = models.CharField(max_length=7, choices=[("approve", "approve"), ("reject", "reject")])
    digest = models.CharField(max_length=64)
    approver = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    approver_label = models.CharField(max_length=200)
    address = models.GenericIPAddressField(null=True)
    reason = models.TextField(blank=True)
    decided_at = models.DateTimeField()
    voided_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["session", "approver"], condition=models.Q(voided_at=None), name="approval_one_a_decider"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.decision} by {self.approver_label}"


class ExecutionRecord(models.Model):
    """What the host reported of one run. Written once; one that comes after the session was lost is marked late."""

    #: Without an index of its own: that of the constraint below begins with it.
    session = models.ForeignKey(ShellSession, on_delete=models.PROTECT, related_name="records", db_index=False)
    #: SHA-256 of the canonical report: the same again is known, another one is a conflict.
    digest = models.CharField(max_length=64)
    is_late = models.BooleanField(default=False)
    outcome = models.CharField(max_length=10)
    reason = models.CharField(max_length=20)
    detail = models.TextField(blank=True)
    exit_codes = models.JSONField(default=list)
    stdout_bytes = models.PositiveBigIntegerField()
    stdout_sha256 = models.CharField(max_length=64)
    stderr_bytes = models.PositiveBigIntegerField()
    stderr_sha256 = models.CharField(max_length=64)
    is_truncated = models.BooleanField(default=False)
    duration_us = models.PositiveBigIntegerField()
    protections = models.JSONField(default=list)
    left_behind = models.JSONField(default=list)
    #: How far the ending had to go (`Rung`); empty in records from before it was told.
    rung = models.CharField(max_length=5, blank=True, default="")
    received_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["session", "is_late"], name="record_once"),
        ]

    def __str__(self) -> str:
        return f"{self.outcome} of {self.session_id}"


class IdempotencyKey(models.Model):
    """One Idempotency-Key of one caller, and the session that it made. Kept 24 hours."""

    scope = models.CharField(max_length=40)
    key = models.CharField(max_length=255)
    body_sha256 = models.CharField(max_length=64)
    session = models.ForeignKey(ShellSession, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["scope", "key"], name="idempotency_once")]

    def __str__(self) -> str:
        return self.key


class ServerStart(models.Model):
    """When web processes began to serve: no lease dies while hosts have had no minute to renew it."""

    started_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.started_at.isoformat()

    @classmethod
    def was_within(cls, period: timedelta, now: datetime) -> bool:
        """Return whether there was one so shortly ago; one that a clock ahead of time wrote is none."""
        return cls.objects.filter(started_at__gt=now - period, started_at__lt=now + period).exists()
