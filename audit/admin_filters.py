"""The filters of the trail in the admin. Each is one range of an index: none reads the table to its end."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import Max, Min, QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone

from audit.counting import begin_of
from audit.models import AuditDay, AuditEvent
from audit.tags import Tag

#: An event with one of these outcomes has the tag `session:…`, which has an index.
_SESSION_OUTCOMES: Final = (
    *("denied", "pending", "queued", "claimed", "running", "succeeded", "failed", "timed_out", "aborted", "refused"),
    *("rejected", "expired", "cancelled", "lost"),
)


def between(events: QuerySet[AuditEvent], start: date | None, end: date | None) -> QuerySet[AuditEvent]:
    """Return the events of these days, both included.

    They are also bounded by number, which every other index is ordered by, as far as the days have been counted. An
    event with a time of a day that was counted for good before it was written (a clock set back) is not among them.
    """
    counted = AuditDay.objects.exclude(tag="")
    # Spelled so that no database takes the index on the time, whose rows it would have to sort by number.
    events = events.alias(at=Coalesce("occurred_at", "occurred_at"))
    if start:
        events = events.filter(at__gte=begin_of(start))
        first = counted.filter(day__gte=start).aggregate(first=Min("first_id"))["first"]
        events = events.filter(pk__gte=first) if first else events
    if end:
        events = events.filter(at__lt=begin_of(end + timedelta(days=1)))
        if AuditDay.objects.filter(day=end, is_final=True).exists():
            last = counted.filter(day__lte=end).aggregate(last=Max("last_id"))["last"]
            events = events.filter(pk__lte=last or 0)
    return events


class TimeFilter(admin.ListFilter):
    """From a day to a day, both included, by the server's time zone."""

    title = "time"
    _NAMES: Final = ("from_day", "to_day")

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self._NAMES:
            if name in params and (text := params.pop(name)[-1]):
                self.used_parameters[name] = text

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self._NAMES)

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        today = timezone.localdate()
        spans = {"Today": 0, "Since yesterday": 1, "Past 7 days": 6, "Past 30 days": 29}
        chosen = self.used_parameters
        all_of_it = changelist.get_query_string(remove=list(self._NAMES))
        yield {"selected": not chosen, "query_string": all_of_it, "display": "Any time"}
        for display, days in spans.items():
            wanted = {"from_day": str(today - timedelta(days=days))}
            query = changelist.get_query_string(wanted, ["to_day"])
            yield {"selected": chosen == wanted, "query_string": query, "display": display}
        if "to_day" in chosen:
            words = f"{chosen.get('from_day', 'the beginning')} to {chosen['to_day']}"
            yield {"selected": True, "query_string": changelist.get_query_string(), "display": words}

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        days: dict[str, date] = {}
        for name, text in self.used_parameters.items():
            try:
                days[name] = date.fromisoformat(str(text))
            except ValueError as error:
                raise IncorrectLookupParameters(error) from error
        return between(queryset, days.get("from_day"), days.get("to_day"))


class SubjectFilter(admin.SimpleListFilter):
    """The first part of a tag."""

    title = "what it is about"
    parameter_name = "about"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = dict.fromkeys(tag.value.partition(":")[0] for tag in Tag)
        return [(name, name.replace("_", " ")) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        if not self.value():
            return queryset
        return queryset.filter(tag__in=[tag.value for tag in Tag if tag.value.startswith(f"{self.value()}:")])


class TagFilter(admin.SimpleListFilter):
    """The whole tag, from those of the chosen first part."""

    title = "event"
    parameter_name = "tag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        about = request.GET.get("about", "")
        return [(tag.value, tag.value) for tag in Tag if tag.value.startswith(about)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset.filter(tag=self.value()) if self.value() else queryset


class ActorTypeFilter(admin.SimpleListFilter):
    """Whether a person, an agent, a host or the product acted."""

    title = "who acted"
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, f"a {name}") for name in ("user", "agent", "host")] + [("system", "the product")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset.filter(actor_type=self.value()) if self.value() else queryset


class OutcomeFilter(admin.SimpleListFilter):
    """What a session came to."""

    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name.replace("_", " ")) for name in _SESSION_OUTCOMES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        return queryset.filter(tag=f"session:{self.value()}") if self.value() else queryset
