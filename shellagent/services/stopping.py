"""The kill switch: for everything, a host or an agent, it denies what is new, cancels what waits, aborts what runs.

The switch is one row and a higher number of the policy. That number is read by every request, claim and start, in every
web process, so that from its commit on nothing begins. What waits and what runs is then ended in steps of their own,
each of which may be done again: by who switched, by the host's poll, and by the worker.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from audit.tags import Tag
from audit.trail import NOTHING, About, Event, Party, record
from governance.errors import ConflictError, InvalidError, NotFoundError
from governance.models import Agent, KillSwitch
from governance.policies import policy_changed
from governance.stops import Stop, stops_in_force
from shellagent import limits, wake
from shellagent.models import Host, ShellSession
from shellagent.protocol import Reason
from shellagent.queries import rows_in
from shellagent.services.moving import session_note, sessions_move
from shellagent.states import Status

_WAITING = (Status.PENDING, Status.QUEUED, Status.CLAIMED)
_BATCH = 200


def killswitch_on(
    *, reason: str, actor: Party, user: User | None = None, host: Host | None = None, agent: Agent | None = None
) -> KillSwitch:
    """Stop a host, an agent or, with neither, everything. What waits is cancelled before this returns.

    Raises InvalidError without a reason, or with both a host and an agent; ConflictError where it is on already.
    """
    scope, subject = _subject(host, agent)
    row = KillSwitch(
        scope=scope,
        subject=subject,
        reason=_reason(reason),
        switched_at=timezone.now(),
        switched_by=user,
        switched_label=actor.label,
    )
    try:
        with transaction.atomic():
            row.save()
            _tell(Tag.KILL_SWITCH_ON, row, actor, host or agent)
    except IntegrityError:
        raise ConflictError(f"{_what(row).capitalize()} is stopped already.") from None
    stops_enforce()
    return row


def killswitch_off(
    *, reason: str, actor: Party, user: User | None = None, host: Host | None = None, agent: Agent | None = None
) -> KillSwitch:
    """Lift a switch; what it cancelled stays cancelled. Raises InvalidError, and NotFoundError where none is on."""
    scope, subject = _subject(host, agent)
    reason = _reason(reason)
    with transaction.atomic():
        rows = KillSwitch.objects.filter(scope=scope, subject=subject, lifted_at=None)
        row = rows.first()
        columns = {"lifted_by": user, "lifted_label": actor.label, "lifted_reason": reason}
        if row is None or not rows.filter(pk=row.pk).update(lifted_at=timezone.now(), **columns):
            what = _what(KillSwitch(scope=scope, subject=subject))
            raise NotFoundError(f"No kill switch for {what} is on. `manage.py killswitch status` lists those that are.")
        row.refresh_from_db()
        _tell(Tag.KILL_SWITCH_OFF, row, actor, host or agent)
    return row


def stops_enforce() -> int:
    """End what the switches in force cover: cancel what waits, order hosts to abort what runs. Returns how many.

    What runs comes first: what waits cannot begin any more.
    """
    ended = 0
    for stop in stops_in_force():
        for host_id in sorted({host_id for _pk, host_id, _reason in _covered(stop, Status.RUNNING)}):
            with transaction.atomic():
                ended += running_stop(host_id, [stop])
        waiting = [session_id for session_id, _host_id, _reason in _covered(stop, *_WAITING)]
        for begin in range(0, len(waiting), _BATCH):
            ended += _cancel(waiting[begin : begin + _BATCH], stop)
    return ended


def running_stop(host_id: int, stops: Collection[Stop]) -> int:
    """Order a host, in the caller's transaction, to abort what it runs under these switches. Returns how many are new.

    An order that somebody gave before, with its longer grace, is overtaken.
    """
    ordered = 0
    for stop in stops:
        for session_id, where, reason in _covered(stop, Status.RUNNING):
            if where != host_id or reason == Reason.KILL_SWITCH:
                continue
            still = ShellSession.objects.filter(pk=session_id, status=Status.RUNNING)
            columns = {"cancel_requested_at": timezone.now(), "cancel_reason": Reason.KILL_SWITCH.value}
            columns |= _intervention(stop, "aborted")
            if still.exclude(cancel_reason=Reason.KILL_SWITCH).update(**columns):
                actor, data = _actor(stop), {"reason": stop.reason, "kill_switch": stop.id}
                session_note(session_id, Tag.SESSION_CANCEL_REQUESTED, actor=actor, data=data)
                ordered += 1
    if ordered:
        wake.ring_on_commit(wake.host_channel(host_id))
    return ordered


def grace_of(reason: str) -> int:
    """Return how many seconds a command has to end by itself once it is told to."""
    return limits.KILL_GRACE_SECONDS if reason == Reason.KILL_SWITCH else limits.GRACE_SECONDS


def _cancel(batch: list[UUID], stop: Stop) -> int:
    with transaction.atomic():
        return len(
            sessions_move(
                ShellSession.objects.filter(pk__in=batch),
                Status.CANCELLED,
                actor=_actor(stop),
                data={"reason": stop.reason, "kill_switch": stop.id},
                finished_at=timezone.now(),
                termination_reason=Reason.KILL_SWITCH.value,
                termination_detail=f"A kill switch stopped {stop.what}: {stop.reason}",
                **_intervention(stop, "cancelled"),
            )
        )


def _intervention(stop: Stop, how: str) -> dict[str, Any]:
    """Return what is kept of an agent whose own switch it was; one for all or for a host says nothing of its agents."""
    return {"intervention": how} if stop.scope == KillSwitch.Scope.AGENT else {}


def _covered(stop: Stop, *statuses: Status) -> list[tuple[UUID, int, str]]:
    """Return id, host's id and `cancel_reason` of each session in these states that a switch covers, by age."""
    rows = rows_in(statuses, "pk", "host_id", "cancel_reason", "agent_id")
    # Read after the sessions, so that whose they are is among them.
    agents, hosts = (dict(model.objects.values_list("pk", "name")) for model in (Agent, Host))
    return sorted(
        (pk, host_id, reason)
        for pk, host_id, reason, agent_id in rows
        if stop.covers(agent=agents[agent_id], host=hosts[host_id])
    )


