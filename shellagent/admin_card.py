"""The card: one session on one small page, made for deciding with a thumb, and for seeing what became of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Count, F, Max
from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from audit.models import AuditPayload
from governance.admin_agents import MEANING, person
from governance.policy.types import Maturity
from shellagent.admin_access import session_seen
from shellagent.admin_deciding import deciding_context
from shellagent.admin_grants import grants_context
from shellagent.admin_plans import decisions_of, plan_steps, requests_of, shown_scripts
from shellagent.admin_session_page import CANCELLABLE, STATUS_WORDS
from shellagent.likeness import LOOKED_AT, Earlier, nearest
from shellagent.models import Approval, ExecutionRecord, ShellSession
from shellagent.pending import sessions_pending
from shellagent.records import agent_record
from shellagent.representation import host_is_online, joined
from shellagent.services import may_cancel, output_of, session_expire
from shellagent.services.deciding import StoredRequest
from shellagent.services.recording import STREAMS
from shellagent.states import Status

#: The end of what a command printed; all of it is on the session's page.
OUTPUT_SHOWN_CHARACTERS: Final = 16_384
#: What a host must do or may not do for a command, in words.
_OBLIGATION_WORDS: Final = {
    "sandbox": "It runs only where the file system sandbox is active.",
    "network": "It may reach the network.",
    "read-only": "It may change nothing: every write is closed to it.",
    "git-hardened": "Git runs nothing that the repository names.",
}
_NO_NETWORK: Final = "It cannot reach the network, where the host's sandbox can close it."
#: Words of the decision that tell an approver nothing.
_DULL_EFFECTS: Final = frozenset(("is a listed option", "is an argument"))


@dataclass(frozen=True, slots=True)
class Deed:
    """What one program of the plan would do: its words, what it does, and what each word after it means."""

    title: str
    effect: str
    details: Sequence[Mapping[str, str]]


@require_safe
def card_view(request: HttpRequest, session_id: UUID) -> HttpResponse:
    """Show the card. Nothing is decided by this address."""
    session = _fresh(request, session_id)
    context = {
        **admin.site.each_context(request),
        **card_context(session, person(request)),
        "is_rejecting": "reject" in request.GET,
        **grants_context(session, person(request)),
        "title": "Decide" if session.status == Status.PENDING else "What became of it",
    }
    return TemplateResponse(request, "admin/card.html", context)


@require_safe
def card_now_view(request: HttpRequest, session_id: UUID) -> HttpResponse:
    """Answer the part of the card that changes, or 304 where it is as it was."""
    session = _fresh(request, session_id)
    tag = f'"{_version(session)}"'
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified(headers={"ETag": tag})
    context = now_context(session, person(request), requests_of([session]).get(session.pk))
    return TemplateResponse(request, "atom/card_now.html", context, headers={"ETag": tag, "Cache-Control": "no-cache"})


def _fresh(request: HttpRequest, session_id: UUID) -> ShellSession:
    session = session_seen(request, session_id)
    if session_expire(session.pk):
        session.refresh_from_db()
    return session


def _version(session: ShellSession) -> str:
    rows = AuditPayload.objects.filter(session_id=session.pk, kind__in=list(STREAMS.values()))
    output = rows.aggregate(parts=Count("pk"), end=Max(F("offset") + Length("data")))
    return f"{session.event_seq}-{output['parts']}-{output['end'] or 0}-{int(host_is_online(session.host))}"


def now_context(session: ShellSession, reader: User, request: StoredRequest | None) -> dict[str, Any]:
    """Return what changes on a card: where the session is, who may decide, and what it printed."""
    status = Status(session.status)
    return {
        **deciding_context(session, reader, is_erased=request is None),
        "session": session,
        "status": status,
        "status_words": STATUS_WORDS[status],
        "is_over": status.is_terminal,
        "version": _version(session),
        "now": int(timezone.now().timestamp() * 1000),
        "approvals": list(Approval.objects.filter(session=session).order_by("decided_at")),
        "record": ExecutionRecord.objects.filter(session=session).order_by("is_late").first(),
        "streams": _streams(session) if session.started_at else [],
        "is_online": host_is_online(session.host),
        "may_cancel": status in CANCELLABLE and status is not Status.PENDING and not may_cancel(session, reader),
    }


def card_context(session: ShellSession, reader: User) -> dict[str, Any]:
    """Return the template's values for a card."""
    request = requests_of([session]).get(session.pk)
    decided = decisions_of([session]).get(session.pk)
    decision = decided[-1] if decided else {}
    obligations = decision.get("obligations", [])
    waiting = [one for one in sessions_pending() if one.id != session.pk]
    return {
        **now_context(session, reader, request),
        "steps": plan_steps(request.plan) if request else [],
        "deeds": deeds_of(decision.get("tokens", [])),
        "decision": decision,
        "is_daemon": "daemon" in obligations,
        "limits": [
            *(_OBLIGATION_WORDS[name] for name in obligations if name in _OBLIGATION_WORDS),
            *([] if "network" in obligations or "daemon" in obligations else [_NO_NETWORK]),
        ],
        "env": sorted(request.env.items()) if request else [],
        "secrets": request.secrets if request else (),
        "scripts": shown_scripts(request, decision),
        "reason": request.reason if request else "",
        "meaning": MEANING[Maturity(session.maturity)],
        "agent_record": agent_record(session.agent),
        "earlier": earlier_of(session, request),
        "waiting": len(waiting),
        "next_waiting": waiting[0] if waiting else None,
    }


def deeds_of(tokens: Sequence[Mapping[str, str]]) -> list[Deed]:
    """Return a decision's words by program: what each does, without the words that say nothing."""
    deeds: list[tuple[list[str], list[str], list[Mapping[str, str]]]] = []
    for token in tokens:
        if token["role"] == "program" or not deeds:
            deeds.append(([token["text"]], [token["effect"]], []))
        elif token["role"] == "subcommand":
            # What the program does in general says less than what this part of it does.
            deeds[-1][0].append(token["text"])
            deeds[-1][1].append(token["effect"])
        elif token["effect"] not in _DULL_EFFECTS:
            deeds[-1][2].append(token)
    return [Deed(" ".join(title), effects[-1], details) for title, effects, details in deeds]


def earlier_of(session: ShellSession, request: StoredRequest | None) -> list[Earlier]:
    """Return the agent's earlier commands that are most like this one."""
    if request is None:
        return []
    rows = ShellSession.objects.filter(agent_id=session.agent_id, pk__lt=session.pk)
    before = list(rows.order_by("-id")[:LOOKED_AT])
    requests = requests_of(before)
    return nearest(request.plan, [(one, requests[one.pk].plan) for one in before if one.pk in requests])


def _streams(session: ShellSession) -> list[tuple[str, str]]:
    texts = ((name, joined(parts).decode(errors="replace")) for name, parts in output_of(session.pk).items())
    return [(name, text[-OUTPUT_SHOWN_CHARACTERS:]) for name, text in texts if text]
