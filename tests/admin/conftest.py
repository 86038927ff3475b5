"""Fixtures for tests of the admin, by Django's test client."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.conftest import person
from tests.shellagent.conftest import empty_cache, no_listener, no_static_files, scene

__all__ = ["empty_cache", "no_listener", "no_static_files", "scene"]


class Reader:
    """Someone who is logged in and reads pages."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.client = Client()
        self.client.force_login(user)

    def get(self, path: str, status: int = 200) -> str:
        """Return a page's HTML."""
        response = self.client.get(path)
        assert response.status_code == status, (path, response.status_code)
        return response.content.decode()

    def post(self, path: str, status: int = 302, **values: Any) -> str:
        """Send a form, and return the page that it leads to (or, with status 200, that it answers with)."""
        response = self.client.post(path, values)
        assert response.status_code == status, (path, response.status_code)
        return self.get(response["Location"]) if status == 302 else response.content.decode()


@pytest.fixture
def boss(superuser: User) -> Reader:
    """A superuser."""
    return Reader(superuser)


@pytest.fixture
def decider(approver: User) -> Reader:
    """An approver."""
    return Reader(approver)


@pytest.fixture
def nobody(outsider: User) -> Reader:
    """A member of staff without any permission."""
    return Reader(outsider)


def staff(name: str, *permissions: str) -> Reader:
    """Return someone with just these permissions."""
    return Reader(person(name, *permissions))
