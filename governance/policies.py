"""The policy in force: the rows a person edits and the shipped tables, as one frozen value kept in memory."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from audit import driver
from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Party, record
from governance.models import DirectoryRow, MatrixRow, PolicyGeneration, PolicyRule, PolicyVersion
from governance.policy.content import content_of, table_files
from governance.policy.decide import ENGINE, Policy, build_policy
from governance.policy.paths import SHIPPED_PROTECTED
from governance.policy.types import Access, Category, DirectoryRule, Maturity, Outcome


@dataclass(frozen=True, slots=True)
class _Kept:
    """The policy that this process holds, and until when it is the one in force."""

    database: str
    generation: int
    #: When the next rule expires.
    until: datetime | None
    policy: Policy

    def is_of(self, database: str, generation: int, now: datetime) -> bool:
        return (self.database, self.generation) == (database, generation) and (self.until is None or now < self.until)


_kept: _Kept | None = None
_told_of_tables = ""


def current_policy() -> Policy:
    """Return the policy in force, read again whenever a rule has changed or expired. One small query when none has."""
    database = str(connection.settings_dict["NAME"])
    generation, now = policy_generation(), timezone.now()
    kept = _kept
    if kept is not None and kept.is_of(database, generation, now):
        return kept.policy
    with transaction.atomic():
        generation = policy_generation()
        policy, until = _read(now)
        _tell_of_tables(database)
        if _keep_version(policy, now):
            # A transaction that is taken back takes its generation with it, which then comes to mean other rules.
            transaction.on_commit(lambda: _keep(_Kept(database, generation, until, policy)))
    return policy


def stored_policy() -> Policy:
    """Return the policy that the rows make now, and keep nothing: for looking at changes that may be taken back."""
    policy, _until = _read(timezone.now())
    return policy


def policy_changed() -> None:
    """Tell every process, in the caller's transaction, that the rules or the kill switches are others now."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE governance_policygeneration SET number = number + 1 WHERE id = 1")
        if cursor.rowcount == 0:
            PolicyGeneration.objects.create(id=1, number=1)


def policy_generation() -> int:
    """Return the number that every change of a rule or a kill switch raises. The clerk reads it once a transaction."""
    rows = driver.once(
        "policy generation", lambda: driver.fetch("SELECT number FROM governance_policygeneration WHERE id = 1", ())
    )
    return int(rows[0][0]) if rows else 0


def _read(now: datetime) -> tuple[Policy, datetime | None]:
    """Return the policy of the rows, without rules that have expired, and when the next one expires."""
    matrix = {(Category(row.category), Maturity(row.maturity)): Outcome(row.outcome) for row in MatrixRow.objects.all()}
    directories = tuple(
        DirectoryRule(row.root, Access(row.access), Maturity(row.least_maturity))
        for row in DirectoryRow.objects.order_by("root")
    )
    rows = list(PolicyRule.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now)).order_by("id"))
    rules = [rule for row in rows if (rule := row.value_or_strict()) is not None]
    until = min((row.expires_at for row in rows if row.expires_at), default=None)
    return build_policy(matrix, directories, rules), until


def _keep(kept: _Kept) -> None:
    global _kept  # noqa: PLW0603  (a cache of one value, guarded by its generation)
    _kept = kept


def _keep_version(policy: Policy, now: datetime) -> bool:
    """Write what the policy was made of, once; False where another process is writing it and may yet take it back.

    Nobody waits for that row: each writer may hold what the other one needs next.
    """
    if PolicyVersion.objects.filter(version=policy.version).exists():
        return True
    if connection.vendor == "postgresql" and not _is_only_writer(policy.version):
        return False
    content = PolicyVersion.packed(content_of(policy, table_files()))
    row = PolicyVersion(version=policy.version, engine=ENGINE, content=content, created_at=now)
    # It may have been written since it was looked for.
    PolicyVersion.objects.bulk_create([row], ignore_conflicts=True)
    return True


@cache
def _shipped() -> dict[str, str]:
    """Return the SHA-256 of each program table and of the protected paths, as read here, and the engine."""
    texts = {**table_files(), SHIPPED_PROTECTED.name: SHIPPED_PROTECTED.read_text(encoding="utf-8")}
    return {"engine": str(ENGINE), **{name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}}


def _tell_of_tables(database: str) -> None:
    """Write an event where the tables in force are others than the last such event says: a new release, or an edit.

    A person changes rules by `rule_save`; tables are files, so that the first process that reads them tells of them.
    Two that begin at once may both do so, and say the same.
    """
    if _told_of_tables == database:
        return
    last = AuditEvent.objects.filter(tag=Tag.POLICY_TABLES_CHANGED).order_by("-id").values_list("body", flat=True)
    before: dict[str, str] = next((json.loads(body)["data"]["after"] for body in last[:1]), {})
    after = _shipped()
    if before != after:
        changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        data = {"changed": changed, "before": before, "after": after}
        record(Event(Tag.POLICY_TABLES_CHANGED, SYSTEM, Party("rule", "tables", "the program tables"), data=data))
    transaction.on_commit(lambda: _tables_are_told(database))


def _tables_are_told(database: str) -> None:
    global _told_of_tables  # noqa: PLW0603  (once a process and database)
    _told_of_tables = database


def _is_only_writer(version: str) -> bool:
    """Take a lock until the end of the transaction, and return whether nobody had it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int(version[:15], 16)])
        return bool(cursor.fetchone()[0])
