"""Sessions in the admin: what waits comes first, and is approved or rejected here. All else is history, read-only."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from audit.admin_lists import ShowOnlyAdmin, UncountedChangeList
from audit.admin_text import visible
from audit.trail import Party
from governance.admin_agents import person, told
from governance.models import Agent
from governance.policy.types import Category
from governance.services import user_party
from shellagent import limits
from shellagent.admin_plans import plan_line, requests_of, requests_with, waiting_cards
from shellagent.admin_reviewing import ReviewViews
from shellagent.admin_session_page import may_cancel, session_context
from shellagent.admin_trail import SessionApproverFilter
from shellagent.models import Host, ShellSession
from shellagent.services import session_approve, session_cancel, session_reject, sessions_expire
from shellagent.states import Status

#: More than this waits for nobody: the list says that there is more, and the filters find it.
QUEUE_LENGTH = 50
#: Commands have no index: words are looked for in the newest sessions only, of those that the filters leave.
TEXT_WINDOW = 2_000


class DecideForm(forms.Form):
    """A person's word, bound to the digest of what they saw."""

    decision = forms.ChoiceField(choices=[("approve", "approve"), ("reject", "reject")])
    digest = forms.RegexField(r"^[0-9a-f]{64}\Z")
    reason = forms.CharField(max_length=limits.REASON_MAX_CHARACTERS, required=False)


class CancelForm(forms.Form):
    """Why it is cancelled."""

    reason = forms.CharField(max_length=limits.REASON_MAX_CHARACTERS, required=False)


class CategoryFilter(admin.SimpleListFilter):
    """The category; its values are known, and not asked of a million rows."""

    title = "category"
    parameter_name = "category"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(item.value, item.value) for item in Category]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ShellSession]) -> QuerySet[ShellSession]:
        return queryset.filter(category=self.value()) if self.value() else queryset


class SessionChangeList(UncountedChangeList):
    """What waits, oldest first and apart; below it all else, newest first."""

    def get_results(self, request: HttpRequest) -> None:
        waiting = self.queryset.filter(status=Status.PENDING).order_by("id")
        first = self.page_num <= 1
        found = list(waiting.select_related("agent", "host")[: QUEUE_LENGTH + 1]) if first else []
        self.cards = waiting_cards(found[:QUEUE_LENGTH], person(request))
        self.has_more_waiting = len(found) > QUEUE_LENGTH
        self.queryset = self.queryset.exclude(status=Status.PENDING)
        super().get_results(request)
        requests = requests_of(self.result_list)
        for session in self.result_list:
            session.shown_request = requests.get(session.pk)


def may_view_sessions(request: HttpRequest) -> bool:
    """Return whether this person sees every session."""
    user = request.user
    return bool(user.has_perm("shellagent.view_shellsession") or user.has_perm("shellagent.approve"))


