"""The pages of a session for who reviews it: its story, and the erasure of what is stored of it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST, require_safe

from audit.models import AuditErasure
from audit.reading import reading_record
from audit.tags import Tag
from audit.trail import Party
from governance.admin_agents import person, told
from shellagent import limits
from shellagent.admin_access import session_seen
from shellagent.admin_story import story_context
from shellagent.services import erasure_decide, erasure_request
from shellagent.services.moving import session_about


class EraseForm(forms.Form):
    """What is to go, and why."""

    part = forms.ChoiceField(choices=AuditErasure.Part.choices)
    reason = forms.CharField(max_length=limits.REASON_MAX_CHARACTERS)


class ReviewViews:
    """The views of a session admin that reviewers use."""

    admin_site: Any
    opts: Any

    def review_urls(self) -> list[URLPattern]:
        """Return the addresses, below those of the section."""

        def view(work: Callable[..., HttpResponse]) -> Any:
            return self.admin_site.admin_view(work)

        return [
            path("<uuid:session_id>/story/", view(require_safe(self.story_view)), name="shellagent_shellsession_story"),
            path("<uuid:session_id>/erase/", view(require_POST(self.erase_view)), name="shellagent_shellsession_erase"),
            path(
                "<uuid:session_id>/erase/<int:erasure_id>/",
                view(require_POST(self.erase_decide_view)),
                name="shellagent_shellsession_erase_decide",
            ),
        ]

    def story_view(self, request: HttpRequest, session_id: UUID) -> HttpResponse:
        """Show the story. Reading it is an event of its own, written first."""
        session, user = session_seen(request, session_id), person(request)
        if not user.has_perm("audit.view_audit"):
            raise PermissionDenied
        subject = Party("session", str(session.pk), session.agent_label)
        reading_record(user, {}, tag=Tag.TRAIL_REPLAYED, subject=subject, about=session_about(session))
        context = {
            **self.admin_site.each_context(request),
            **story_context(session, user),
            "opts": self.opts,
            "title": "Story of a session",
        }
        return TemplateResponse(request, "admin/shellagent/shellsession/story.html", context)

    def erase_view(self, request: HttpRequest, session_id: UUID) -> HttpResponse:
        """Ask for an erasure."""
        session, user = session_seen(request, session_id), person(request)
        form = EraseForm(request.POST)
        if not form.is_valid():
            messages.error(request, "Not done. Choose what is to be erased, and say why.")
        else:
            part, reason = AuditErasure.Part(form.cleaned_data["part"]), form.cleaned_data["reason"]
            told(
                request,
                lambda: erasure_request(session=session, part=part, reason=reason, user=user),
                "Asked for. Nothing is erased before a second person confirms it on this page.",
            )
        return HttpResponseRedirect(reverse("admin:shellagent_shellsession_change", args=[session.pk]))

    def erase_decide_view(self, request: HttpRequest, session_id: UUID, erasure_id: int) -> HttpResponse:
        """Confirm or refuse an erasure."""
        session, user = session_seen(request, session_id), person(request)
        erasure = get_object_or_404(AuditErasure, pk=erasure_id, session_id=session.pk)
        confirms = request.POST.get("decision") == "confirm"
        words = "Erased. The trail keeps what it was by its commitments." if confirms else "Everything stays."
        told(request, lambda: erasure_decide(erasure=erasure, user=user, confirms=confirms), words)
        return HttpResponseRedirect(reverse("admin:shellagent_shellsession_change", args=[session.pk]))
