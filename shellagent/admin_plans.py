"""A session as an approver reads it: the plan drawn as steps, never from the agent's words, with nothing hidden."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from audit import canonical
from audit.admin_text import visible
from audit.models import AuditPayload
from audit.trail import payloads_of
from governance.policy.plan import Command, Join, PartKind, Plan, Redirect, Word
from shellagent.models import ShellSession
from shellagent.services.deciding import StoredRequest

JOIN_WORDS: Final = {
    Join.FIRST: "",
    Join.AND: "then, only if that succeeded",
    Join.OR: "then, only if that failed",
    Join.THEN: "then, in any case",
}
_SEARCHED_AT_ONCE: Final = 500
NEGATION_WORDS: Final = "success counts as failure, and failure as success"
#: How the parts of a word that the host fills in are told from its text.
PART_CLASSES: Final = {
    PartKind.GLOB: "atom-glob",
    PartKind.VARIABLE: "atom-variable",
    PartKind.TILDE: "atom-variable",
}


@dataclass(frozen=True, slots=True)
class DrawnStep:
    """One pipeline: how it follows the one before and is negated, in words, and its commands as HTML, one a line."""

    join: str
    negation: str
    commands: tuple[SafeString, ...]


def command_html(command: Command) -> SafeString:
    """Return a command as it could be typed: each word quoted where it needs it, so that words stay apart."""
    program = format_html('<b class="atom-program">{}</b>', visible(command.program_source()))
    rest = [word_html(word) for word in command.argv[1:]] + [redirect_html(item) for item in command.redirects]
    return format_html("{}{}", program, format_html_join("", " {}", ((piece,) for piece in rest)))


def word_html(word: Word) -> SafeString:
    """Return a word as it could be typed; what the host fills in is told from its text."""
    if word.literal is not None:
        return visible(word.source())
    pieces = [
        format_html('<span class="{}">{}</span>', PART_CLASSES[kind], visible(source))
        if kind in PART_CLASSES
        else visible(source)
        for kind, source in word.typed()
    ]
    return format_html_join("", "{}", ((piece,) for piece in pieces))


def redirect_html(redirect: Redirect) -> SafeString:
    """Return a redirect as it could be typed."""
    operator = format_html('<span class="atom-redirect">{}</span>', redirect.operator)
    return operator if isinstance(redirect.target, int) else format_html("{} {}", operator, word_html(redirect.target))


def plan_steps(plan: Plan) -> list[DrawnStep]:
    """Return a plan's steps, drawn."""
    return [
        DrawnStep(
            JOIN_WORDS[step.join],
            NEGATION_WORDS if step.is_negated else "",
            tuple(command_html(command) for command in step.pipeline),
        )
        for step in plan.steps
    ]


def plan_line(plan: Plan) -> SafeString:
    """Return a plan as one line, whole."""
    parts = []
    for step in plan.steps:
        pipeline = format_html_join(
            format_html(' <span class="atom-join">{}</span> ', "|"),
            "{}",
            ((command_html(command),) for command in step.pipeline),
        )
        joined = format_html(' <span class="atom-join">{}</span> ', step.join.value) if step.join else ""
        negated = mark_safe('<span class="atom-join">!</span> ') if step.is_negated else ""
        parts.append(format_html("{}{}{}", joined, negated, pipeline))
    return format_html_join("", "{}", ((part,) for part in parts))


@dataclass(frozen=True, slots=True)
class ShownScript:
    """A file of code. `sha256` is that of its content, `absent`, or empty where the host could not say."""

    path: str
    sha256: str


def requests_of(sessions: Sequence[ShellSession]) -> dict[UUID, StoredRequest]:
    """Return what each session asked for; one whose request was erased is missing."""
    kinds = (AuditPayload.Kind.REQUEST, AuditPayload.Kind.SCRIPTS)
    stored: dict[UUID, dict[str, bytes]] = {}
    for row in payloads_of([session.pk for session in sessions], *kinds):
        stored.setdefault(row.session_id, {})[row.kind] = row.data
    return {
        session_id: StoredRequest.read(found["request"], found.get("scripts"))
        for session_id, found in stored.items()
        if "request" in found
    }


def shown_scripts(request: StoredRequest | None, decision: Mapping[str, Any] | None) -> list[ShownScript]:
    """Return the files of code that a decision names, with what the host said of each."""
    known = {script.path: script.sha256 for script in request.scripts} if request else {}
    return [ShownScript(str(path), known.get(path, "")) for path in (decision or {}).get("scripts", [])]


def requests_with(words: str, session_ids: Sequence[UUID]) -> list[UUID]:
    """Return which of these sessions asked for something that has these words in it, in capitals or not."""
    # What is stored is canonical JSON, in which quotes and line ends are spelled otherwise.
    wanted = canonical.dumps(words)[1:-1].lower()
    found = []
    for batch in range(0, len(session_ids), _SEARCHED_AT_ONCE):
        rows = payloads_of(session_ids[batch : batch + _SEARCHED_AT_ONCE], AuditPayload.Kind.REQUEST)
        found += [row.session_id for row in rows if wanted in row.data.decode(errors="replace").lower()]
    return found


def decisions_of(sessions: Sequence[ShellSession]) -> dict[UUID, list[Mapping[str, Any]]]:
    """Return every decision of each session, oldest first, as governance wrote it."""
    found: dict[UUID, list[Mapping[str, Any]]] = {}
    for row in payloads_of([session.pk for session in sessions], AuditPayload.Kind.DECISION):
        found.setdefault(row.session_id, []).append(json.loads(row.data))
    return found
