"""The queue: all that waits for a person, riskiest and oldest first, and what is asked for alike decided together."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from governance.admin_agents import person
from governance.errors import ProblemError
from governance.models import Agent
from governance.policies import policy_generation
from governance.terms import Terms, terms_in_force
from shellagent.admin_access import may_view_sessions
from shellagent.admin_deciding import CANNED, DecideForm, form_problems
from shellagent.admin_plans import DrawnStep, ShownScript, decisions_of, plan_steps, requests_of, shown_scripts
from shellagent.models import Approval, Host, ShellSession
from shellagent.pending import Pending, counts_by, sessions_pending, version_of
from shellagent.services import may_approve, session_reject, sessions_approve, sessions_expire

PAGE_ROWS: Final = 25
INDEX_ROWS: Final = 10
#: By what the queue is narrowed, and where else it is shown.
FILTERS: Final = ("category", "agent", "host")
_PLACES: Final = ("queue", "index")
#: As many of the same are decided with one button.
SAME_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class WaitingCard:
    """A session that waits, as the queue shows it. `refusal` says why the reader may not decide, or is empty."""

    session: ShellSession
    steps: Sequence[DrawnStep]
    env: Sequence[tuple[str, str]]
    secrets: Sequence[str]
    scripts: Sequence[ShownScript]
    reason: str
    explanation: str
    refusal: str
    terms: Terms
    #: How many have approved it.
    given: int
    is_daemon: bool


def waiting_cards(sessions: Sequence[ShellSession], reader: User) -> list[WaitingCard]:
    """Return the cards of sessions that wait. Five queries, however many they are."""
    requests, decisions = requests_of(sessions), decisions_of(sessions)
    given, terms = _given(sessions), terms_in_force()
    cards = []
    for session in sessions:
        request = requests.get(session.pk)
        refusal = may_approve(session, reader)
        if request is None:
            refusal = refusal or "The command was erased; it can no longer be approved."
        decided = decisions.get(session.pk)
        decision: Mapping[str, Any] = decided[-1] if decided else {}
        cards.append(
            WaitingCard(
                session,
                plan_steps(request.plan) if request else (),
                sorted(request.env.items()) if request else (),
                request.secrets if request else (),
                shown_scripts(request, decision),
                request.reason if request else "",
                str(decision.get("explanation", "")),
                refusal,
                terms.of(session.category, [rule["id"] for rule in decision.get("rules", [])]),
                given.get((session.pk, session.digest), 0),
                "daemon" in decision.get("obligations", []),
            )
        )
    return cards


def _given(sessions: Sequence[ShellSession]) -> dict[tuple[UUID, str], int]:
    rows = Approval.objects.filter(session__in=sessions, decision="approve", voided_at=None, approver__is_active=True)
    counted = rows.order_by().values_list("session_id", "digest").annotate(Count("pk"))
    return {(session_id, digest): count for session_id, digest, count in counted}


def queue_context(
    request: HttpRequest, place: str, rows: int = PAGE_ROWS, *, known: list[Pending] | None = None
) -> dict[str, Any]:
    """Return the template's values for the queue as it is asked for: filtered, and one page of it.

    `known` is what waits, where it was just read.
    """
    pending = sessions_pending() if known is None else known
    wanted = {name: request.GET[name] for name in FILTERS if request.GET.get(name)} if place == "queue" else {}
    found = [one for one in pending if all(getattr(one, name) == value for name, value in wanted.items())]
    page = _page_number(request) if place == "queue" else 1
    pages = max(1, -(-len(found) // rows))
    page = min(page, pages)
    shown = found[(page - 1) * rows : page * rows]
    sessions = ShellSession.objects.select_related("agent", "host").in_bulk([one.id for one in shown])
    alike = Counter(one.digest for one in pending)
    return {
        "place": place,
        "count": len(pending),
        "found": len(found),
        "newest": max((one.id for one in found), default=""),
        "cards": waiting_cards([sessions[one.id] for one in shown if one.id in sessions], person(request)),
        "alike": {digest: count for digest, count in alike.items() if count > 1},
        "filters": _filters(pending, wanted),
        "at": _query(wanted, page),
        "page": page,
        "pages": pages,
        "older": _query(wanted, page + 1) if page < pages else "",
        "newer": _query(wanted, page - 1) if page > 1 else "",
        "tag": _tag(request, pending),
        "now": _milliseconds(),
        "has_agents": Agent.objects.exists() if not pending else True,
        "has_hosts": Host.objects.exists() if not pending else True,
    }


@require_safe
def queue_view(request: HttpRequest) -> HttpResponse:
    """Show what waits. Nothing is decided by this address."""
    _check(request)
    sessions_expire()
    context = {**admin.site.each_context(request), **queue_context(request, "queue"), "title": "Queue"}
    return TemplateResponse(request, "admin/queue.html", context)


@require_safe
def queue_now_view(request: HttpRequest) -> HttpResponse:
    """Answer the queue as it is now, or 304 where it is as it was: then one query of an index is all it costs."""
    _check(request)
    pending = sessions_pending()
    tag = _tag(request, pending)
    headers = {"ETag": tag, "X-Atom-Now": str(_milliseconds()), "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified(headers=headers)
    place = request.GET.get("from", "")
    place = place if place in _PLACES else "queue"
    context = queue_context(request, place, INDEX_ROWS if place == "index" else PAGE_ROWS, known=pending)
    headers["ETag"] = context["tag"]
    return TemplateResponse(request, "atom/queue.html", context, headers=headers)


@require_http_methods(["GET", "HEAD", "POST"])
def queue_same_view(request: HttpRequest, digest: str) -> HttpResponse:
    """Show every session that asks for exactly this, and decide on those that were shown, by POST."""
    _check(request)
    rows = ShellSession.objects.select_related("agent", "host")
    alike = [one.id for one in sessions_pending() if one.digest == digest]
    ids = alike[:SAME_MAX]
    if request.method == "POST":
        shown = set(request.POST.getlist("session"))
        _decide_same(
            request, list(rows.filter(pk__in=[one for one in ids if str(one) in shown]).order_by("pk")), digest
        )
        return redirect("queue")
    if not ids:
        raise Http404
    cards = waiting_cards(list(rows.filter(pk__in=ids).order_by("pk")), person(request))
    context = {
        **admin.site.each_context(request),
        "title": "The same, asked for several times",
        "cards": cards,
        "asked": len(alike),
        "first": cards[0],
        "decidable": [card for card in cards if not card.refusal],
        "digest": digest,
        "canned": CANNED.items(),
        "now": _milliseconds(),
    }
    return TemplateResponse(request, "admin/same.html", context)


def _decide_same(request: HttpRequest, sessions: list[ShellSession], digest: str) -> None:
    form = DecideForm({**request.POST.dict(), "digest": digest})
    if not form.is_valid():
        messages.error(request, f"Not done. {form_problems(form)}")
        return
    if form.cleaned_data["decision"] == "approve":
        told = sessions_approve(
            sessions=sessions,
            approver=person(request),
            reason=form.words(),
            digest=digest,
            address=request.META.get("REMOTE_ADDR") or None,
            code=form.cleaned_data["code"],
        )
    else:
        told = [(session, _reject(request, session, form.words(), digest)) for session in sessions]
    for session, problem in told:
        if problem is not None:
            messages.error(request, f"Not done for {session.agent_label}, session {session.pk}. {problem.detail}")
    done = len([problem for _session, problem in told if problem is None])
    if done:
        decided = "Approved" if form.cleaned_data["decision"] == "approve" else "Rejected"
        messages.success(request, f"{decided}: {done} of {len(told)}.")
    if not told:
        messages.error(request, "Not done. None of these waits any more.")


def _reject(request: HttpRequest, session: ShellSession, reason: str, digest: str) -> ProblemError | None:
    address = request.META.get("REMOTE_ADDR") or None
    try:
        session_reject(session=session, approver=person(request), reason=reason, digest=digest, address=address)
    except ProblemError as problem:
        return problem
    return None


def _check(request: HttpRequest) -> None:
    if not may_view_sessions(request):
        raise PermissionDenied


def _filters(pending: Sequence[Pending], wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return each filter with its values and how many wait of each; one that tells nothing apart is left out."""
    filters = []
    for name in FILTERS:
        counts = counts_by(pending, name)
        chosen = wanted.get(name, "")
        if len(counts) < 2 and not chosen:
            continue
        others = {key: value for key, value in wanted.items() if key != name}
        values = [(value, count, _query({**others, name: value}), value == chosen) for value, count in counts]
        if chosen and chosen not in dict(counts):
            values.append((chosen, 0, _query({**others, name: chosen}), True))
        filters.append({"name": name, "values": values, "chosen": chosen, "all": _query(others)})
    return filters


def _query(values: Mapping[str, str], page: int = 1) -> str:
    query = QueryDict(mutable=True)
    query.update(values)
    if page > 1:
        query["p"] = str(page)
    return query.urlencode()


def _page_number(request: HttpRequest) -> int:
    text = request.GET.get("p", "")
    return max(1, int(text)) if text.isdecimal() and len(text) < 6 else 1


def _tag(request: HttpRequest, pending: Sequence[Pending]) -> str:
    """Return what is another one whenever this reader would see another queue."""
    told = (version_of(pending), request.GET.urlencode(), person(request).pk, policy_generation())
    return f'"{hashlib.sha256(repr(told).encode()).hexdigest()[:32]}"'


def _milliseconds() -> int:
    return int(timezone.now().timestamp() * 1000)
