"""Reading the trail is itself an event: who read, what they asked for, and how often."""

from collections.abc import Mapping
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction

from audit import canonical
from audit.grouping import is_told, occurrence
from audit.tags import Tag
from audit.trail import NOTHING, TRAIL, About, Event, Party, record

#: Different questions of one person within a quarter of an hour that have an event each.
_QUESTIONS_AT_FIRST: Final = 50


def reading_record(
    user: User, asked: Mapping[str, str], *, tag: Tag = Tag.TRAIL_READ, subject: Party = TRAIL, about: About = NOTHING
) -> None:
    """Write that a person reads the trail, before they see any of it: what cannot be recorded is not shown.

    The same question again within a quarter of an hour is counted and told when the number has doubled, whatever page
    of the answer is looked at. So is the number of different questions beyond the first 50.
    """
    question = {name: value for name, value in asked.items() if name not in ("p", "cursor", "page_size")}
    reader = Party("user", str(user.pk), user.get_username())
    times = occurrence(f"read:{user.pk}:{tag}:{subject.id}:{canonical.dumps({'asked': question})}")
    if not is_told(times, at_first=1):
        return
    if times == 1 and not is_told(occurrence(f"questions:{user.pk}"), at_first=_QUESTIONS_AT_FIRST):
        return
    with transaction.atomic():
        record(Event(tag, reader, subject, data={"asked": question, "times": times}, about=about))
