"""What a host reports of a run: output while it runs, and the write-once record at its end."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit import canonical
from audit.models import AuditPayload
from audit.tags import Tag
from audit.trail import Payload, payloads_of, store
from governance.errors import ConflictError, InvalidError, NotFoundError
from shellagent import protocol, wake
from shellagent.models import ExecutionRecord, Host, ShellSession
from shellagent.protocol import ExecutionReport, OutputSegment, RecordAnswer, RecordRequest, RunOutcome
from shellagent.services.hosts import host_party
from shellagent.services.moving import session_note, sessions_move
from shellagent.states import Status

STREAMS = {"stdout": AuditPayload.Kind.STDOUT, "stderr": AuditPayload.Kind.STDERR}

#: From which state each outcome may be reported.
_SOURCES = {
    RunOutcome.SUCCEEDED: [Status.RUNNING],
    RunOutcome.FAILED: [Status.RUNNING],
    RunOutcome.TIMED_OUT: [Status.RUNNING],
    RunOutcome.ABORTED: [Status.RUNNING],
    RunOutcome.LOST: [Status.RUNNING],
    RunOutcome.REFUSED: [Status.CLAIMED],
}


def sessions_record(*, host: Host, request: RecordRequest) -> RecordAnswer:
    """Keep each record once. Every status acknowledges it: the host drops it from its spool.

    `recorded`, `known` for the same again, `late` beside a session that was lost, `conflict` where another record or
    another end stands (with an event that says so), `unknown` for a session that is not this host's.
    """
    now = timezone.now()
    with transaction.atomic():
        rows = ShellSession.objects.select_for_update().filter(host=host)
        known = {
            str(row.pk): row
            for row in rows.filter(pk__in=protocol.session_ids(report.id for report in request.records))
        }
        statuses = {
            report.id: _record(host, known[report.id], report, now) if report.id in known else "unknown"
            for report in request.records
        }
    return RecordAnswer(protocol.VERSION, statuses)


def _record(host: Host, session: ShellSession, report: ExecutionReport, now: datetime) -> str:
    digest = canonical.sha256(protocol.encode(report))
    is_late = session.status == Status.LOST
    standing = ExecutionRecord.objects.filter(session=session).order_by("-is_late").first()
    if standing is not None and standing.digest == digest:
        return "known"
    is_ours = report.start_key == session.start_key
    if not is_ours or (standing is not None and (standing.is_late or not is_late)):
        return _conflict(host, session, report, digest)
    if is_late:
        _keep(session, report, digest, now, is_late=True)
        data = {"outcome": str(report.outcome), "record": digest}
        session_note(session.pk, Tag.SESSION_LATE_RESULT, actor=host_party(host), data=data)
        return "late"
    if session.status not in _SOURCES[report.outcome]:
        return _conflict(host, session, report, digest)
    commitments = _keep(session, report, digest, now, is_late=False)
    sessions_move(
        ShellSession.objects.filter(pk=session.pk),
        Status(report.outcome.value),
        actor=host_party(host),
        sources=_SOURCES[report.outcome],
        data={
            "record": digest,
            "reason": str(report.reason),
            "exit_codes": list(report.exit_codes),
            "duration_us": report.duration_us,
            "stdout_bytes": report.stdout.total_bytes,
            "stdout_sha256": report.stdout.sha256,
            "stderr_bytes": report.stderr.total_bytes,
            "stderr_sha256": report.stderr.sha256,
            "protections": list(report.protections),
            "left_behind": list(report.left_behind),
            "output_commitments": commitments,
        },
        finished_at=now,
        termination_reason=report.reason.value,
        termination_detail=report.detail,
        exit_code=report.exit_codes[-1] if report.exit_codes else None,
    )
    return "recorded"


def _keep(session: ShellSession, report: ExecutionReport, digest: str, now: datetime, *, is_late: bool) -> list[str]:
    """Store a record and the output that came with it. Returns the output's commitments."""
    ExecutionRecord.objects.create(
        session=session,
        digest=digest,
        is_late=is_late,
        outcome=report.outcome,
        reason=report.reason,
        detail=report.detail,
        exit_codes=list(report.exit_codes),
        stdout_bytes=report.stdout.total_bytes,
        stdout_sha256=report.stdout.sha256,
        stderr_bytes=report.stderr.total_bytes,
        stderr_sha256=report.stderr.sha256,
        is_truncated=report.stdout.is_truncated or report.stderr.is_truncated,
        duration_us=report.duration_us,
        protections=list(report.protections),
        left_behind=list(report.left_behind),
        received_at=now,
    )
    payloads = _payloads(session.pk, report.output)
    store(payloads, now, ignore_known=True)
    return [payload.commitment for payload in payloads]


def _conflict(host: Host, session: ShellSession, report: ExecutionReport, digest: str) -> str:
    data = {"outcome": str(report.outcome), "record": digest, "status": session.status}
    session_note(session.pk, Tag.SESSION_RECORD_CONFLICT, actor=host_party(host), data=data)
    return "conflict"


def output_append(*, host: Host, session_id: UUID, request: protocol.OutputRequest) -> dict[str, int]:
    """Store output of a running session. Returns the next offset of each stream.

    A segment that is there already is passed over. Raises NotFoundError for a session that is not this host's,
    ConflictError for a start key that was not granted, and for a gap, with the offset that is expected.
    """
    now = timezone.now()
    with transaction.atomic():
        session = ShellSession.objects.select_for_update().filter(pk=session_id, host=host).first()
        if session is None:
            raise NotFoundError("This host has no such session.")
        if session.status not in (Status.RUNNING, Status.LOST) or session.start_key != request.start_key:
            raise ConflictError(f"The session is {session.status}; its output is closed to this start key.")
        expected = output_ends(session.pk)
        for segment in request.segments:
            if segment.stream not in STREAMS:
                raise InvalidError(f"There is no stream called {segment.stream!r}.")
            if segment.offset > expected[segment.stream] and not segment.is_tail:
                raise ConflictError("There is a gap in the output.", expected_offset=expected)
            end = segment.offset + len(segment.content())
            expected[segment.stream] = max(end, expected[segment.stream])
        store(_payloads(session.pk, request.segments), now, ignore_known=True)
        wake.ring_on_commit(wake.session_channel(session.pk))
    return expected


def output_ends(session_id: UUID) -> dict[str, int]:
    """Return where the stored bytes of each stream end."""
    ends = {}
    for stream, kind in STREAMS.items():
        last = AuditPayload.objects.filter(session_id=session_id, kind=kind).order_by("-offset").first()
        ends[stream] = last.offset + len(last.data) if last else 0
    return ends


def output_of(session_id: UUID) -> dict[str, list[tuple[int, bytes]]]:
    """Return the stored parts of each stream as `(offset, bytes)`, in order; a gap is the cut middle."""
    found: dict[str, list[tuple[int, bytes]]] = {stream: [] for stream in STREAMS}
    for row in payloads_of([session_id], *STREAMS.values()):
        found[row.kind].append((row.offset, bytes(row.data)))
    return found


def _payloads(session_id: UUID, segments: Iterable[OutputSegment]) -> list[Payload]:
    return [
        Payload(session_id, STREAMS[segment.stream], segment.content(), segment.offset)
        for segment in segments
        if segment.stream in STREAMS and segment.data
    ]
