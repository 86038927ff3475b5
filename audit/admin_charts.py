"""How sessions ended, day by day, as bars: an image of shapes that the server draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Final

from audit.models import AuditDay
from audit.tags import Tag

DAYS: Final = 30
#: The image's own units; the page stretches it to its width.
WIDTH: Final = 900
HEIGHT: Final = 100
_STEP: Final = WIDTH // DAYS
NOTHING_MORE: Final[Mapping[date, str]] = MappingProxyType({})
#: What the parts of a bar stand for, from the bottom up, and the tags of each.
GROUPS: Final = {
    "ran": ("ended well", (Tag.SESSION_SUCCEEDED,)),
    "failed": (
        "did not end well",
        (Tag.SESSION_FAILED, Tag.SESSION_TIMED_OUT, Tag.SESSION_ABORTED, Tag.SESSION_LOST),
    ),
    "stopped": (
        "did not run",
        (
            *(Tag.SESSION_DENIED, Tag.SESSION_REJECTED, Tag.SESSION_REFUSED, Tag.SESSION_EXPIRED),
            Tag.SESSION_CANCELLED,
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of a bar, and which group it is of."""

    group: str
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One day: where it stands, its parts, and all its numbers in words."""

    day: date
    x: int
    parts: Sequence[Part]
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars of the last days. `most` is the number of sessions that the highest one stands for."""

    bars: Sequence[Bar]
    most: int
    total: int
    legend: Sequence[tuple[str, str]]
    width: int = WIDTH
    height: int = HEIGHT
    bar_width: int = _STEP - 4
    step: int = _STEP


def days_chart(today: date) -> Chart | None:
    """Return the chart of the days up to today, from what the worker counted; None where it counted nothing yet."""
    first = today - timedelta(days=DAYS - 1)
    counts: dict[date, dict[str, int]] = {}
    for day, tag, count in AuditDay.objects.filter(day__gte=first, day__lte=today).values_list("day", "tag", "count"):
        counts.setdefault(day, {})[tag] = count
    if not counts:
        return None
    sums = {
        day: {group: sum(found.get(tag, 0) for tag in tags) for group, (_name, tags) in GROUPS.items()}
        for day, found in counts.items()
    }
    events = {day: f"; {sum(found.values())} events" for day, found in counts.items()}
    total = sum(sum(found.values()) for found in counts.values())
    return bars_chart(today, sums, {group: name for group, (name, _tags) in GROUPS.items()}, events, total=total)


def bars_chart(
    today: date,
    sums: Mapping[date, Mapping[str, int]],
    legend: Mapping[str, str],
    more: Mapping[date, str] = NOTHING_MORE,
    *,
    total: int,
) -> Chart:
    """Return a chart of the days up to today. `sums` has a day's numbers by group, `more` the end of its words."""
    days = [today - timedelta(days=number) for number in reversed(range(DAYS))]
    numbers = {day: {group: sums.get(day, {}).get(group, 0) for group in legend} for day in days}
    most = max(sum(found.values()) for found in numbers.values())
    bars = [
        Bar(day, place * _STEP + 2, _parts(numbers[day], most), _words(day, numbers[day], legend, more.get(day, "")))
        for place, day in enumerate(days)
    ]
    return Chart(bars, most, total, list(legend.items()))


def _parts(numbers: dict[str, int], most: int) -> list[Part]:
    parts, top = [], HEIGHT
    for group, number in numbers.items():
        if number:
            # What happened at all is seen, however much else did on another day.
            height = max(2, round(number * HEIGHT / most))
            top = max(0, top - height)
            parts.append(Part(group, top, height))
    return parts


def _words(day: date, numbers: Mapping[str, int], legend: Mapping[str, str], more: str) -> str:
    told = ", ".join(f"{numbers[group]} {name}" for group, name in legend.items())
    return f"{day}: {told}{more}"
