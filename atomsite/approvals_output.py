"""What waits for a person, as a terminal shows it. Everything that somebody else wrote is shown with its escapes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TextIO
from uuid import UUID

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from atomsite.policy_output import plan_lines
from atomsite.terminal import is_coloured, visible
from shellagent.admin_plans import decisions_of, requests_of, shown_scripts
from shellagent.models import ShellSession
from shellagent.pending import sessions_pending
from shellagent.services import approvals_given, session_terms
from shellagent.services.deciding import StoredRequest
from shellagent.states import Status

_STYLES: Final = {
    "blocked": "bold red",
    "delete": "bold red",
    "devops": "red",
    "unknown": "magenta",
    "network": "yellow",
    "build": "yellow",
    "write": "yellow",
    "read": "green",
}
#: Where nobody looks at it, nothing is cut to a width.
_WIDE: Final = 10_000
_QUEUE_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Waiting:
    """Sessions that wait, riskiest and then oldest first, with what each asked for."""

    sessions: Sequence[ShellSession]
    requests: dict[UUID, StoredRequest]
    #: How many wait besides those.
    more: int = 0

    def line(self, session: ShellSession) -> str:
        """Return a session's command as one line."""
        request = self.requests.get(session.pk)
        return visible(request.plan.source()) if request else "(erased)"


def waiting() -> Waiting:
    """Return what waits for a person now, in the order of the admin's queue."""
    pending = sessions_pending()
    shown = [one.id for one in pending[:_QUEUE_MAX]]
    rows = ShellSession.objects.select_related("agent", "host").in_bulk(shown)
    found = [rows[pk] for pk in shown if pk in rows]
    return Waiting(found, requests_of(found), len(pending) - len(shown))


def terminal(stream: TextIO | Any) -> Console:
    """Return a console for this stream: without colour where it is not wanted, and nobody's markup is obeyed."""
    is_live = stream.isatty()
    return Console(
        file=stream,
        force_terminal=is_live,
        no_color=not is_coloured(stream),
        color_system="auto" if is_coloured(stream) else None,
        width=None if is_live else _WIDE,
        markup=False,
        highlight=False,
        emoji=False,
    )


def queue_shown(found: Waiting, now: datetime) -> RenderableType:
    """Return the queue as a table; each row ends with the command, folded and never cut."""
    if not found.sessions:
        return Text("Nothing waits for a person.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("session", "left", "category", "agent", "host"):
        table.add_column(name, no_wrap=True)
    table.add_column("command", overflow="fold")
    for session in found.sessions:
        table.add_row(
            Text(str(session.pk)),
            Text(left(session, now)),
            Text(session.category, style=_STYLES.get(session.category, "")),
            Text(f"{visible(session.agent_label)} ({session.maturity})"),
            Text(visible(session.host_label)),
            Text(found.line(session)),
        )
    if not found.more:
        return table
    return Group(table, Text(f"and {found.more} more"))


def left(session: ShellSession, now: datetime) -> str:
    """Return how long it may still be decided on, as `12:07`."""
    seconds = max(0, int((session.expires_at - now).total_seconds())) if session.expires_at else 0
    return f"{seconds // 60}:{seconds % 60:02}"


def card_shown(session: ShellSession, now: datetime) -> RenderableType:
    """Return all that an approver needs to know of a session. What was erased is said to be."""
    request = requests_of([session]).get(session.pk)
    decisions = decisions_of([session]).get(session.pk)
    decision = decisions[-1] if decisions else {}
    facts: list[tuple[str, str]] = [
        ("session", str(session.pk)),
        (
            "status",
            f"{session.status}, {left(session, now)} left" if session.status == Status.PENDING else session.status,
        ),
        ("agent", f"{session.agent_label} ({session.maturity})"),
        ("asked by", session.requester_label),
        ("host", session.host_label),
        ("directory", session.working_directory or "the scratch folder"),
        ("category", session.category),
        ("time limit", f"{session.timeout_seconds} s"),
        ("digest", session.digest),
        *(("terms", text) for text in _terms(session) if session.status == Status.PENDING),
    ]
    if request:
        facts += [("env", f"{name}={value}") for name, value in sorted(request.env.items())]
        facts += [("secret", name) for name in request.secrets]
        facts += [("script", f"{item.path} {item.sha256}".rstrip()) for item in shown_scripts(request, decision)]
        facts.append(("reason", f"{request.reason or '(none)'} (the agent's words, unverified)"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(visible(value), style=_STYLES.get(value, "") if name == "category" else ""))
    steps = "\n".join(plan_lines(request.plan)) if request else "The command was erased; it can no longer be approved."
    parts: list[RenderableType] = [table, Text(), Text(steps, style="bold")]
    if explanation := str(decision.get("explanation", "")):
        parts += [Text(), Text(visible(explanation))]
    return Group(*parts)


def _terms(session: ShellSession) -> list[str]:
    """Return what is asked of approvers besides one person's word."""
    terms = session_terms(session)
    told = []
    if terms.approvals > 1:
        told.append(f"{approvals_given(session.pk, session.digest)} of {terms.approvals} people have approved it")
    if terms.needs_code:
        told.append("a one-time code is needed")
    return told


def change_lines(before: Waiting, after: Waiting, now: datetime, *, as_json: bool) -> list[str]:
    """Return what changed in the queue, a line each: what waits since, and what waits no more and what became of it."""
    known, stands = {item.pk for item in before.sessions}, {item.pk for item in after.sessions}
    came = [item for item in after.sessions if item.pk not in known]
    # Behind what is shown others may wait too: one of those is not gone.
    gone = list(ShellSession.objects.filter(pk__in=known - stands).exclude(status=Status.PENDING).order_by("id"))
    if as_json:
        return [
            json.dumps({"event": event, **_brief(session, line)})
            for event, session, line in (
                *(("waits", item, after.line(item)) for item in came),
                *(("left", item, before.line(item)) for item in gone),
            )
        ]
    lines = [
        f"waits  {item.pk}  {left(item, now)}  {item.category}  {visible(item.agent_label)} on "
        f"{visible(item.host_label)}: {after.line(item)}"
        for item in came
    ]
    return lines + [f"{item.status}  {item.pk}: {before.line(item)}" for item in gone]


def _brief(session: ShellSession, line: str) -> dict[str, object]:
    return {
        "id": str(session.pk),
        "status": session.status,
        "category": session.category,
        "agent": session.agent_label,
        "host": session.host_label,
        "command": line,
        "expires_at": session.expires_at.isoformat() if session.expires_at else None,
    }
