"""The log of messages: what was told where, each attempt, and sending again."""

from collections import Counter
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from audit.admin_lists import ShowOnlyAdmin, UncountedChangeList
from governance.admin_agents import person, told
from governance.services import user_party
from shellagent.notifying.kinds import WORDS, Kind
from shellagent.notifying.models import Attempt, Message, Sink
from shellagent.notifying.rendering import Told
from shellagent.notifying.services import message_redeliver

#: The colours of sessions' states, by what they mean.
_COLOURS = {
    Message.State.HELD: "queued",
    Message.State.OPEN: "queued",
    Message.State.SENDING: "running",
    Message.State.RETRY: "pending",
    Message.State.SENT: "succeeded",
    Message.State.GIVEN_UP: "failed",
}
_NOTICES_SHOWN = 50


@admin.register(Message)
class MessageAdmin(ShowOnlyAdmin[Message]):
    """Messages, newest first."""

    list_display = ["badge", "what", "place", "tried", "answer", "created_at"]
    list_display_links = ["badge"]
    list_filter = ["state", "sink"]
    list_select_related = ["sink", "agent"]
    list_per_page = 50
    ordering = ["-id"]
    sortable_by = ()
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False

    def may_view(self, request: HttpRequest) -> bool:
        user = request.user
        return any(user.has_perm(f"notifying.{name}") for name in ("view_message", "change_message", "change_sink"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UncountedChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        tries = Prefetch("tries", Attempt.objects.order_by("id"))
        return super().get_queryset(request).prefetch_related("notices", tries)

    def get_urls(self) -> list[URLPattern]:
        again = self.admin_site.admin_view(require_POST(self.again_view))
        return [path("<int:message_id>/again/", again, name="notifying_message_again"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "Messages",
            "empty_text": "No message yet. What is told, and how each delivery went, appears here.",
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.may_view(request):
            raise PermissionDenied
        message = get_object_or_404(Message.objects.select_related("sink", "agent"), pk=object_id)
        notices = list(message.notices.order_by("occurred_at", "id"))
        # What the reader sees is no more than what was told, and never the command: that is on the session's page.
        detail = Sink.Detail.LINK if message.sink and message.sink.detail == Sink.Detail.LINK else Sink.Detail.FACTS
        shown = Told(notices, detail)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Message",
            "message": message,
            "colour": _COLOURS[Message.State(message.state)],
            "state": message.get_state_display(),
            "what": shown.title if notices else "The end of a session, told to its callback address",
            "lines": shown.lines()[:_NOTICES_SHOWN],
            "more": max(0, len(notices) - _NOTICES_SHOWN),
            "tries": list(message.tries.all()),
            "may_send": request.user.has_perm("notifying.change_message"),
            "can_be_sent": message.state in (Message.State.SENT, Message.State.GIVEN_UP, Message.State.RETRY),
        }
        return TemplateResponse(request, "admin/notifying/message/page.html", context)

    def again_view(self, request: HttpRequest, message_id: int) -> HttpResponse:
        """Send it again."""
        message = get_object_or_404(Message.objects.select_related("sink"), pk=message_id)
        if not request.user.has_perm("notifying.change_message"):
            raise PermissionDenied
        done = "It is sent again, with the same id. This page says how it went."
        told(request, lambda: message_redeliver(message=message, actor=user_party(person(request))), done)
        return HttpResponseRedirect(reverse("admin:notifying_message_change", args=[message_id]))

    @admin.display(description="state")
    def badge(self, message: Message) -> SafeString:
        """Return the state as a badge."""
        colour = _COLOURS[Message.State(message.state)]
        return format_html('<span class="atom-badge atom-is-{}">{}</span>', colour, message.get_state_display())

    @admin.display(description="what")
    def what(self, message: Message) -> str:
        """Return the message in a few words."""
        counts = Counter(Kind(notice.kind) for notice in message.notices.all())
        words = [WORDS[kind][n > 1].format(n=n) for kind, n in counts.items()]
        return ", ".join(words) or "the end of a session"

    @admin.display(description="to")
    def place(self, message: Message) -> str:
        """Return where it goes."""
        return str(message.sink) if message.sink else f"callback of {message.agent}"

    @admin.display(description="attempts")
    def tried(self, message: Message) -> int:
        """Return how often it was tried."""
        return message.attempts

    @admin.display(description="last answer")
    def answer(self, message: Message) -> str:
        """Return how the last attempt went."""
        tries = list(message.tries.all())
        return tries[-1].detail if tries else ""
