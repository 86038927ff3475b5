"""Reading leaves a line, and reading much leaves few."""

import json

import pytest
from django.contrib.auth.models import User

from audit.models import AuditEvent
from audit.reading import reading_record
from audit.tags import Tag
from tests.conftest import person


@pytest.fixture
def reader(db: None) -> User:
    return person("reader", "audit.view_audit")


def lines() -> list[tuple[dict[str, str], int]]:
    events = AuditEvent.objects.filter(tag=Tag.TRAIL_READ).order_by("id")
    found = [json.loads(event.body)["data"] for event in events]
    return [(data["asked"], data["times"]) for data in found]


def test_the_same_question_is_told_when_its_number_has_doubled(reader: User) -> None:
    for page in range(1, 21):
        reading_record(reader, {"tag": "key:issued", "p": str(page)})
    question = {"tag": "key:issued"}
    assert lines() == [(question, number) for number in (1, 2, 4, 8, 16)]


def test_many_questions_are_told_ever_more_rarely(reader: User) -> None:
    for number in range(200):
        reading_record(reader, {"event": str(number)})
    asked = [int(question["event"]) for question, _times in lines()]
    assert asked == [*range(50), 63, 127]


def test_another_reader_is_told_of(reader: User) -> None:
    other = person("other", "audit.view_audit")
    for user in (reader, other):
        reading_record(user, {"tag": "key:issued"})
    assert len(lines()) == 2
