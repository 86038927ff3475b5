"""Every event can be told as a sentence, whatever its data lack."""

import json

import pytest
from django.db import transaction
from django.test import RequestFactory

from audit import sentences
from audit.models import AuditEvent
from audit.origin import Origin, coming_from
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Party, record

RESULT = {"duration_us": 1_500_000, "stdout_bytes": 5, "stderr_bytes": 0}


def body(tag: str, **changes: object) -> dict[str, object]:
    actor = {"type": "user", "id": "1", "label": "ann"}
    return {"tag": tag, "actor": actor, "subject": actor, "outcome": "", "origin": None, "data": {}, **changes}


@pytest.mark.parametrize("tag", Tag, ids=str)
def test_every_tag_has_its_sentence(tag: Tag) -> None:
    told = sentences.sentence(body(tag))
    assert told.endswith(".")
    assert tag.value not in told, "its own words, not its tag"


def test_an_event_of_a_later_release_is_told_by_its_tag() -> None:
    assert sentences.sentence(body("moon:risen")) == "ann: moon:risen."


def test_words_are_words_and_no_template() -> None:
    evil = {"type": "agent", "id": "1", "label": "{data} {0} %s"}
    told = sentences.sentence(body(Tag.KEY_ISSUED, subject=evil, data={"prefix": "{who}", "who": "x"}))
    assert told == "ann issued the key {who}… to {data} {0} %s."


@pytest.mark.parametrize(
    ("tag", "data", "told"),
    [
        (
            Tag.SESSION_FAILED,
            {
                "duration_us": 1_500_000,
                "exit_codes": [1, None],
                "stdout_bytes": 5,
                "stderr_bytes": 0,
                "masked": {"k": 2},
            },
            "ann reported: it ended, and not well. Exit code 1, not run, 1.500 s, 5 bytes of output and 0 of errors. "
            "2 secrets in it were masked.",
        ),
        (Tag.SESSION_LOST, {}, "ann gave it up: nobody knows whether it ended."),
        (
            Tag.RULE_CHANGED,
            {"before": {"outcome": "ask", "root": "/a"}, "after": {"outcome": "deny", "root": "/a"}},
            "ann changed the rule ann: outcome from ask to deny.",
        ),
        (Tag.USER_GROUPS_CHANGED, {"removed": ["a", "b"]}, "ann took a, b: ann."),
        (
            Tag.HOST_ENROLLED,
            {"prefix_before": "ath_x"},
            "The host ann was enrolled. It has a new key; the old one (ath_x…) opens nothing any more.",
        ),
        (Tag.TRAIL_READ, {"asked": {"tag": "x"}, "times": 4}, "ann read the trail: tag x, 4 times by now."),
    ],
)
def test_what_a_sentence_says(tag: Tag, data: dict[str, object], told: str) -> None:
    assert sentences.sentence(body(tag, data=data)) == told


def test_an_event_says_where_it_came_from_only_inside_a_request(db: None) -> None:
    request = RequestFactory().get("/", REMOTE_ADDR="203.0.113.7", headers={"user-agent": "Browser/1"})
    with transaction.atomic():
        with coming_from(Origin.of(request)):
            record(Event(Tag.HOST_STARTED, SYSTEM, Party("host", "3", "here")))
        record(Event(Tag.HOST_STARTED, SYSTEM, Party("host", "3", "here")))
    told = [sentences.origin(json.loads(event.body)) for event in AuditEvent.objects.order_by("id")]
    assert told == ["from 203.0.113.7, Browser/1", ""]
