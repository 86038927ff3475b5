"""All that a session's page shows."""

import json
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth.models import User

from audit.models import AuditEvent
from governance.models import PolicyVersion
from shellagent.admin_deciding import deciding_context
from shellagent.admin_plans import decisions_of, plan_steps, requests_of, shown_scripts
from shellagent.admin_story import LINES_MAX, erasing_context, story_lines
from shellagent.models import Decision, ExecutionRecord, ShellSession
from shellagent.representation import host_is_online, joined, missing_protections
from shellagent.services import may_cancel, output_of
from shellagent.states import TERMINAL, Status

#: Where a session can still be cancelled, or its host be told to stop it.
CANCELLABLE: Final = frozenset((Status.PENDING, Status.QUEUED, Status.CLAIMED, Status.RUNNING))
MOMENTS: Final = {"request": "when it was asked", "approval": "when it was approved", "claim": "when the host took it"}

#: What a status means, and what comes next.
STATUS_WORDS: Final = {
    Status.DENIED: "Governance denied it. Nothing ran.",
    Status.PENDING: "It waits for a person to approve or reject it. Nothing runs until then.",
    Status.QUEUED: "It waits for its host to take it.",
    Status.REJECTED: "A person rejected it. Nothing ran, and the agent has the reason.",
    Status.EXPIRED: "Nobody decided, or no host took it, in time. Nothing ran.",
    Status.CANCELLED: "It was cancelled before it ran.",
    Status.CLAIMED: "Its host has taken it and is about to start it.",
    Status.RUNNING: "It runs now.",
    Status.REFUSED: "The host refused it by its own rules. Nothing ran.",
    Status.SUCCEEDED: "It ran, and exited with 0.",
    Status.FAILED: "It ran, and did not exit with 0.",
    Status.TIMED_OUT: "It took longer than it was given, and was killed.",
    Status.ABORTED: "It was stopped while it ran.",
    Status.LOST: "Its host was not heard of any more. Whether it ended is not known; it is never run again by itself.",
}


@dataclass(frozen=True, slots=True)
class ShownDecision:
    """One decision with the moment when it was taken."""

    moment: str
    row: Decision
    content: Any
    #: What the policy was made of is kept; older versions were not.
    has_policy: bool


@dataclass(frozen=True, slots=True)
class ShownStream:
    """One stream of output, as text."""

    name: str
    text: str
    stored_bytes: int
    #: Where a follower goes on.
    next_offset: int


def session_context(session: ShellSession, reader: User) -> dict[str, Any]:
    """Return the template's values for one session (with `agent` and `host` loaded)."""
    status = Status(session.status)
    request = requests_of([session]).get(session.pk)
    records = list(ExecutionRecord.objects.filter(session=session).order_by("is_late"))
    decisions = _decisions(session)
    timeline = list(AuditEvent.objects.filter(session_id=session.pk).order_by("session_seq", "id")[:LINES_MAX])
    return {
        **deciding_context(session, reader, is_erased=request is None),
        "session": session,
        "status": status,
        "status_words": STATUS_WORDS[status],
        "is_over": status.is_terminal,
        "request_stored": request,
        "steps": plan_steps(request.plan) if request else [],
        "env": sorted(request.env.items()) if request else [],
        "secrets": request.secrets if request else (),
        "scripts": shown_scripts(request, decisions[0].content if decisions else None),
        "decisions": decisions,
        "may_cancel": status in CANCELLABLE and not may_cancel(session, reader),
        "is_online": host_is_online(session.host),
        "missing": missing_protections(session.host),
        "approvals": list(session.approvals.order_by("decided_at")),
        "records": [(record, record.duration_us / 1_000_000) for record in records],
        "streams": _streams(session),
        "masked": _masked(timeline),
        "timeline": story_lines(timeline),
        **erasing_context(session, reader),
        "may_see_trail": reader.has_perm("audit.view_audit"),
    }


def _masked(timeline: list[AuditEvent]) -> list[tuple[str, int]]:
    """Return which rules masked something in the output, and how often, as the event of the end has it."""
    ends = (event for event in timeline if event.outcome in TERMINAL)
    found = (json.loads(event.body)["data"].get("masked") for event in ends)
    return sorted(next((masked for masked in found if masked), {}).items())


def _decisions(session: ShellSession) -> list[ShownDecision]:
    """Return the session's decisions, newest first."""
    contents = decisions_of([session]).get(session.pk, [])
    rows = list(session.decisions.order_by("number"))
    kept = set(
        PolicyVersion.objects.filter(pk__in={row.policy_version for row in rows}).values_list("version", flat=True)
    )
    shown = [
        ShownDecision(
            MOMENTS[row.moment],
            row,
            contents[row.number] if row.number < len(contents) else None,
            row.policy_version in kept,
        )
        for row in rows
    ]
    return shown[::-1]


def _streams(session: ShellSession) -> list[ShownStream]:
    return [
        ShownStream(
            name,
            joined(parts).decode(errors="replace"),
            sum(len(data) for _offset, data in parts),
            parts[-1][0] + len(parts[-1][1]) if parts else 0,
        )
        for name, parts in output_of(session.pk).items()
    ]
