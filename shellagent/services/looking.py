"""What scripts hold when a person is to decide: a host tells with its poll, and the decision is bound to it."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit import canonical
from audit.models import AuditPayload
from audit.tags import Tag
from audit.trail import Payload, payloads_of, store
from shellagent import limits, protocol, wake
from shellagent.models import Host, ShellSession
from shellagent.protocol import ABSENT, Look, Looked
from shellagent.services.deciding import spec_digest, stored_of
from shellagent.services.hosts import host_party
from shellagent.services.moving import session_note
from shellagent.states import Status

_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


def looks_wish(host_ids: Iterable[int]) -> set[int]:
    """Have hosts asked for what scripts hold, with their next poll. Returns the hosts."""
    wanted = set(host_ids)
    if wanted:
        Host.objects.filter(pk__in=wanted, has_looks=False).update(has_looks=True)
        wake.ring_on_commit(*map(wake.host_channel, sorted(wanted)))
    return wanted


def looks_take(host: Host) -> tuple[Look, ...]:
    """Return what to ask a host, once: what it does not tell then is not known when a person decides."""
    # Before it is read what to ask, so that no wish of this moment is passed over.
    Host.objects.filter(pk=host.pk).update(has_looks=False)
    host.has_looks = False
    waiting = ShellSession.objects.filter(host=host, status=Status.PENDING, expires_at__gt=timezone.now())
    ids = list(waiting.order_by("-pk").values_list("pk", flat=True)[: limits.LOOKS_MAX])
    paths: dict[UUID, Sequence[str]] = {}
    told = set()
    for row in payloads_of(ids, AuditPayload.Kind.DECISION, AuditPayload.Kind.SCRIPTS):
        if row.kind == AuditPayload.Kind.SCRIPTS:
            told.add(row.session_id)
        else:
            paths[row.session_id] = _scripts_of(row.data)
    wanted = {session_id: found for session_id, found in paths.items() if found and session_id not in told}
    return tuple(Look(str(session_id), tuple(found)) for session_id, found in wanted.items())


def scripts_record(*, host: Host, looked: Sequence[Looked]) -> None:
    """Keep what a host found, and bind what waits to it: who saw it before sees that it changed."""
    for item in looked[: limits.LOOKS_MAX]:
        for session_id in protocol.session_ids([item.id]):
            with transaction.atomic():
                _record(host, session_id, item)


def _record(host: Host, session_id: UUID, item: Looked) -> None:
    waiting = ShellSession.objects.select_for_update(of=("self",)).filter(host=host, status=Status.PENDING)
    session = waiting.filter(pk=session_id).first()
    if session is None:
        return  # It was decided on, and is bound to what was seen then.
    kinds = (AuditPayload.Kind.DECISION, AuditPayload.Kind.SCRIPTS)
    stored = {row.kind: row.data for row in payloads_of([session_id], *kinds)}
    if AuditPayload.Kind.SCRIPTS in stored or AuditPayload.Kind.DECISION not in stored:
        return
    asked = _scripts_of(stored[AuditPayload.Kind.DECISION.value])
    found = {one.path: one for one in item.scripts if one.sha256 == ABSENT or _SHA256.match(one.sha256)}
    scripts = [protocol.encode(found[path]) for path in asked if path in found]
    payload = Payload(session_id, AuditPayload.Kind.SCRIPTS, canonical.dumps(scripts).encode())
    store([payload], timezone.now())
    request, spec = stored_of([session])[session_id]
    digest = spec_digest(spec, request, session)
    data = {"scripts": len(asked), "known": len(scripts), "digest": digest, "scripts_commitment": payload.commitment}
    session_note(session_id, Tag.SESSION_SCRIPTS_RECORDED, actor=host_party(host), data=data, digest=digest)


def _scripts_of(decision: bytes) -> list[str]:
    content: Any = json.loads(decision)
    return [str(path) for path in content.get("scripts", [])][: limits.SCRIPTS_MAX]
