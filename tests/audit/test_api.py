"""Reading the trail: by filters, in pages, and itself an event."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from rest_framework.test import APIClient

from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Party, record
from tests.conftest import person

EVENTS = "/api/audit/events"


@pytest.fixture
def reader(db: None) -> APIClient:
    """Somebody who may read the trail."""
    client = APIClient()
    client.force_login(person("reader", "audit.view_audit"))
    return client


@pytest.fixture
def events(db: None) -> list[AuditEvent]:
    """Three events of two agents."""
    with transaction.atomic():
        record(Event(Tag.AGENT_CREATED, SYSTEM, Party("agent", "1", "one")))
        record(Event(Tag.AGENT_CREATED, SYSTEM, Party("agent", "2", "two")))
        record(
            Event(Tag.KEY_ISSUED, Party("user", "9", "somebody"), Party("agent", "1", "one"), data={"prefix": "ata_"})
        )
    return list(AuditEvent.objects.filter(subject_type="agent").order_by("id"))


def ids(answer: Any) -> list[int]:
    return [item["id"] for item in answer.json()["results"]]


def test_filters(reader: APIClient, events: list[AuditEvent]) -> None:
    first, second, third = (event.pk for event in events)
    wanted = {
        "tag=agent:created": [second, first],
        "subject_type=agent&subject_id=1": [third, first],
        "actor_type=user&actor_id=9": [third],
        "tag=key:issued&subject_id=2": [],
        f"after={events[1].occurred_at.isoformat().replace('+00:00', 'Z')}&actor_type=user&subject_type=agent": [third],
        f"before={events[1].occurred_at.isoformat().replace('+00:00', 'Z')}&subject_type=agent": [first],
    }
    for query, found in wanted.items():
        assert ids(reader.get(f"{EVENTS}?{query}")) == found, query
    assert reader.get(f"{EVENTS}?tag=no:such").status_code == 400


def test_a_body_is_shown_as_an_object(reader: APIClient, events: list[AuditEvent]) -> None:
    shown = reader.get(f"{EVENTS}?tag=key:issued").json()["results"][0]
    assert shown["body"]["data"] == {"prefix": "ata_"}
    assert shown["hash"] == events[2].hash


def test_pages_hold_each_event_once_although_reading_adds_some(reader: APIClient, events: list[AuditEvent]) -> None:
    seen: list[int] = []
    path = f"{EVENTS}?page_size=2&subject_type=agent"
    while path and len(seen) < 10:
        answer = reader.get(path)
        seen += ids(answer)
        path = answer.json()["next"]
    assert seen == [event.pk for event in reversed(events)]


def test_links_are_the_products_own_whatever_host_is_asked_for(
    reader: APIClient, events: list[AuditEvent], settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "forged.example"]
    settings.ATOM_PUBLIC_URL = "https://atom.example.org"
    page = reader.get(f"{EVENTS}?page_size=1&tag=agent:created", headers={"host": "forged.example"}).json()
    assert page["next"].startswith(f"https://atom.example.org{EVENTS}?")
    path = page["next"].removeprefix("https://atom.example.org")
    last = reader.get(path, headers={"host": "forged.example"}).json()
    assert [item["id"] for item in last["results"]] == [events[0].pk]
    assert last["previous"].startswith(f"https://atom.example.org{EVENTS}?")
    assert "forged" not in str((page, last))


def test_reading_is_an_event(reader: APIClient, events: list[AuditEvent]) -> None:
    reader.get(f"{EVENTS}?tag=key:issued")
    read = AuditEvent.objects.latest("id")
    assert (read.tag, read.actor_label) == (Tag.TRAIL_READ, "reader")
    assert '"asked":{"by":"the API","tag":"key:issued"},"times":1' in read.body
    # Whatever else stands in the address is not kept: a name beyond ASCII has no place in the trail.
    assert reader.get(f"{EVENTS}?%C3%A9=1&tag=agent:created").status_code == 200
    assert '"asked":{"by":"the API","tag":"agent:created"},"times":1' in AuditEvent.objects.latest("id").body


def test_without_the_permission_nothing_is_read(db: None) -> None:
    client = APIClient()
    client.force_login(User.objects.create_user("nobody"))
    assert client.get(EVENTS).status_code == 403
    assert not AuditEvent.objects.filter(tag=Tag.TRAIL_READ).exists()
