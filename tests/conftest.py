"""Fixtures for all tests. People have fixed roles; a database of one's own is `own_database`."""

import functools
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import teardown_databases

from governance import policies
from governance.policies import current_policy
from governance.stops import stops_in_force
from shellagent.notifying import outbox
from tests.database import OwnDatabase, cloned
from tests.template import make_test_database


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of every look for garbage, and look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def person(name: str, *permissions: str, is_superuser: bool = False) -> User:
    """Make a member of staff. A permission is `app_label.codename`."""
    user = User.objects.create_user(name, password=f"password of {name}", is_staff=True, is_superuser=is_superuser)
    given = [User.user_permissions.through(user=user, permission=_permission(name)) for name in permissions]
    User.user_permissions.through.objects.bulk_create(given)
    return user


@functools.cache
def _permission(name: str) -> Permission:
    app, codename = name.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)


@pytest.fixture(autouse=True)
def no_sinks_are_known() -> None:
    """Have what the sinks want read anew in every test."""
    outbox.look_again()


@pytest.fixture
def requester(db: None) -> User:
    """Someone who may ask for commands on behalf of any agent."""
    return person("requester", "shellagent.execute_for_agent")


@pytest.fixture
def approver(db: None) -> User:
    """Someone who may approve, and see what is to be approved."""
    return person("approver", "shellagent.approve", "shellagent.view_shellsession")


@pytest.fixture
def outsider(db: None) -> User:
    """A member of staff with no permission at all."""
    return person("outsider")


@pytest.fixture
def superuser(db: None) -> User:
    """Someone who passes every permission check."""
    return person("superuser", is_superuser=True)


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any, django_db_modify_db_settings: None
) -> Iterator[None]:
    """The migrated test database. pytest-django's own makes it only where a test has the django_db mark."""
    with django_db_blocker.unblock():
        made = make_test_database()
        # As in a server that has decided before: a test's transaction is taken back, so that it keeps nothing itself.
        # The event that tells of the tables is left to the tests of it.
        with patch.object(policies, "_told_of_tables", connection.settings_dict["NAME"]):
            current_policy()
        stops_in_force()
    yield
    with django_db_blocker.unblock():
        teardown_databases(made, verbosity=0)


@pytest.fixture
def own_database(django_db_setup: None, django_db_blocker: Any, tmp_path: Path) -> Iterator[OwnDatabase]:
    """A migrated, empty database for this test alone, here and (by its `environment`) in the processes it starts."""
    with django_db_blocker.unblock(), cloned(tmp_path) as database:
        yield database
