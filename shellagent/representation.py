"""A session as the API shows it, and what a program should do next."""

import base64
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.utils import timezone

from audit.models import AuditPayload
from audit.trail import Receipt, payloads_of, receipt_of
from governance.terms import TermsInForce, terms_in_force
from shellagent import limits, queries
from shellagent.links import card_url
from shellagent.models import Approval, ExecutionRecord, Host, ShellSession
from shellagent.protections import missing
from shellagent.protocol import Reason
from shellagent.services import Ended, Kept
from shellagent.states import TERMINAL, Status

_NEXT_ACTION = {
    Status.PENDING: "wait",
    Status.QUEUED: "wait",
    Status.CLAIMED: "wait",
    Status.RUNNING: "wait",
    Status.REJECTED: "revise",
    Status.DENIED: "stop",
}
_POLL_AFTER_SECONDS = {Status.PENDING: 5, Status.QUEUED: 1, Status.CLAIMED: 1, Status.RUNNING: 1}
_MIDDLE_CUT = b"\n[... %d bytes cut ...]\n"

Json = dict[str, Any]


def host_is_online(host: Host) -> bool:
    """Return whether the host was heard of within the last 30 seconds."""
    seen = host.last_seen_at
    return bool(seen and (timezone.now() - seen).total_seconds() < limits.OFFLINE_SECONDS)


def missing_protections(host: Host) -> tuple[str, ...]:
    """Return the protections that a host lacks by what it reported; none before it was heard of."""
    return missing(host.protections) if host.last_seen_at else ()


def joined(parts: Iterable[tuple[int, bytes]]) -> bytes:
    """Return a stream's stored parts as one, with a line in place of a cut middle."""
    whole, end = [], 0
    for offset, data in parts:
        if offset > end:
            whole.append(_MIDDLE_CUT % (offset - end))
        whole.append(data)
        end = offset + len(data)
    return b"".join(whole)


def kept_json(kept: Kept, *, with_terms: bool = True) -> Json:
    """Return a session that was just made as plain values, without asking the database again.

    Without the terms of its approval not even where it waits for people.
    """
    terms = _terms_for([kept.session]) if with_terms else None
    return with_receipt(_session_json(kept.session, kept.stored, [], [], "text", terms=terms), kept.receipt)


def ended_json(ended: Ended, kept: Kept) -> Json:
    """Return a session that has just ended as plain values, with its request as it was kept, as `session_json` would.

    For one that nobody was asked about.
    """
    shown = _session_json(ended.session, {**kept.stored, **ended.output}, [ended.record], [], "text")
    return with_receipt(shown, kept.receipt)


def sessions_json(sessions: list[ShellSession], *, encoding: str = "text", with_output: bool = True) -> list[Json]:
    """Return sessions (with `agent` and `host` loaded) as plain values; `encoding` is text or base64."""
    ids = [session.pk for session in sessions]
    texts = [AuditPayload.Kind.REQUEST, AuditPayload.Kind.DECISION, AuditPayload.Kind.SCRIPTS]
    kinds = [] if with_output else texts
    stored: dict[UUID, dict[str, list[tuple[int, bytes]]]] = defaultdict(lambda: defaultdict(list))
    for row in payloads_of(ids, *kinds):
        stored[row.session_id][row.kind].append((row.offset, bytes(row.data)))
    ended = [session.pk for session in sessions if session.status in TERMINAL]
    records: dict[UUID, list[ExecutionRecord]] = defaultdict(list)
    if ended:
        for record in queries.whole_records_of(ended):
            records[record.session_id].append(record)
    asked = [session.pk for session in sessions if session.approval_required]
    approvals: dict[UUID, list[Approval]] = defaultdict(list)
    if asked:
        standing = Approval.objects.filter(session_id__in=asked, voided_at=None)
        for approval in standing.order_by("decided_at"):
            approvals[approval.session_id].append(approval)
    terms = _terms_for(sessions)
    return [
        _session_json(item, stored[item.pk], records[item.pk], approvals[item.pk], encoding, terms=terms)
        for item in sessions
    ]


def session_json(session: ShellSession, *, encoding: str = "text") -> Json:
    """Return one session as plain values, with the receipt for its request."""
    return with_receipt(sessions_json([session], encoding=encoding)[0], receipt_of(session.pk))


def with_receipt(shown: Json, receipt: Receipt | None) -> Json:
    """Put in what shows later that an event of this session was written."""
    if receipt is not None:
        shown["receipt"] = {"uid": receipt.uid, "hash": receipt.hash, "signature": receipt.signature}
    return shown


def without_digests(shown: Json) -> Json:
    """Return a session as who asked for it sees it until it runs: without digests of files that nobody let it read.

    Nor with the digest over all, from which one of them could be found by trying.
    """
    if shown["started_at"] is not None or not any(script["sha256"] for script in shown["scripts"]):
        return shown
    return {**shown, "digest": "", "scripts": [{**script, "sha256": None} for script in shown["scripts"]]}


