"""How sessions ended, day by day, as bars: an image of shapes that the server draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from audit.models import AuditDay
from audit.tags import Tag

DAYS: Final = 30
#: The image's own units; the page stretches it to its width.
WIDTH: Final = 900
HEIGHT: Final = 100
_STEP: Final = WIDTH // DAYS
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
    days = [first + timedelta(days=number) for number in range(DAYS)]
    sums = {
        day: {group: sum(counts.get(day, {}).get(tag, 0) for tag in tags) for group, (_name, tags) in GROUPS.items()}
        for day in days
    }
    most = max(sum(found.values()) for found in sums.values())
    bars = [
        Bar(day, number * _STEP + 2, _parts(sums[day], most), _words(day, sums[day], sum(counts.get(day, {}).values())))
        for number, day in enumerate(days)
    ]
    total = sum(sum(found.values()) for found in counts.values())
    return Chart(bars, most, total, [(group, name) for group, (name, _tags) in GROUPS.items()])


def _parts(numbers: dict[str, int], most: int) -> list[Part]:
    parts, top = [], HEIGHT
    for group, number in numbers.items():
        if number:
            # What happened at all is seen, however much else did on another day.
            height = max(2, round(number * HEIGHT / most))
            top = max(0, top - height)
            parts.append(Part(group, top, height))
    return parts


def _words(day: date, numbers: dict[str, int], events: int) -> str:
    told = ", ".join(f"{numbers[group]} {name}" for group, (name, _tags) in GROUPS.items())
    return f"{day}: {told}; {events} events"
