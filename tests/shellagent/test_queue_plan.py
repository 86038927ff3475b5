"""Claiming stays flat: the claim reads the index of the host's queue, however long the table."""

from uuid import UUID

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.trail import SYSTEM
from governance.policy.types import Maturity
from shellagent import queries
from shellagent.models import ShellSession
from shellagent.records import agent_days_count
from shellagent.seen import host_counts
from shellagent.services import killswitch_on
from shellagent.states import Status
from tests.shellagent.scene import ALLOWED, Scene, enrolled

ROWS = 4000


def plan_of(rows: QuerySet[ShellSession, object]) -> str:
    return rows.explain()


def fill(scene: Scene) -> None:
    """Thousands of sessions that ended, some that wait for another host, and a short queue of this host's."""
    pattern = scene.session()
    other = enrolled("other")[0]
    rows: list[ShellSession] = []
    for number in range(ROWS):
        row = ShellSession.objects.get(pk=pattern.pk) if number == 0 else rows[0]
        values = {field.attname: getattr(row, field.attname) for field in ShellSession._meta.concrete_fields}
        values |= {"id": UUID(int=number + 1), "queue_key": number}
        if number % 100 == 0:
            values |= {"status": Status.QUEUED}
        elif number % 10 == 0:
            values |= {"status": Status.QUEUED, "host_id": other.pk}
        else:
            values |= {"status": Status.SUCCEEDED}
        rows.append(ShellSession(**values))
    ShellSession.objects.bulk_create(rows, batch_size=500)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE shellagent_shellsession")


def test_the_claim_uses_the_queues_index(scene: Scene) -> None:
    fill(scene)
    queue = queries.claimable(scene.host.pk, timezone.now())
    for rows in (queue[:8], queue.select_for_update(skip_locked=True, of=("self",))[:8]):
        if connection.vendor == "sqlite" and rows.query.select_for_update:
            continue
        plan = plan_of(rows)
        assert "session_queue" in plan, plan
        assert "Seq Scan" not in plan, plan
        assert "SCAN shellagent_shellsession" not in plan.replace("USING INDEX session_queue", ""), plan
        # The index gives the order too: nothing is sorted.
        assert "Sort" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan


def test_the_claim_that_runs_is_the_one_explained(scene: Scene) -> None:
    """What the compiled statement returns is what the query that was explained returns, in the same order."""
    fill(scene)
    now = timezone.now()
    wanted = list(queries.claimable(scene.host.pk, now).values_list("pk", flat=True)[:8])
    assert [item.pk for item in queries.next_claimable(scene.host.pk, now, 8)] == wanted
    assert queries.has_claimable(scene.host.pk, now)


def test_what_a_claim_key_got_before_is_looked_for_among_what_runs(scene: Scene) -> None:
    fill(scene)
    plan = queries.CLAIMED_BEFORE.plan(scene.host.pk, "key")
    assert "session_leases" in plan, plan


@pytest.mark.skipif(
    "connection.vendor != 'sqlite'", reason="a table this small is read whole on PostgreSQL, and rightly"
)
def test_what_has_not_ended_is_found_without_reading_what_has(scene: Scene) -> None:
    fill(scene)
    with CaptureQueriesContext(connection) as seen:
        host_counts([scene.host.pk])
        agent_days_count(timezone.now())
        assert scene.as_agent(ALLOWED[0]).call("GET", "/api/local-agent/status").status == 200
        killswitch_on(reason="It loops.", actor=SYSTEM, agent=scene.agents[Maturity.STUDENT])
    plans = {}
    for sql in (query["sql"] for query in seen.captured_queries if query["sql"].startswith("SELECT")):
        # The first row by an order that an index has is no matter.
        if "shellagent_shellsession" in sql and not sql.endswith("LIMIT 1"):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
                plans[sql] = "\n".join(str(row[-1]) for row in cursor.fetchall())
    assert len(plans) >= 4
    assert not {sql: plan for sql, plan in plans.items() if "SCAN shellagent_shellsession" in plan}
