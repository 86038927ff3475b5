"""Filters of the product's own pages."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from audit import admin_text

register = template.Library()
_QUOTED: Final = re.compile(r"`([^`]+)`")


@register.filter
def visible(text: object) -> SafeString:
    """Return somebody else's text on one line, with what cannot be seen as escapes."""
    return admin_text.visible(str(text))


@register.filter
def visible_block(text: object) -> SafeString:
    """Return somebody else's text of several lines, with what cannot be seen as escapes."""
    return admin_text.visible_block(str(text))


@register.filter
def explained(text: object) -> SafeString:
    """Return governance's own sentences, what it quotes between backticks as code."""
    return mark_safe(_QUOTED.sub(r"<code>\1</code>", admin_text.visible(str(text))))  # noqa: S308 - escaped before


@register.filter
def distance(moment: datetime | None) -> str:
    """Return how far away a moment is, in its largest unit: `42 s`, `3 min`, `5 h`, `2 d`."""
    if moment is None:
        return "never"
    seconds = abs((timezone.now() - moment).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


@register.filter
def countdown(moment: datetime | None) -> SafeString:
    """Return the time until a moment as `14:05`; the pages' script counts it down, by the server's clock."""
    if moment is None:
        return mark_safe("")
    left = max(0, int((moment - timezone.now()).total_seconds()))
    text = f"{left // 60}:{left % 60:02}" if left < 3600 else f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
    until = int(moment.timestamp() * 1000)
    return format_html('<time data-atom-until="{}" datetime="{}">{}</time>', until, moment.isoformat(), text)


@register.filter
def seconds(microseconds: int) -> str:
    """Return a duration in seconds, in three digits or more: `0.004 s`, `12.3 s`."""
    value = microseconds / 1_000_000
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"


@register.filter
def value_of(values: Mapping[str, object], key: str) -> object:
    """Return what a mapping has under a key, or an empty text."""
    return values.get(key, "") if values else ""


@register.filter
def words(text: object) -> str:
    """Return a name of the program as words: `timed_out` as `timed out`."""
    return str(text).replace("_", " ")
