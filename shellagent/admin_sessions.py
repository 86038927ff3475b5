"""Sessions in the admin: what waits comes first, and is approved or rejected here. All else is history, read-only."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit.admin_lists import ShowOnlyAdmin, UncountedChangeList
from audit.admin_text import visible
from governance.admin_agents import person
from governance.models import Agent
from governance.policy.types import Category
from shellagent.admin_access import may_view_sessions, session_seen
from shellagent.admin_deciding import DecideViews
from shellagent.admin_plans import plan_line, requests_of, requests_with
from shellagent.admin_queue import waiting_cards
from shellagent.admin_reviewing import ReviewViews
from shellagent.admin_session_page import session_context
from shellagent.admin_trail import SessionApproverFilter
from shellagent.models import Host, ShellSession
from shellagent.pending import sessions_pending
from shellagent.services import sessions_expire
from shellagent.states import Status

#: More than this waits for nobody: the list says that there is more, and the filters find it.
QUEUE_LENGTH = 50
#: Commands have no index: words are looked for in the newest sessions only, of those that the filters leave.
TEXT_WINDOW = 2_000


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
        # By their ids: sought by their state in the order of ids, PostgreSQL may read all that ever was asked for.
        waiting = self.queryset.filter(pk__in=[one.id for one in sessions_pending()]).order_by("id")
        first = self.page_num <= 1
        found = list(waiting.select_related("agent", "host")[: QUEUE_LENGTH + 1]) if first else []
        self.cards = waiting_cards(found[:QUEUE_LENGTH], person(request))
        #: By the server's clock, for the countdown.
        self.now = int(timezone.now().timestamp() * 1000)
        self.has_more_waiting = len(found) > QUEUE_LENGTH
        self.queryset = self.queryset.exclude(status=Status.PENDING)
        super().get_results(request)
        requests = requests_of(self.result_list)
        for session in self.result_list:
            session.shown_request = requests.get(session.pk)


@admin.register(ShellSession)
class ShellSessionAdmin(DecideViews, ReviewViews, ShowOnlyAdmin[ShellSession]):
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
        return self.decide_urls() + self.review_urls() + super().get_urls()

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
        session = session_seen(request, session_id)
        context = {
            **self.admin_site.each_context(request),
            **session_context(session, person(request)),
            "opts": self.opts,
            "title": "Session",
        }
        return TemplateResponse(request, "admin/shellagent/shellsession/page.html", context)

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
