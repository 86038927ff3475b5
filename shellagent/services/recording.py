"""What a host reports of a run: output while it runs, and the write-once record at its end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Coalesce, Length
from django.utils import timezone

from audit import canonical, driver
from audit.models import AuditPayload
from audit.statements import insert
from audit.tags import Tag
from audit.trail import Payload, payloads_of, store
from governance.errors import ConflictError, InvalidError, NotFoundError
from shellagent import limits, protocol, queries, wake
from shellagent.models import ExecutionRecord, Host, ShellSession
from shellagent.protocol import ExecutionReport, OutputSegment, RecordAnswer, RecordRequest, RunOutcome
from shellagent.services.demoting import refusal_judge
from shellagent.services.hosts import host_party
from shellagent.services.moving import Move, session_note, sessions_move_locked
from shellagent.states import Status

STREAMS = {"stdout": AuditPayload.Kind.STDOUT, "stderr": AuditPayload.Kind.STDERR}
#: A host keeps the first and the last part of a stream, so none means more.
STREAM_MAX_BYTES = protocol.HEAD_BYTES + protocol.TAIL_BYTES

#: From which state each outcome may be reported.
_SOURCES = {
    RunOutcome.SUCCEEDED: [Status.RUNNING],
    RunOutcome.FAILED: [Status.RUNNING],
    RunOutcome.TIMED_OUT: [Status.RUNNING],
    RunOutcome.ABORTED: [Status.RUNNING],
    RunOutcome.LOST: [Status.RUNNING],
    # Before its start was asked for, or after the host had looked at the grant and at what it was to run.
    RunOutcome.REFUSED: [Status.CLAIMED, Status.RUNNING],
}


def sessions_record(*, host: Host, request: RecordRequest) -> RecordAnswer:
    """Keep each record once. Every status acknowledges it: the host drops it from its spool.

    `recorded`, `known` for the same again, `requeued` where the host went down before the start was granted, so that
    nothing ran, `late` beside a session that was lost, `conflict` where another record or another end stands (with an
    event that says so), `unknown` for a session that is not this host's.
    """
    now = timezone.now()
    with transaction.atomic(savepoint=False):
        ids = protocol.session_ids(report.id for report in request.records)
        known = {str(session_id): session for session_id, session in queries.sessions_of_host(host.pk, ids).items()}
        standing = queries.records_of([session.pk for session in known.values()])
        with_output = [known[report.id].pk for report in request.records if report.output and report.id in known]
        batch = _Batch(host, now, queries.output_places(with_output))
        statuses = {
            report.id: batch.take(known[report.id], report, standing) if report.id in known else "unknown"
            for report in request.records
        }
        batch.write()
    return RecordAnswer(protocol.VERSION, statuses)


@dataclass(frozen=True, slots=True)
class Ended:
    """A session whose record was just kept, as the database has it now: `output` is `{stream: [(offset, bytes)]}`."""

    session: ShellSession
    record: ExecutionRecord
    output: Mapping[str, list[tuple[int, bytes]]]


def just_ended(session_id: UUID) -> Ended | None:
    """Return what this very transaction of the clerk's wrote of a session's end, whole; None where it must be read."""
    found: Ended | None = driver.noted((Ended, session_id))
    return found


class _Batch:
    """The records of one call, judged one by one and written together."""

    def __init__(self, host: Host, now: datetime, places: set[tuple[UUID, str, int]]) -> None:
        self.host = host
        self.now = now
        #: Where output is stored already; a segment for such a place is passed over, and no event commits to it.
        self.places = places
        self.moves: list[Move] = []
        self.rows: list[ExecutionRecord] = []
        self.payloads: list[Payload] = []
        self.ended: list[tuple[ShellSession, list[Payload]]] = []
        self.notes: list[tuple[UUID, Tag, dict[str, object]]] = []

    def take(self, session: ShellSession, report: ExecutionReport, standing: dict[UUID, list[tuple[str, bool]]]) -> str:
        """Judge a record. `standing` has the `(digest, is_late)` of what is kept; what is taken joins it."""
        digest = canonical.sha256(protocol.encode(report))
        kept = standing.setdefault(session.pk, [])
        if any(known == digest for known, _is_late in kept):
            return "known"
        is_late = session.status == Status.LOST
        has_place = not any(was_late == is_late for _known, was_late in kept)
        is_ours = report.start_key == session.start_key
        if is_ours and has_place and is_late:
            late = self._keep(session, report, digest, is_late=True)
            kept.append((digest, True))
            told: dict[str, object] = {
                "outcome": str(report.outcome),
                "record": digest,
                "segments": [_told(payload) for payload in late],
            }
            self.notes.append((session.pk, Tag.SESSION_LATE_RESULT, told))
            return "late"
        if is_ours and has_place and session.status in _SOURCES[report.outcome]:
            payloads = self._keep(session, report, digest, is_late=False)
            kept.append((digest, False))
            self.moves.append(_ended(session, report, digest, payloads, self.now))
            self.ended.append((session, payloads))
            return "recorded"
        if report.outcome is RunOutcome.LOST and not session.start_key and has_place:
            if session.status == Status.CLAIMED:
                kept.append((digest, False))
                self.moves.append(_requeued(session, report, digest, self.now))
                return "requeued"
            if session.status == Status.QUEUED:
                return "requeued"  # Its lease died first, or this is sent again because the answer was lost.
        data: dict[str, object] = {"outcome": str(report.outcome), "record": digest, "status": session.status}
        self.notes.append((session.pk, Tag.SESSION_RECORD_CONFLICT, data))
        return "conflict"

    def write(self) -> None:
        """Write all that was taken."""
        with driver.together():
            sessions_move_locked(self.moves, actor=host_party(self.host))
            insert(self.rows)
            store(self.payloads, self.now)
        self._note_ended()
        for move in self.moves:
            if move.to is Status.REFUSED:
                refusal_judge(move.session)
        for session_id, tag, data in self.notes:
            session_note(session_id, tag, actor=host_party(self.host), data=data)
        if any(move.to is Status.QUEUED for move in self.moves):
            wake.ring_on_commit(wake.host_channel(self.host.pk))

    def _note_ended(self) -> None:
        """Leave for this transaction what it made of sessions whose whole output came with their record."""
        rows = {row.session_id: row for row in self.rows if not row.is_late}
        for session, payloads in self.ended:
            row = rows[session.pk]
            if sum(len(item.data) for item in payloads) != row.stdout_bytes + row.stderr_bytes:
                continue
            session.host = self.host
            output: dict[str, list[tuple[int, bytes]]] = {}
            for item in payloads:
                output.setdefault(str(item.kind), []).append((item.offset, item.data))
            driver.note((Ended, session.pk), Ended(session, row, output))

    def _keep(self, session: ShellSession, report: ExecutionReport, digest: str, *, is_late: bool) -> list[Payload]:
        self.rows.append(_row(session, report, digest, self.now, is_late=is_late))
        payloads = []
        for payload in _payloads(session.pk, report.output):
            place = payload.session_id, str(payload.kind), payload.offset
            if place not in self.places:
                self.places.add(place)
                payloads.append(payload)
        self.payloads += payloads
        return payloads


def _row(
    session: ShellSession, report: ExecutionReport, digest: str, now: datetime, *, is_late: bool
) -> ExecutionRecord:
    return ExecutionRecord(
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
        rung=report.rung,
        received_at=now,
    )


def _ended(
    session: ShellSession, report: ExecutionReport, digest: str, payloads: Sequence[Payload], now: datetime
) -> Move:
    data = {
        "record": digest,
        "reason": str(report.reason),
        "exit_codes": list(report.exit_codes),
        "steps": list(report.steps),
        "duration_us": report.duration_us,
        "stdout_bytes": report.stdout.total_bytes,
        "stdout_sha256": report.stdout.sha256,
        "stderr_bytes": report.stderr.total_bytes,
        "stderr_sha256": report.stderr.sha256,
        "protections": list(report.protections),
        "left_behind": list(report.left_behind),
        "rung": str(report.rung),
        # What came with the record, as an event of output tells it.
        "segments": [_told(payload) for payload in payloads],
        # Which rules masked something in the output that is kept, and how often.
        **({"masked": dict(report.masked)} if report.masked else {}),
    }
    columns = {
        "finished_at": now,
        "termination_reason": report.reason.value,
        "termination_detail": report.detail,
        "exit_code": report.exit_code,
    }
    return Move(session, Status(report.outcome.value), data, columns)


def _requeued(session: ShellSession, report: ExecutionReport, digest: str, now: datetime) -> Move:
    data = {"record": digest, "reason": str(report.reason), "why": "the host went down before the start was granted"}
    columns = {
        "claim_key": "",
        "lease_expires_at": None,
        "expires_at": now + timedelta(seconds=limits.QUEUED_SECONDS),
    }
    return Move(session, Status.QUEUED, data, columns)


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
        expected, stored = output_ends(session.pk), _stored_bytes(session.pk)
        new = []
        for segment in request.segments:
            if segment.stream not in STREAMS:
                raise InvalidError(f"There is no stream called {segment.stream!r}.")
            if segment.offset > expected[segment.stream] and not segment.is_tail:
                raise ConflictError("There is a gap in the output.", expected_offset=expected)
            # What is stored already is passed over, also where only the beginning of a segment is.
            offset = max(segment.offset, expected[segment.stream])
            data = segment.content()[offset - segment.offset :]
            if data:
                stored[segment.stream] += len(data)
                _check_size(stored)
                new.append(Payload(session.pk, STREAMS[segment.stream], data, offset))
                expected[segment.stream] = offset + len(data)
        if new:
            store(new, now)
            told = {"segments": [_told(payload) for payload in new]}
            session_note(session.pk, Tag.SESSION_OUTPUT, actor=host_party(host), data=told)
        wake.ring_on_commit(wake.session_channel(session.pk))
    return expected


def _told(payload: Payload) -> dict[str, object]:
    """Return what the event of a segment says of it: where it belongs, how long it is, and the commitment to it."""
    return {
        "stream": str(payload.kind),
        "offset": payload.offset,
        "bytes": len(payload.data),
        "commitment": payload.commitment,
    }


def output_ends(session_id: UUID) -> dict[str, int]:
    """Return where the stored bytes of each stream end."""
    ends = {}
    for stream, kind in STREAMS.items():
        last = AuditPayload.objects.filter(session_id=session_id, kind=kind).order_by("-offset").first()
        ends[stream] = last.offset + (len(last.data) if last.size is None else last.size) if last else 0
    return ends


def output_of(session_id: UUID) -> dict[str, list[tuple[int, bytes]]]:
    """Return the stored parts of each stream as `(offset, bytes)`, in order; a gap is the cut middle."""
    found: dict[str, list[tuple[int, bytes]]] = {stream: [] for stream in STREAMS}
    for row in payloads_of([session_id], *STREAMS.values()):
        found[row.kind].append((row.offset, bytes(row.data)))
    return found


def _stored_bytes(session_id: UUID) -> dict[str, int]:
    rows = AuditPayload.objects.filter(session_id=session_id, kind__in=list(STREAMS.values())).order_by()
    sizes = dict(rows.values_list("kind").annotate(bytes=Sum(Coalesce("size", Length("data")))))
    return {stream: sizes.get(kind.value, 0) for stream, kind in STREAMS.items()}


def _check_size(stored: Mapping[str, int]) -> None:
    for stream, size in stored.items():
        if size > STREAM_MAX_BYTES:
            raise InvalidError(f"No more than {STREAM_MAX_BYTES} bytes of {stream} are kept.")


def _payloads(session_id: UUID, segments: Iterable[OutputSegment]) -> list[Payload]:
    found, sizes = [], dict.fromkeys(STREAMS, 0)
    for segment in segments:
        if segment.stream in STREAMS and segment.data:
            data = segment.content()
            sizes[segment.stream] += len(data)
            found.append(Payload(session_id, STREAMS[segment.stream], data, segment.offset))
    _check_size(sizes)
    return found
