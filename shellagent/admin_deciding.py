"""The one door by which the admin's pages decide on a session: POST only, bound to what was shown."""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from governance.admin_agents import person, told
from governance.codes import has_code
from governance.services import user_party
from shellagent import limits
from shellagent.admin_access import session_seen
from shellagent.models import ShellSession
from shellagent.services import (
    approvals_given,
    may_approve,
    may_cancel,
    session_approve,
    session_cancel,
    session_reject,
    session_terms,
)
from shellagent.states import Status

#: What people say most often when they reject. Each tells the agent what to do next.
CANNED: Final = {
    "narrower": "Too broad. Name the exact files or options that you need, and ask again.",
    "why": "Say in `reason` what you need this for, and ask again.",
    "place": "Not in this place. Work inside your own folders, and ask again.",
    "look": "Look first. Send a command that only reads, and ask again with what you found.",
    "otherwise": "Not with this command. Find another way, and ask again.",
    "never": "Do not do this. Go on without it.",
}
#: Where the buttons are, and what each leads back to. Never an address from the request.
_BACK: Final = {
    "index": "admin:index",
    "list": "admin:shellagent_shellsession_changelist",
    "page": "admin:shellagent_shellsession_change",
}


class DecideForm(forms.Form):
    """A person's word, bound to the digest of what they saw."""

    decision = forms.ChoiceField(choices=[("approve", "approve"), ("reject", "reject")])
    digest = forms.RegexField(r"^[0-9a-f]{64}\Z")
    canned = forms.ChoiceField(choices=[(name, name) for name in CANNED], required=False)
    reason = forms.CharField(max_length=limits.REASON_MAX_CHARACTERS, required=False)
    code = forms.CharField(max_length=12, required=False)

    def words(self) -> str:
        """Return what the person says, in our words and their own."""
        own = self.cleaned_data["reason"]
        return " ".join(filter(None, (CANNED.get(self.cleaned_data["canned"]), own)))


class CancelForm(forms.Form):
    """Why it is cancelled."""

    reason = forms.CharField(max_length=limits.REASON_MAX_CHARACTERS, required=False)


def deciding_context(session: ShellSession, reader: User, *, is_erased: bool) -> dict[str, Any]:
    """Return what the decision's own part of a page shows: whether this person may decide, and on which terms."""
    is_pending = session.status == Status.PENDING
    refusal = may_approve(session, reader) if is_pending else ""
    if is_pending and is_erased:
        refusal = refusal or "The command was erased; it can no longer be approved."
    terms = session_terms(session)
    return {
        "is_pending": is_pending,
        "refusal": refusal,
        "canned": CANNED.items(),
        "terms": terms,
        "given": approvals_given(session.pk, session.digest) if is_pending else 0,
        "has_code": terms.needs_code and has_code(reader),
    }


def form_problems(form: forms.Form) -> str:
    """Return what is wrong with a form, in one line."""
    return " ".join(f"{name}: {error}" for name, errors in form.errors.items() for error in errors)


class DecideViews:
    """The views of a session admin that decide and cancel."""

    admin_site: Any

    def decide_urls(self) -> list[URLPattern]:
        """Return the addresses, below those of the section."""

        def post(work: Callable[..., HttpResponse]) -> Any:
            return self.admin_site.admin_view(require_POST(work))

        return [
            path("<uuid:session_id>/decide/", post(self.decide_view), name="shellagent_shellsession_decide"),
            path("<uuid:session_id>/cancel/", post(self.cancel_view), name="shellagent_shellsession_cancel"),
        ]

    def decide_view(self, request: HttpRequest, session_id: UUID) -> HttpResponse:
        """Approve or reject, by the services that the API calls. POST only, and only what was shown."""
        session = session_seen(request, session_id)
        form = DecideForm(request.POST)
        if not form.is_valid():
            messages.error(request, f"Not done. {form_problems(form)}")
            return _back(request, session_id)
        values = form.cleaned_data
        word = {
            "session": session,
            "approver": person(request),
            "reason": form.words(),
            "digest": values["digest"],
            "address": request.META.get("REMOTE_ADDR") or None,
        }
        name = f"{session.agent_label} on {session.host_label}"
        if values["decision"] == "reject":
            told(request, lambda: session_reject(**word), f"Rejected for {name}. The agent gets your reason.")
        elif told(request, lambda: session_approve(**word, code=values["code"])):
            _tell_of_approval(request, session_id, name)
        return _back(request, session_id)

    def cancel_view(self, request: HttpRequest, session_id: UUID) -> HttpResponse:
        """Cancel before it runs; while it runs, have its host stop it."""
        session, user = session_seen(request, session_id), person(request)
        if may_cancel(session, user):
            raise PermissionDenied
        form = CancelForm(request.POST)
        reason = form.cleaned_data["reason"] if form.is_valid() else ""
        told(
            request,
            lambda: session_cancel(session=session, actor=user_party(user), reason=reason),
            "Cancelled; a command that runs is being stopped by its host.",
        )
        return _back(request, session_id)


def _tell_of_approval(request: HttpRequest, session_id: UUID, name: str) -> None:
    stands = ShellSession.objects.get(pk=session_id)
    if stands.status == Status.DENIED:
        # The decision was taken again with the rules of now, and the stricter one counts.
        messages.warning(request, f"Not approved: by the rules of now this is denied. {stands.termination_detail}")
    elif stands.status == Status.PENDING:
        messages.success(request, f"Approved for {name}, as the first of two. Another person has to approve it too.")
    else:
        messages.success(request, f"Approved for {name}. It runs as soon as the host takes it.")


def _back(request: HttpRequest, session_id: UUID) -> HttpResponse:
    """Return to where the button was; without a place, to the card."""
    if request.POST.get("from") == "queue":
        query = QueryDict(request.POST.get("at", "")[:1000], mutable=True)
        for name in set(query) - {"category", "agent", "host", "p"}:
            del query[name]
        return HttpResponseRedirect("?".join(filter(None, (reverse("queue"), query.urlencode()))))
    place = _BACK.get(request.POST.get("from", ""), "card")
    of_session = place in ("card", _BACK["page"])
    return HttpResponseRedirect(reverse(place, args=[session_id] if of_session else []))
