"""The trail in the admin: read-only, for people with the permission. Reading it is itself an event."""

import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit import canonical, sentences
from audit.admin_charts import days_chart
from audit.admin_filters import ActorTypeFilter, OutcomeFilter, SubjectFilter, TagFilter, TimeFilter
from audit.admin_lists import ShowOnlyAdmin, UncountedChangeList
from audit.admin_text import visible, visible_block
from audit.models import AuditEvent
from audit.reading import reading_record
from audit.selecting import ASKING, PARTIES
from audit.tags import Tag

#: Words have no index: they are looked for in the newest events only, of the time that is chosen.
TEXT_WINDOW: Final = 20_000
#: As many events of a party are shown, the newest of those where it acted and of those done to it.
PARTY_WINDOW: Final = 5_000


@admin.register(AuditEvent)
class AuditEventAdmin(ShowOnlyAdmin[AuditEvent]):
    """Events, newest first."""

    list_display = ["when", "what", "who", "to_what", "outcome_text"]
    list_display_links = ["when"]
    list_filter = [TimeFilter, SubjectFilter, TagFilter, ActorTypeFilter, OutcomeFilter]
    list_per_page = 50
    sortable_by = ()
    ordering = ["-id"]
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    change_list_template = "admin/audit/auditevent/list.html"
    search_fields = ["session_id"]
    search_help_text = (
        "A session's id, a tag such as session:denied, a party such as agent:7 or user:2, or any words "
        f"(looked for in the newest {TEXT_WINDOW:,} events of the chosen time). Search commands among the sessions."
    )
    fields = ["when", "what", "who", "to_what", "outcome_text", "session", "uid", "hash", "body_text"]

    def may_view(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("audit.view_audit"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UncountedChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        """Find what has an index; a name only where few rows have to be read."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(session_id=UUID(term)), False
        except ValueError:
            pass
        kind, _, rest = term.partition(":")
        if term in list(Tag):
            return queryset.filter(tag=term), False
        if kind in PARTIES and rest:
            return _of_party(queryset, kind, rest), False
        newest = queryset.order_by("-pk").values_list("pk", flat=True).first() or 0
        # A body is canonical JSON, in which quotes and line ends are spelled otherwise.
        text = canonical.dumps(term)[1:-1]
        # The search itself is in the trail by now, with its words.
        others = queryset.exclude(tag__in=ASKING)
        return others.filter(pk__gt=newest - TEXT_WINDOW, body__icontains=text), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.may_view(request):
            raise PermissionDenied
        asked = asked_in(request)
        _record_reading(request, asked)
        context = {
            "title": "Audit trail",
            "empty_text": "No event matches.",
            "chart": days_chart(timezone.localdate()),
            **{name: request.GET.get(name, "")[:10] for name in ("from_day", "to_day")},
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.may_view(request):
            raise PermissionDenied
        _record_reading(request, {"event": object_id[:64]})
        return super().change_view(request, object_id, form_url, {"title": "Audit event", **(extra_context or {})})

    @admin.display(description="time")
    def when(self, event: AuditEvent) -> str:
        """Return the time to the millisecond."""
        moment = timezone.localtime(event.occurred_at)
        return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}"

    @admin.display(description="event")
    def what(self, event: AuditEvent) -> SafeString:
        """Return the event as a sentence, and its tag."""
        told = sentences.sentence(json.loads(event.body))
        return format_html(
            '{} <span class="atom-sub"><code class="atom-tag">{}</code></span>', visible(told), event.tag
        )

    @admin.display(description="actor")
    def who(self, event: AuditEvent) -> SafeString:
        """Return who acted, as the event names them."""
        return _party(event.actor_type, event.actor_id, event.actor_label)

    @admin.display(description="subject")
    def to_what(self, event: AuditEvent) -> SafeString:
        """Return what it was done to, as the event names it."""
        return _party(event.subject_type, event.subject_id, event.subject_label)

    @admin.display(description="outcome")
    def outcome_text(self, event: AuditEvent) -> SafeString:
        """Return the outcome as a badge, or nothing."""
        if not event.outcome:
            return SafeString("")
        return format_html('<span class="atom-badge atom-is-{}">{}</span>', event.outcome.lower(), event.outcome)

    @admin.display(description="session")
    def session(self, event: AuditEvent) -> SafeString | str:
        """Return the session's id as a link to all of its events."""
        if event.session_id is None:
            return "none"
        url = f"{reverse('admin:audit_auditevent_changelist')}?q={event.session_id}"
        return format_html('<a href="{}">{}</a>, its event number {}', url, event.session_id, event.session_seq)

    @admin.display(description="body")
    def body_text(self, event: AuditEvent) -> SafeString:
        """Return the canonical body, indented; what it holds is unchanged."""
        text = json.dumps(json.loads(event.body), indent=2, ensure_ascii=False)
        return format_html('<pre class="atom-block">{}</pre>', visible_block(text))


def _of_party(events: QuerySet[AuditEvent], kind: str, number: str) -> QuerySet[AuditEvent]:
    """Return the events of a party. An agent's and a host's have a column; of others the newest are looked up first."""
    if kind in ("agent", "host"):
        return (
            events.filter(**{f"{kind}_id": int(number)}) if number.isdecimal() and len(number) < 19 else events.none()
        )
    newest = events.order_by("-pk").values_list("pk", flat=True)
    acted = newest.filter(actor_type=kind, actor_id=number)[:PARTY_WINDOW]
    done_to = newest.filter(subject_type=kind, subject_id=number)[:PARTY_WINDOW]
    return events.filter(pk__in={*acted, *done_to})


def _party(kind: str, number: str, label: str) -> SafeString:
    """Return a party's name, and below it a link to all events that name the party."""
    if not number:
        return visible(label or kind)
    return format_html(
        '{} <a class="atom-sub atom-quiet" href="{}?q={}">{} {}</a>',
        visible(label),
        reverse("admin:audit_auditevent_changelist"),
        number if kind == "session" else f"{kind}:{number}",
        kind,
        number if len(number) < 12 else f"{number[:13]}…",
    )


def asked_in(request: HttpRequest) -> dict[str, str]:
    """Return the filters and the search of a list, as an event can keep them."""
    named = ((name, ",".join(values)[:200]) for name, values in request.GET.lists() if name.isascii())
    return {name[:40]: value for name, value in named if name != "p"}


def _record_reading(request: HttpRequest, asked: Mapping[str, str]) -> None:
    user = request.user
    if not isinstance(user, User):
        raise PermissionDenied
    reading_record(user, asked)
