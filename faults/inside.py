"""The run's view of the database: a process of its own with the product's settings, asked line by line.

A line of JSON comes in and one goes out. `{"ask": "enrol", "name": …}` gives a code, `{"ask": "hosts"}` lets every
agent use every host, `{"ask": "ready"}` counts hosts that reported, `{"ask": "counts"}` gives sessions by status, and
`{"ask": "sessions"}` each session with its records.
"""

import json
import os
import sys
from collections import defaultdict
from typing import Any

import django


def answer(question: dict[str, Any]) -> Any:
    """Return what was asked for. Only after Django's set-up can the models be imported."""
    match question["ask"]:
        case "enrol":
            return _enrol(question["name"])
        case "hosts":
            return _hosts()
        case "counts":
            return _counts()
        case "tidy":
            return _tidy()
        case "ready":
            return _ready()
        case "sessions":
            return _sessions()
    raise ValueError(question["ask"])


def _enrol(name: str) -> str:
    from audit.trail import SYSTEM
    from shellagent.services.hosts import enrolment_issue

    return enrolment_issue(name=name, actor=SYSTEM)


def _hosts() -> int:
    from audit.trail import SYSTEM
    from governance.models import Agent
    from shellagent.models import Host
    from shellagent.services.hosts import agent_host_set

    for host in Host.objects.all():
        for agent in Agent.objects.all():
            agent_host_set(agent=agent, host=host, actor=SYSTEM)
    return Host.objects.count()


def _tidy() -> dict[str, int]:
    """Do what the worker does once a minute, for a run that has no minute."""
    from shellagent.tasks import tidy

    return tidy()


def _ready() -> int:
    """Return how many hosts have told what they are; before that, governance asks a person about them."""
    from shellagent.models import Host

    return Host.objects.filter(last_seen_at__isnull=False).exclude(protections=[]).count()


def _counts() -> dict[str, int]:
    from django.db.models import Count

    from shellagent.models import ShellSession

    found = ShellSession.objects.order_by().values_list("status").annotate(Count("pk"))
    return dict(found)


def _sessions() -> list[dict[str, Any]]:
    from audit.models import AuditEvent
    from shellagent.models import ExecutionRecord, ShellSession

    records, numbers = defaultdict(list), defaultdict(list)
    for record in ExecutionRecord.objects.values("session_id", "is_late", "outcome", "exit_codes", "left_behind"):
        records[record["session_id"]].append(record)
    for session_id, number in AuditEvent.objects.filter(session_seq__isnull=False).values_list(
        "session_id", "session_seq"
    ):
        numbers[str(session_id)].append(number or 0)
    return [
        {
            "id": str(row.pk),
            "status": row.status,
            "reason": row.termination_reason,
            "detail": row.termination_detail,
            "exit_code": row.exit_code,
            "records": records[row.pk],
            "has_gap": sorted(numbers[str(row.pk)]) != list(range(1, row.event_seq + 1)),
        }
        for row in ShellSession.objects.all()
    ]


def main() -> None:
    """Answer until the standard input ends."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "atomsite.settings"
    django.setup()
    from django.db import connection

    for line in sys.stdin:
        found = json.dumps(answer(json.loads(line)), default=str)
        connection.close()
        sys.stdout.write(f"{found}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
