"""A long trail, written by the product itself: sessions as they are, in large batches, and sealed as they come.

Import it after Django's set-up.
"""

import hashlib
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from audit.models import AuditPayload
from audit.sealing import seal_all
from audit.tags import Tag
from audit.trail import About, Event, Party, Payload, record, store

EVENTS_A_SESSION = 5
#: Sessions that are recorded together: signing and committing each alone would take most of the time.
_AT_ONCE = 200


def fill(events: int, *, say: Callable[[str], None] = lambda line: None) -> float:
    """Write so many events of sessions, five each with their payloads, and seal them. Returns the seconds it took."""
    began = time.perf_counter()
    with connection.cursor() as cursor:
        # A trail that is only to be verified need not outlive a power cut.
        cursor.execute("PRAGMA synchronous=OFF" if connection.vendor == "sqlite" else "SET synchronous_commit=off")
    written = 0
    while written < events:
        now = timezone.now()
        sessions = [_session(uuid7()) for _ in range(min(_AT_ONCE, -(-(events - written) // EVENTS_A_SESSION)))]
        with transaction.atomic():
            record(*[event for told, _payloads in sessions for event in told])
            store([payload for _told, payloads in sessions for payload in payloads], now)
        written += len(sessions) * EVENTS_A_SESSION
        if written % 10_000 < _AT_ONCE * EVENTS_A_SESSION:
            seal_all(now)
        if written % 100_000 == 0:
            say(f"{written:,} events in {time.perf_counter() - began:.0f} s")
    seal_all(timezone.now() + timedelta(seconds=1))
    return time.perf_counter() - began


def _session(session_id: UUID) -> tuple[list[Event], list[Payload]]:
    """Return the events of a session that ran, as the product tells them, and what they commit to."""
    agent, host = Party("agent", "3", "demo-agent"), Party("host", "1", "localhost")
    subject, about = Party("session", str(session_id), "demo-agent"), About(3, 1, "read")
    digest = hashlib.sha256(session_id.bytes).hexdigest()
    kinds = AuditPayload.Kind
    asked, decided, printed = (
        Payload(session_id, kind, kind.value.encode() * 20) for kind in (kinds.REQUEST, kinds.DECISION, kinds.STDOUT)
    )
    decision = {"outcome": "allow", "category": "read", "rules": ["read-only"], "policy_version": 3}
    segment = {"stream": "stdout", "offset": 0, "bytes": len(printed.data), "commitment": printed.commitment}
    ended = {
        "record": digest,
        "reason": "exit",
        "exit_codes": [0],
        "duration_us": 5321,
        "stdout_bytes": len(printed.data),
        "stdout_sha256": hashlib.sha256(printed.data).hexdigest(),
        "protections": ["landlock", "seccomp", "rlimits"],
    }
    told: list[tuple[Tag, Party, str, dict[str, object]]] = [
        (
            Tag.SESSION_QUEUED,
            agent,
            "queued",
            decision
            | {
                "decision_commitment": decided.commitment,
                "request_commitment": asked.commitment,
                "digest": digest,
                "host": "localhost",
                "working_directory": "/home/atom/scratch",
                "timeout_seconds": 300,
            },
        ),
        (Tag.SESSION_CLAIMED, host, "claimed", {"instance": digest[:32], **decision}),
        (Tag.SESSION_RUNNING, host, "running", {"start_key": digest[:32]}),
        (Tag.SESSION_OUTPUT, host, "", {"segments": [segment]}),
        (Tag.SESSION_SUCCEEDED, host, "succeeded", ended),
    ]
    events = [
        Event(tag, actor, subject, outcome, data, session_id, number, about)
        for number, (tag, actor, outcome, data) in enumerate(told, start=1)
    ]
    return events, [asked, decided, printed]