def _tell(tag: Tag, row: KillSwitch, actor: Party, subject: Host | Agent | None) -> None:
    """Write the event, and have every process and every held poll look again, once this is committed."""
    policy_changed()
    party, about = Party("system", label="everything"), NOTHING
    if subject is not None:
        party = Party(row.scope, str(subject.pk), subject.name)
        is_host = isinstance(subject, Host)
        about = About(host_id=subject.pk) if is_host else About(agent_id=subject.pk)
    data = {"reason": row.lifted_reason or row.reason, "kill_switch": row.pk}
    record(Event(tag, actor, party, row.scope, data, about=about))
    wake.ring_on_commit(*map(wake.host_channel, Host.objects.values_list("pk", flat=True)))


def _actor(stop: Stop) -> Party:
    return Party("system", label=f"the kill switch of {stop.by}")


def _subject(host: Host | None, agent: Agent | None) -> tuple[KillSwitch.Scope, str]:
    if host and agent:
        raise InvalidError("Name a host or an agent, not both: a kill switch is for one of them, or for everything.")
    if host:
        return KillSwitch.Scope.HOST, host.name
    return (KillSwitch.Scope.AGENT, agent.name) if agent else (KillSwitch.Scope.EVERYTHING, "")


def _what(row: KillSwitch) -> str:
    return "everything" if row.scope == KillSwitch.Scope.EVERYTHING else f"the {row.scope} {row.subject}"


def _reason(text: str) -> str:
    if not text.strip():
        raise InvalidError("Say why: everybody reads it, and the audit trail keeps it.", field="reason")
    return text.strip()
