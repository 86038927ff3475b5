"""How long the pages of who approves take, in a process with the product's settings and an empty, set-up database.

Run as `python -m bench.projects.pages_probe WAITING SESSIONS ROUNDS` with ATOM_PENDING_PER_AGENT=WAITING. An agent gets
SESSIONS of a year, which are counted by day as the worker does; then WAITING commands are asked for that a person has
to approve. Each page is asked for through the whole stack of Django. Prints a line of JSON a page.
"""

import json
import statistics
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import django

from bench.projects.filling import fill

AGENTS: Final = 25
COMMANDS: Final = (
    *("rm -r /tmp/old-{}", "touch /tmp/note-{}", "ls /tmp/of-{}"),
    *("docker restart web-{}", "make -C /tmp t-{}"),
)
YEAR: Final = timedelta(days=365)
WARM: Final = 2


def main() -> None:
    """Fill, then measure each page."""
    django.setup()
    waiting, sessions, rounds = map(int, sys.argv[1:])

    from django.contrib.auth.models import User
    from django.test import Client

    from governance.models import Agent
    from shellagent.links import SessionConverter
    from shellagent.models import ShellSession

    busiest = ask(waiting)
    grow(busiest, sessions)
    reader = Client(headers={"host": "localhost"})
    reader.force_login(User.objects.create(username="reader", is_staff=True, is_superuser=True))
    newest = ShellSession.objects.filter(status="pending", agent_id=busiest).latest("id")
    unchanged = {"If-None-Match": reader.get("/queue/now")["ETag"]}
    agent = Agent.objects.get(pk=busiest)
    pages: dict[str, tuple[str, dict[str, str]]] = {
        "the queue": ("/queue", {}),
        "its last page": (f"/queue?p={-(-waiting // 25)}", {}),
        "the queue, looked at again, and something changed": ("/queue/now", {}),
        "the queue, looked at again, and nothing changed": ("/queue/now", unchanged),
        "a card of that agent's": (f"/s/{SessionConverter().to_url(newest.pk)}", {}),
        "that agent's page, with its record": (f"/admin/governance/agent/{agent.pk}/change/", {}),
        "that agent in the API, with its record": (f"/api/agents/{agent.pk}", {}),
    }
    for name, (path, headers) in pages.items():
        print(json.dumps({"name": name} | measured(reader, path, headers, rounds)), flush=True)


def measured(reader: Any, path: str, headers: Mapping[str, str], rounds: int) -> dict[str, Any]:
    """Ask for a page again and again. Returns the milliseconds of each time, those of this process, and its queries."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    took, worked = [], []
    for _ in range(WARM + rounds):
        began, began_cpu = time.perf_counter(), time.process_time()
        response = reader.get(path, headers=headers)
        took.append((time.perf_counter() - began) * 1000)
        worked.append((time.process_time() - began_cpu) * 1000)
        if response.status_code not in (200, 304):
            raise SystemExit(f"{path} answered {response.status_code}")
    with CaptureQueriesContext(connection) as seen:
        reader.get(path, headers=headers)
    return {"took_ms": took[WARM:], "cpu_ms": statistics.median(worked[WARM:]), "queries": len(seen)}


def ask(waiting: int) -> int:
    """Ask for that many commands that a person has to approve, by 25 agents on one host. Returns an agent's id."""
    from django.contrib.auth.models import User

    from audit.trail import SYSTEM
    from governance.policy.types import Maturity
    from governance.services import agent_create, agent_party
    from shellagent.protocol import HostFacts
    from shellagent.services import Ask, Asker, agent_host_set, enrolment_issue, host_enrol, sessions_request

    owner = User.objects.create(username="owner")
    facts = HostFacts(home="/home/a", user="a", scratch="/scratch", hostname="here", platform="linux")
    host, _key = host_enrol(code=enrolment_issue(name="pages", actor=SYSTEM), facts=facts)
    askers = []
    for number in range(AGENTS):
        agent = agent_create(name=f"agent-{number}", owner=owner, actor=SYSTEM, maturity=Maturity.INTERN)
        agent_host_set(agent=agent, host=host, actor=SYSTEM, is_default=True)
        askers.append(Asker(agent.pk, agent.name, agent.maturity, is_suspended=False, party=agent_party(agent)))
    asked: list[Any] = []
    for number in range(waiting):
        command = COMMANDS[number % len(COMMANDS)].format(number)
        asked.append((Ask(command=command, reason="To measure."), askers[number % AGENTS]))
    for begin in range(0, waiting, 50):
        for kept in sessions_request(asked[begin : begin + 50]):
            if isinstance(kept, Exception):
                raise kept
    return askers[0].agent_id or 0


def grow(agent_id: int, sessions: int) -> None:
    """Give an agent that many sessions of the last year that ended, and count them as the worker does."""
    from django.utils import timezone

    from governance.models import Agent
    from shellagent.models import ShellSession
    from shellagent.records import agent_days_count

    template = ShellSession.objects.filter(agent_id=agent_id).latest("id")
    begin = timezone.now() - YEAR - timedelta(hours=1)
    Agent.objects.filter(pk=agent_id).update(created_at=begin, maturity_since=begin)
    step = int(YEAR / timedelta(milliseconds=1)) // sessions
    moment = f"{_milliseconds(begin)} + n * {step}"

    def ended(dialect: Mapping[str, str]) -> dict[str, str]:
        return {
            "created_at": dialect["created_at"],
            "digest": dialect["digest"],
            "status": "CASE WHEN n %% 10 = 0 THEN 'failed' WHEN n %% 97 = 0 THEN 'rejected' ELSE 'succeeded' END",
            "intervention": "CASE WHEN n %% 97 = 0 AND n %% 10 > 0 THEN 'rejected' ELSE '' END",
            "warrant": "'w'",
            "expires_at": "NULL",
            "queue_key": "1000000000000000 + n",
        }

    fill(template.pk, 1, sessions, moment, ended)
    # What waits is newer than all of it, so that all of it can be counted.
    while agent_days_count(timezone.now()):
        pass


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


if __name__ == "__main__":
    main()
