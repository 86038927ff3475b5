"""What people do with their accounts, each told by its event, with who and from where."""

import json
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User
from django.core.cache import cache
from django.test import Client

from audit.models import AuditEvent
from audit.tags import Tag

PASSWORD = "correct horse battery staple"  # noqa: S105 - of a database that lives for one test
BROWSER = "Mozilla/5.0 " + "x" * 300


@pytest.fixture(autouse=True)
def no_static_files(settings: Any) -> None:
    """Do without WhiteNoise, which looks at every static file once for each client that a test makes."""
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "whitenoise" not in name]


@pytest.fixture
def boss(db: None) -> User:
    return User.objects.create(username="boss", password=make_password(PASSWORD), is_staff=True, is_superuser=True)


@pytest.fixture
def client() -> Client:
    return Client(REMOTE_ADDR="203.0.113.7", headers={"user-agent": BROWSER})


def log_in(client: Client, username: str, password: str) -> int:
    answer = client.post("/admin/login/?next=/admin/", {"username": username, "password": password})
    return int(answer.status_code)


def told(*tags: Tag) -> list[dict[str, Any]]:
    """Return the bodies of the events with these tags, oldest first."""
    return [json.loads(event.body) for event in AuditEvent.objects.filter(tag__in=tags).order_by("id")]


def test_logins_and_log_outs_say_who_and_from_where(client: Client, boss: User) -> None:
    assert log_in(client, "boss", PASSWORD) == 302
    client.post("/admin/logout/")
    came, went = told(Tag.USER_LOGGED_IN, Tag.USER_LOGGED_OUT)
    for event in (came, went):
        assert event["actor"] == event["subject"] == {"type": "user", "id": str(boss.pk), "label": "boss"}
        assert event["origin"] == {"address": "203.0.113.7", "user_agent": BROWSER[:200]}


def test_failed_logins_are_told_without_what_was_typed(client: Client, boss: User) -> None:
    log_in(client, "boss", "wrong-password")
    log_in(client, "my-password-in-the-wrong-field", "x")
    known, unknown = told(Tag.USER_LOGIN_FAILED)
    assert (known["actor"]["label"], unknown["actor"]["label"]) == ("boss", "nobody known here")
    assert known["origin"]["address"] == "203.0.113.7"
    assert (known["data"], unknown["data"]) == ({"attempts_from_there": 1}, {"attempts_from_there": 2})
    assert not any("password" in json.dumps(event["data"]) for event in (known, unknown))


def test_a_lock_out_is_told_once_and_a_flood_does_not_flood_the_trail(
    client: Client, boss: User, settings: Any
) -> None:
    settings.AXES_FAILURE_LIMIT = 3
    for _ in range(40):
        log_in(client, "boss", "wrong")
    numbers = [event["data"]["attempts_from_there"] for event in told(Tag.USER_LOGIN_FAILED)]
    assert numbers == [*range(1, 21), 32]
    assert [event["data"]["times"] for event in told(Tag.USER_LOCKED_OUT)] == [1, 2, 4, 8, 16, 32]
    assert told(Tag.USER_LOCKED_OUT)[0]["subject"]["label"] == "boss"


def test_what_the_admin_changes_of_people_is_told_with_before_and_after(client: Client, boss: User) -> None:
    log_in(client, "boss", PASSWORD)
    body = {"username": "ann", "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    client.post("/admin/auth/user/add/", body)
    ann = User.objects.get(username="ann")
    approve, watch = (Permission.objects.get(codename=name) for name in ("approve", "view_audit"))
    group = Group.objects.create(name="reviewers")
    form = {
        "username": "ann",
        "is_active": "on",
        "is_staff": "on",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
        "user_permissions": [str(approve.pk)],
        "groups": [str(group.pk)],
    }
    path = f"/admin/auth/user/{ann.pk}/"
    client.post(f"{path}change/", form)
    client.post(f"{path}change/", {**form, "user_permissions": [str(watch.pk)], "groups": []})
    client.post(f"{path}password/", {"password1": "another horse 7", "password2": "another horse 7"})
    client.post(f"/admin/auth/group/{group.pk}/change/", {"name": "auditors", "permissions": [str(watch.pk)]})
    client.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"})
    client.post(f"{path}delete/", {"post": "yes"})
    events = told(*(tag for tag in Tag if tag.startswith(("user:", "group:")) and "log" not in tag))
    story = [(event["tag"], event["actor"]["label"], event["data"]) for event in events]
    values = {"username": "ann", "email": "", "first_name": "", "last_name": "", "is_active": True}
    plain, staff = ({**values, "is_staff": is_staff, "is_superuser": False} for is_staff in (False, True))
    # The fixture and this test made the boss and the group without anybody being logged in.
    assert story[0][:2] == ("user:created", "the product")
    del story[0]
    assert story == [
        ("user:created", "boss", {"after": plain}),
        ("group:created", "the product", {}),
        ("user:changed", "boss", {"before": plain, "after": staff}),
        ("user:groups_changed", "boss", {"added": ["reviewers"]}),
        ("user:permissions_changed", "boss", {"added": ["shellagent.approve"]}),
        ("user:groups_changed", "boss", {"removed": ["reviewers"]}),
        ("user:permissions_changed", "boss", {"removed": ["shellagent.approve"]}),
        ("user:permissions_changed", "boss", {"added": ["audit.view_audit"]}),
        ("user:password_changed", "boss", {"only_hashed_again": False}),
        ("group:changed", "boss", {"before": "reviewers", "after": "auditors"}),
        ("group:permissions_changed", "boss", {"added": ["audit.view_audit"]}),
        ("group:deleted", "boss", {"before": {"permissions": ["audit.view_audit"], "members": []}}),
        ("user:deleted", "boss", {"before": {**staff, "groups": [], "permissions": ["audit.view_audit"]}}),
    ]


def test_clearing_tells_what_there_was(boss: User) -> None:
    group = Group.objects.create(name="reviewers")
    boss.groups.add(group)
    boss.user_permissions.add(Permission.objects.get(codename="approve"))
    boss.groups.clear()
    boss.user_permissions.clear()
    group.user_set.add(boss)
    group.user_set.clear()
    changes = [event["data"] for event in told(Tag.USER_GROUPS_CHANGED, Tag.USER_PERMISSIONS_CHANGED)]
    names, rights = ["reviewers"], ["shellagent.approve"]
    assert changes == [
        {"added": names},
        {"added": rights},
        {"removed": names},
        {"removed": rights},
        {"added": names},
        {"removed": names},
    ]
    assert {event["subject"]["label"] for event in told(Tag.USER_GROUPS_CHANGED)} == {"boss"}


def test_ones_own_new_password_is_told_and_a_login_that_hashes_again_says_so(
    client: Client, boss: User, settings: Any
) -> None:
    log_in(client, "boss", PASSWORD)
    new = {"old_password": PASSWORD, "new_password1": "another horse 7", "new_password2": "another horse 7"}
    assert client.post("/admin/password_change/", new).status_code == 302
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        *settings.PASSWORD_HASHERS,
    ]
    cache.clear()
    assert log_in(Client(), "boss", "another horse 7") == 302
    assert [event["data"] for event in told(Tag.USER_PASSWORD_CHANGED)] == [
        {"only_hashed_again": False},
        {"only_hashed_again": True},
    ]