@admin.register(ShellSession)
class ShellSessionAdmin(ReviewViews, ShowOnlyAdmin[ShellSession]):
    """The queue and the history."""

    list_display = ["badge", "command", "who", "level", "kind", "place", "created"]
    list_display_links = ["badge"]
    list_filter = ["status", "agent", CategoryFilter, "host", SessionApproverFilter, "created_at"]
    search_fields = ["id"]
    search_help_text = (
        f"A session's id, or words of a command or its reason (looked for in the newest {TEXT_WINDOW:,} that match)."
    )
    list_per_page = 50
    sortable_by = ()
    ordering = ["-id"]
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    change_list_template = "admin/shellagent/shellsession/list.html"

    def may_view(self, request: HttpRequest) -> bool:
        return may_view_sessions(request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SessionChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ShellSession], search_term: str
    ) -> tuple[QuerySet[ShellSession], bool]:
        """Find an id, or words in what was asked: those are looked for in few of the newest, as they have no index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            newest = queryset.order_by("-id").values_list("pk", flat=True)[:TEXT_WINDOW]
            return queryset.filter(pk__in=requests_with(term, list(newest))), False

    def get_urls(self) -> list[URLPattern]:
        def post(work: Callable[..., HttpResponse]) -> Any:
            return self.admin_site.admin_view(require_POST(work))

        own = [
            path("<uuid:session_id>/decide/", post(self.decide_view), name="shellagent_shellsession_decide"),
            path("<uuid:session_id>/cancel/", post(self.cancel_view), name="shellagent_shellsession_cancel"),
        ]
        return own + self.review_urls() + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.may_view(request):
            raise PermissionDenied
        sessions_expire()
        context = {
            "title": "Sessions",
            "empty_text": "Nothing yet. What agents ask for, with POST /api/local-agent/execute, appears here.",
            "has_agents": Agent.objects.exists(),
            "has_hosts": Host.objects.exists(),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one session. Nothing is changed by this address."""
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        try:
            session_id = UUID(object_id)
        except ValueError:
            raise Http404 from None
        sessions_expire()
        session = self._session(request, session_id)
        context = {
            **self.admin_site.each_context(request),
            **session_context(session, person(request)),
            "opts": self.opts,
            "title": "Session",
        }
        return TemplateResponse(request, "admin/shellagent/shellsession/page.html", context)

    def decide_view(self, request: HttpRequest, session_id: UUID) -> HttpResponse:
        """Approve or reject, by the services that the API calls. POST only, and only what was shown."""
        session = self._session(request, session_id)
        form = DecideForm(request.POST)
        if not form.is_valid():
            problems = [f"{name}: {error}" for name, errors in form.errors.items() for error in errors]
            messages.error(request, f"Not done. {' '.join(problems)}")
            return self._back(request, session_id)
        values, approver = form.cleaned_data, person(request)
        address = request.META.get("REMOTE_ADDR") or None
        name = f"{session.agent_label} on {session.host_label}"

        def work() -> object:
            decide = session_reject if values["decision"] == "reject" else session_approve
            return decide(
                session=session, approver=approver, reason=values["reason"], digest=values["digest"], address=address
            )

        if values["decision"] == "reject":
            told(request, work, f"Rejected for {name}. The agent gets your reason.")
            return self._back(request, session_id)
        if told(request, work):
            stands = ShellSession.objects.get(pk=session_id)
            if stands.status == Status.DENIED:
                # The decision was taken again with the rules of now, and the stricter one counts.
                why = stands.termination_detail
                messages.warning(request, f"Not approved: by the rules of now this is denied. {why}")
            else:
                messages.success(request, f"Approved for {name}. It runs as soon as the host takes it.")
        return self._back(request, session_id)

    def cancel_view(self, request: HttpRequest, session_id: UUID) -> HttpResponse:
        """Cancel before it runs; while it runs, have its host stop it."""
        session, user = self._session(request, session_id), person(request)
        if not may_cancel(session, user):
            raise PermissionDenied
        form = CancelForm(request.POST)
        reason = form.cleaned_data["reason"] if form.is_valid() else ""
        actor: Party = user_party(user)
        told(
            request,
            lambda: session_cancel(session=session, actor=actor, reason=reason),
            "Cancelled; a command that runs is being stopped by its host.",
        )
        return self._back(request, session_id)

    def _session(self, request: HttpRequest, session_id: UUID) -> ShellSession:
        if not self.may_view(request):
            raise PermissionDenied
        session = ShellSession.objects.select_related("agent", "host").filter(pk=session_id).first()
        if session is None:
            raise Http404
        return session

    def _back(self, request: HttpRequest, session_id: UUID) -> HttpResponse:
        """Return to where the button was: one of three pages, never an address from the request."""
        came_from = request.POST.get("from")
        if came_from == "index":
            return HttpResponseRedirect(reverse("admin:index"))
        if came_from == "list":
            return HttpResponseRedirect(reverse("admin:shellagent_shellsession_changelist"))
        return HttpResponseRedirect(reverse("admin:shellagent_shellsession_change", args=[session_id]))

    @admin.display(description="status")
    def badge(self, session: ShellSession) -> SafeString:
        """Return the status as a badge."""
        return format_html(
            '<span class="atom-badge atom-is-{}">{}</span>', session.status, session.status.replace("_", " ")
        )

    @admin.display(description="command")
    def command(self, session: ShellSession) -> SafeString:
        """Return the command, whole, from the plan."""
        request = getattr(session, "shown_request", None)
        if request is None:
            return format_html('<span class="atom-quiet">{}</span>', "erased")
        return format_html('<code class="atom-command">{}</code>', plan_line(request.plan))

    @admin.display(description="agent")
    def who(self, session: ShellSession) -> SafeString:
        """Return the agent's name as it was."""
        return visible(session.agent_label)

    @admin.display(description="maturity")
    def level(self, session: ShellSession) -> SafeString:
        """Return the maturity as it was."""
        return format_html('<span class="atom-badge atom-is-{}">{}</span>', session.maturity.lower(), session.maturity)

    @admin.display(description="category")
    def kind(self, session: ShellSession) -> SafeString:
        """Return the category as a badge."""
        return format_html('<span class="atom-badge atom-category-{0}">{0}</span>', session.category)

    @admin.display(description="host")
    def place(self, session: ShellSession) -> SafeString:
        """Return the host's name as it was."""
        return visible(session.host_label)

    @admin.display(description="created")
    def created(self, session: ShellSession) -> SafeString:
        """Return the day and the time to the second."""
        moment = timezone.localtime(session.created_at)
        return format_html('{} <span class="atom-sub atom-quiet">{}</span>', f"{moment:%H:%M:%S}", f"{moment:%Y-%m-%d}")
