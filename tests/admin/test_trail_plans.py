"""The pages of the trail at many events: every filter is a walk along an index, and SQLite sorts nothing."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone

from audit.counting import days_count
from audit.models import AuditEvent
from bench.review import PAGES, fill, people_and_machines
from tests.database import OwnDatabase

EVENTS = 5_000
#: Few rows by their nature: a session has a dozen, and a user's are looked up by number. Sorting those is no harm.
MAY_SORT = {"a user", "an approver", "a session"}
#: These ask for everything, newest first: a walk by number that ends with the page.
MAY_SCAN = {"newest", "page 100"}


@pytest.fixture
def reviewer(own_database: OwnDatabase) -> User:
    with connection.cursor() as cursor:
        fill(cursor, connection.vendor, EVENTS)
    days_count(timezone.now())
    user: User = people_and_machines()
    return user


@contextmanager
def statements() -> Iterator[list[str]]:
    """Yield the statements that read the trail, as they are run, each explained."""
    plans: list[str] = []

    def explained(execute: object, sql: str, params: object, many: bool, context: object) -> object:
        # The first row by an order that an index has is no matter.
        if re.match(r"SELECT .*audit_auditevent", sql, re.DOTALL) and not sql.endswith("LIMIT 1"):
            with closing(connection.connection.cursor()) as cursor:
                prefix = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
                spelled = sql.replace("%s", "?") if connection.vendor == "sqlite" else sql
                cursor.execute(f"{prefix} {spelled}", params)
                plans.append("\n".join(str(row[-1]) for row in cursor.fetchall()))
        return execute(sql, params, many, context)  # type: ignore[operator]

    with connection.execute_wrapper(explained):
        yield plans


def test_no_page_reads_the_table_or_sorts_it(reviewer: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.admin.TEXT_WINDOW", EVENTS // 20)
    section = admin.site.get_model_admin(AuditEvent)
    middle = AuditEvent.objects.filter(session_id__isnull=False).order_by("pk")[EVENTS // 2]
    found: dict[str, list[str]] = {}
    for name, query in PAGES.items():
        address = query.replace("HALF", f"{middle.occurred_at:%Y-%m-%d}").replace("SESSION", str(middle.session_id))
        request = RequestFactory().get(f"/admin/audit/auditevent/?{address}")
        request.user = reviewer
        with statements() as plans:
            rows = section.get_changelist_instance(request).result_list
        assert bool(rows) == ("nowhere" not in name), name
        assert plans, name
        found[name] = plans
    bad = {name: plan for name, plans in found.items() for plan in plans if _is_bad(name, plan)}
    assert not bad


def _is_bad(name: str, plan: str) -> bool:
    if connection.vendor == "sqlite":
        scans = re.search(r"^SCAN audit_auditevent$", plan, re.MULTILINE) and name not in MAY_SCAN
        return bool(scans) or ("TEMP B-TREE" in plan and name not in MAY_SORT)
    # By its statistics PostgreSQL may sort, where it knows that few rows are left to sort.
    return "Seq Scan on audit_auditevent" in plan
