"""Granting from a card: what it would cover is shown first, on a page of its own; only its form grants."""

import re
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from governance.admin_agents import person, told
from governance.models import PolicyRule
from governance.policies import current_policy
from governance.policy.types import Outcome
from governance.previews import LAST, Change
from governance.services import rule_delete, user_party
from shellagent.admin_access import session_seen
from shellagent.models import ShellSession
from shellagent.replaying import sessions_replay
from shellagent.services.allowing import (
    GRANT_PERMISSION,
    GrantKind,
    GrantOffer,
    grant_offer,
    may_grant,
    policy_with,
    session_grant,
)

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: As many of the commands that it would have covered are listed.
_LISTED: Final = 20
WORDS: Final = {
    GrantKind.COMMAND: "This exact command, for 24 hours",
    GrantKind.SHAPE: "This shape, for this agent in this folder, for 7 days",
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a grant would have let through of the last `total` sessions."""

    total: int
    covered: tuple[Change, ...]

    @property
    def listed(self) -> tuple[Change, ...]:
        """Return the newest of them."""
        return self.covered[:_LISTED]


def coverage_of(offer: GrantOffer) -> Coverage | None:
    """Return which of the last sessions the grant would have let through without a person."""
    if offer.rule is None:
        return None
    replay = sessions_replay(policy_with(offer.rule), last=LAST, before=current_policy())
    fired = offer.rule.shown.id
    changes = (change for change in replay.changes if change.after is Outcome.ALLOW and fired in change.rules)
    return Coverage(replay.total, tuple(changes))


@require_http_methods(["GET", "HEAD", "POST"])
def grant_view(request: HttpRequest, session_id: UUID, kind: str) -> HttpResponse:
    """Show what a grant would cover, and give it where the form is sent. What cannot be granted says why."""
    session = session_seen(request, session_id)
    if kind not in list(GrantKind):
        raise Http404
    chosen, user = GrantKind(kind), person(request)
    if refusal := may_grant(session, user):
        raise PermissionDenied(refusal)
    if request.method == "POST" and _granted(request, session, chosen):
        return HttpResponseRedirect(reverse("card", args=[session.pk]))
    offer = grant_offer(session, chosen)
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Grant",
        "session": session,
        "offer": offer,
        "rule": offer.rule,
        "words": WORDS[chosen],
        "coverage": coverage_of(offer),
        "reason": request.POST.get("reason", ""),
    }
    return TemplateResponse(request, "admin/grant.html", context)


def _granted(request: HttpRequest, session: Any, kind: GrantKind) -> bool:
    return told(
        request,
        lambda: session_grant(
            session=session,
            kind=kind,
            person=person(request),
            reason=request.POST.get("reason", ""),
            seen=request.POST.get("seen", ""),
        ),
        f"Granted: {WORDS[kind][0].lower()}{WORDS[kind][1:]}. It is among the operators' rules, to be revoked.",
    )


@require_POST
def revoke_view(request: HttpRequest, rule_id: int) -> HttpResponse:
    """Revoke a grant at once: what waits in a queue by it is decided again."""
    user = person(request)
    if not user.has_perm(GRANT_PERMISSION):
        raise PermissionDenied
    row = get_object_or_404(PolicyRule, pk=rule_id, outcome=Outcome.ALLOW)
    told(request, lambda: rule_delete(row=row, actor=user_party(user)), f"Revoked: {row.tokens} is asked about again.")
    session_id = request.POST.get("session", "")
    if _UUID.fullmatch(session_id) and ShellSession.objects.filter(pk=session_id).exists():
        return HttpResponseRedirect(reverse("card", args=[UUID(session_id)]))
    return HttpResponseRedirect(reverse("admin:governance_policyrule_changelist"))


def grants_context(session: Any, reader: Any) -> dict[str, Any]:
    """Return what a card says of grants: which may be asked for, and those that this agent has on this host."""
    if may_grant(session, reader):
        return {"grant_kinds": [], "grants": []}
    rows = PolicyRule.objects.filter(outcome=Outcome.ALLOW, expires_at__gt=timezone.now()).order_by("expires_at")
    own = [row for row in rows if row.agents == [session.agent_label] and row.hosts in ([], [session.host_label])]
    return {"grant_kinds": [(kind.value, text) for kind, text in WORDS.items()], "grants": own}