def scripts_json(paths: Iterable[str], found: list[tuple[int, bytes]] | None) -> list[Json]:
    """Return the scripts of a decision, each with what the host found: a digest, `absent`, or None for not known."""
    known = {item["path"]: item["sha256"] for item in json.loads(found[-1][1])} if found else {}
    return [{"path": path, "sha256": known.get(path)} for path in paths]


def _session_json(
    session: ShellSession,
    stored: Mapping[str, list[tuple[int, bytes]]],
    records: list[ExecutionRecord],
    approvals: Sequence[Approval],
    encoding: str,
    *,
    terms: TermsInForce | None = None,
) -> Json:
    request = _json(stored.get("request"))
    decision = _json(stored.get("decision"))
    status = Status(session.status)
    first = next((record for record in records if not record.is_late), None)
    late = next((record for record in records if record.is_late), None)
    is_unlisted = status is Status.DENIED and "not-allowlisted" in [rule["id"] for rule in decision.get("rules", [])]
    return {
        "id": str(session.pk),
        "agent": {"id": session.agent_id, "name": session.agent_label, "maturity": session.maturity},
        "host": {"id": session.host_id, "name": session.host_label},
        "host_online": host_is_online(session.host),
        "status": str(status),
        "command": request.get("command") or None,
        "argv": request.get("argv"),
        "plan": request.get("plan"),
        "env": request.get("env"),
        "secrets": request.get("secrets", []),
        "scripts": scripts_json(decision.get("scripts", []), stored.get("scripts")),
        "reason": request.get("reason"),
        "callback_url": request.get("callback_url"),
        "working_directory": session.working_directory or None,
        "timeout_seconds": session.timeout_seconds,
        "category": session.category,
        "decision": decision or None,
        "policy_version": session.policy_version,
        "digest": session.digest,
        "requester": session.requester_label,
        "approval": _approval_json(session, decision, approvals, terms),
        "approval_required": status is Status.PENDING,
        "approve_url": card_url(session.pk) if status is Status.PENDING else None,
        "exit_code": session.exit_code,
        **_record_json(first),
        "late": _record_json(late) | {"outcome": late.outcome} if late else None,
        "stdout": _text(stored.get("stdout", []), encoding),
        "stderr": _text(stored.get("stderr", []), encoding),
        "timed_out": status is Status.TIMED_OUT,
        "termination_reason": session.termination_reason or None,
        "termination_detail": session.termination_detail or None,
        "created_at": session.created_at.isoformat(),
        "expires_at": session.expires_at.isoformat() if session.expires_at and not status.is_terminal else None,
        "started_at": session.started_at.isoformat() if session.started_at else None,
        "finished_at": session.finished_at.isoformat() if session.finished_at else None,
        "next_action": _next_action(session, status, is_unlisted=is_unlisted),
        "poll_after_seconds": _POLL_AFTER_SECONDS.get(status),
        "receipt": None,
    }


def _next_action(session: ShellSession, status: Status, *, is_unlisted: bool) -> str:
    if session.termination_reason == Reason.KILL_SWITCH:
        return "stop"
    return "revise" if is_unlisted else _NEXT_ACTION.get(status, "none")


def _terms_for(sessions: Sequence[ShellSession]) -> TermsInForce | None:
    """Return the terms of approval, where one of these waits for people."""
    return terms_in_force() if any(session.status == Status.PENDING for session in sessions) else None


def _approval_json(
    session: ShellSession, decision: Json, approvals: Sequence[Approval], in_force: TermsInForce | None
) -> Json:
    """Return the last word that was said, and where people still decide, how many have to and what they need."""
    last = approvals[-1] if approvals else None
    rules = [rule["id"] for rule in decision.get("rules", [])]
    terms = in_force.of(session.category, rules) if in_force and session.status == Status.PENDING else None
    return {
        "required": session.approval_required,
        "by": last.approver_label if last else None,
        "decision": last.decision if last else None,
        "reason": last.reason if last else None,
        "decided_at": last.decided_at.isoformat() if last else None,
        "people_required": terms.approvals if terms else None,
        "people_given": len([one for one in approvals if one.decision == "approve" and one.digest == session.digest]),
        "code_required": terms.needs_code if terms else None,
    }


def _record_json(record: ExecutionRecord | None) -> Json:
    return {
        "exit_codes": record.exit_codes if record else [],
        "stdout_bytes": record.stdout_bytes if record else None,
        "stderr_bytes": record.stderr_bytes if record else None,
        "truncated": record.is_truncated if record else False,
        "duration_seconds": record.duration_us / 1_000_000 if record else None,
        "protections": record.protections if record else [],
        "left_behind": record.left_behind if record else [],
        "rung": (record.rung or None) if record else None,
    }


def _json(parts: list[tuple[int, bytes]] | None) -> Json:
    """Return the newest of a session's stored values, empty where it was erased."""
    return dict(_parsed(parts[-1][1])) if parts else {}


@lru_cache(maxsize=128)
def _parsed(data: bytes) -> Json:
    """Return a stored value; what it holds is to be shown, and never changed."""
    found: Json = json.loads(data)
    return found


def _text(parts: Iterable[tuple[int, bytes]], encoding: str) -> str:
    data = joined(parts)
    return base64.b64encode(data).decode() if encoding == "base64" else data.decode(errors="replace")
