"""The reads of the hot path: what every request, claim, start and record asks. Each is compiled once."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connection, models
from django.db.models import QuerySet
from django.db.models.base import ModelState

from audit import driver
from audit.models import AuditPayload
from audit.statements import Prepared
from governance.models import Agent
from shellagent.models import AgentHost, ExecutionRecord, Host, SessionQuerySet, ShellSession
from shellagent.states import Status

Model = TypeVar("Model", bound=models.Model)


@cache
def _columns(model: type[models.Model], prefix: str = "") -> tuple[str, ...]:
    return tuple(prefix + field.attname for field in model._meta.concrete_fields)


def _instance(model: type[Model], row: tuple[Any, ...], start: int = 0) -> Model:
    """Return what `from_db` would make of a row with every column, at a fifth of its cost: no signals, no deferring."""
    names = _columns(model)
    made = model.__new__(model)
    made._state = ModelState()
    made._state.adding, made._state.db = False, DEFAULT_DB_ALIAS
    made.__dict__.update(zip(names, row[start : start + len(names)], strict=True))
    return made


_HOST_BY_KEY = Prepared(
    lambda digest, same: Host.objects.filter(
        models.Q(key_digest=digest) | models.Q(previous_key_digest=same)
    ).values_list(*_columns(Host)),
    str,
    str,
)


def host_by_key(digest: str) -> Host | None:
    """Return the host whose key, or the key before it, has this digest."""

    def read() -> Host | None:
        rows = _HOST_BY_KEY.rows(digest, digest)
        return _instance(Host, rows[0]) if rows else None

    return driver.once((Host, digest), read)


_WISHES = Prepared(
    lambda host_id: Host.objects.filter(pk=host_id).values_list("desired_state", "has_looks", "wants_new_key"), int
)


def wishes_of(host_id: int) -> tuple[str, bool, bool]:
    """Return the state that is wanted of a host now, and whether it is to look at scripts, and to renew its key.

    Raises LookupError where it is gone.
    """
    rows = _WISHES.rows(host_id)
    if not rows:
        raise LookupError(f"no host {host_id}")
    return str(rows[0][0]), bool(rows[0][1]), bool(rows[0][2])


_LINKS_OF_AGENT = Prepared(
    lambda agent_id: AgentHost.objects.filter(agent_id=agent_id).values_list(
        *_columns(AgentHost), *_columns(Host, "host__")
    ),
    int,
)


def links_of_agent(agent_id: int) -> list[AgentHost]:
    """Return which hosts an agent may use, each with its host loaded."""
    found = []
    for row in _LINKS_OF_AGENT.rows(agent_id):
        link = _instance(AgentHost, row)
        link.host = _instance(Host, row, len(_columns(AgentHost)))
        found.append(link)
    return found


_LINKS_OF_HOST = Prepared(
    lambda host_id: AgentHost.objects.filter(host_id=host_id).values_list(*_columns(AgentHost)), int
)


def links_of_host(host_id: int) -> dict[int, AgentHost]:
    """Return what each agent may do on a host, by the agent's id."""

    def read() -> dict[int, AgentHost]:
        links = [_instance(AgentHost, row) for row in _LINKS_OF_HOST.rows(host_id)]
        return {link.agent_id: link for link in links}

    return driver.once((AgentHost, host_id), read)


def rows_in(statuses: Collection[Status], *columns: str) -> list[tuple[Any, ...]]:
    """Return these columns of every session in states that few sessions are in, as they are at one moment.

    A part of the query for each state, and whatever narrows, groups or orders is the caller's to do: else a database
    may read all that was ever asked for.
    """
    parts = [ShellSession.objects.filter(status=status).order_by().values_list(*columns) for status in statuses]
    return list(parts[0].union(*parts[1:], all=True) if len(parts) > 1 else parts[0])


def claimable(host_id: int, now: datetime) -> SessionQuerySet:
    """Return a host's queue in order, as the claim reads it."""
    return ShellSession.objects.filter(host_id=host_id, status=Status.QUEUED, expires_at__gt=now).order_by("queue_key")


_HAS_CLAIMABLE = Prepared(lambda host_id, now: claimable(host_id, now).values_list("pk")[:1], int, datetime)


def has_claimable(host_id: int, now: datetime) -> bool:
    """Return whether a host's queue holds anything."""
    return bool(_HAS_CLAIMABLE.rows(host_id, now))


def _with_agent(sessions: SessionQuerySet) -> QuerySet[ShellSession, tuple[Any, ...]]:
    return sessions.values_list(*_columns(ShellSession), *_columns(Agent, "agent__"))


@cache
def _next_claimable(limit: int, vendor: str) -> Prepared:
    def build(host_id: int, now: datetime) -> QuerySet[ShellSession, tuple[Any, ...]]:
        queue = claimable(host_id, now)
        if vendor == "postgresql":
            queue = queue.select_for_update(skip_locked=True, of=("self",))
        return _with_agent(queue)[:limit]

    return Prepared(build, int, datetime)


def next_claimable(host_id: int, now: datetime, limit: int) -> list[ShellSession]:
    """Return the first of a host's queue, locked where the database can, each with its agent loaded."""
    return [_session(row) for row in _next_claimable(limit, connection.vendor).rows(host_id, now)]


def _session(row: tuple[Any, ...]) -> ShellSession:
    session = _instance(ShellSession, row)
    session.agent = _instance(Agent, row, len(_columns(ShellSession)))
    return session


def _locked_query(ids: list[UUID]) -> QuerySet[ShellSession, tuple[Any, ...]]:
    rows = ShellSession.objects.filter(pk__in=ids)
    if connection.vendor == "postgresql":
        rows = rows.select_for_update(of=("self",))
    return _with_agent(rows)


_LOCKED = Prepared(_locked_query, list)


def sessions_of_host(host_id: int, ids: list[UUID]) -> dict[UUID, ShellSession]:
    """Return these sessions of a host by their id, locked where the database can, each with its agent loaded."""
    # Asked for by their keys alone: a planner that knows little of the table reads all that the host ever ran.
    sessions = [_session(row) for row in _LOCKED.rows(ids)]
    return {session.pk: session for session in sessions if session.host_id == host_id}


CLAIMED_BEFORE = Prepared(
    lambda host_id, claim_key: ShellSession.objects.filter(
        host_id=host_id,
        status__in=[Status.CLAIMED.value, Status.RUNNING.value],
        lease_expires_at__isnull=False,
        claim_key=claim_key,
    ).values_list(*_columns(ShellSession)),
    int,
    str,
)


def claimed_with(host_id: int, claim_key: str) -> list[ShellSession]:
    """Return the sessions that a host claimed with this key and that have not ended."""
    return [_instance(ShellSession, row) for row in CLAIMED_BEFORE.rows(host_id, claim_key)]


_STATUS = Prepared(lambda session_id: ShellSession.objects.filter(pk=session_id).values_list("status"), UUID)


def session_status(session_id: UUID) -> Status:
    """Return where a session is now. Raises LookupError where there is none."""
    rows = _STATUS.rows(session_id)
    if not rows:
        raise LookupError(f"no session {session_id}")
    return Status(rows[0][0])


_RECORDS = Prepared(
    lambda ids: ExecutionRecord.objects.filter(session_id__in=ids).values_list("session_id", "digest", "is_late"), list
)


def records_of(ids: list[UUID]) -> dict[UUID, list[tuple[str, bool]]]:
    """Return the `(digest, is_late)` of every record that is kept of these sessions."""
    found: dict[UUID, list[tuple[str, bool]]] = {}
    for session_id, digest, is_late in _RECORDS.rows(ids):
        found.setdefault(session_id, []).append((digest, is_late))
    return found


_OUTPUT_PLACES = Prepared(
    lambda ids: AuditPayload.objects.filter(
        session_id__in=ids, kind__in=[AuditPayload.Kind.STDOUT.value, AuditPayload.Kind.STDERR.value]
    ).values_list("session_id", "kind", "offset"),
    list,
)


def output_places(ids: list[UUID]) -> set[tuple[UUID, str, int]]:
    """Return where output of these sessions is stored already, erased parts too."""
    return {(row[0], str(row[1]), int(row[2])) for row in _OUTPUT_PLACES.rows(ids)}


_WHOLE_RECORDS = Prepared(
    lambda ids: (
        ExecutionRecord.objects.filter(session_id__in=ids).order_by("is_late").values_list(*_columns(ExecutionRecord))
    ),
    list,
)


def whole_records_of(ids: list[UUID]) -> list[ExecutionRecord]:
    """Return every record that is kept of these sessions, late ones last."""
    return [_instance(ExecutionRecord, row) for row in _WHOLE_RECORDS.rows(ids)]


_WITH = Prepared(
    lambda session_id: ShellSession.objects.filter(pk=session_id).values_list(
        *_columns(ShellSession), *_columns(Agent, "agent__"), *_columns(Host, "host__")
    ),
    UUID,
)


def session_with(session_id: UUID) -> ShellSession:
    """Return a session with its agent and host loaded. Raises LookupError where there is none."""
    rows = _WITH.rows(session_id)
    if not rows:
        raise LookupError(f"no session {session_id}")
    session = _session(rows[0])
    session.host = _instance(Host, rows[0], len(_columns(ShellSession)) + len(_columns(Agent)))
    return session


def session_of_agent(session_id: UUID, agent_id: int) -> ShellSession | None:
    """Return a session of this agent's with its agent and host loaded, or None where it has none like that."""
    try:
        session = session_with(session_id)
    except LookupError:
        return None
    return session if session.agent_id == agent_id else None


_NEEDS = Prepared(
    lambda host_id, ids, due_before: ShellSession.objects.filter(
        models.Q(lease_expires_at__lt=due_before) | models.Q(cancel_requested_at__isnull=False),
        host_id=host_id,
        pk__in=ids,
        status__in=[Status.CLAIMED.value, Status.RUNNING.value],
    ).values_list("pk", "status", "lease_expires_at", "cancel_requested_at", "cancel_reason"),
    int,
    list,
    datetime,
)


@dataclass(frozen=True, slots=True)
class Needs:
    """What sessions at a host need: `due` a new lease, `cancels` to be stopped, each with why."""

    due: tuple[UUID, ...] = ()
    cancels: tuple[tuple[UUID, str], ...] = ()


def needs_of(host_id: int, ids: list[UUID], due_before: datetime) -> Needs:
    """Return what these sessions of a host need; a lease is due where it ends before that time."""
    rows = _NEEDS.rows(host_id, ids, due_before)
    return Needs(
        tuple(pk for pk, _status, lease, *_rest in rows if lease is not None and lease < due_before),
        tuple((pk, why) for pk, status, _lease, asked, why in rows if asked is not None and status == Status.RUNNING),
    )
