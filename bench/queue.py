"""How long the pages of who approves take: `python -m bench.queue [--waiting N] [--rounds N]`.

Asks for that many commands in a database of its own (a temporary SQLite file, or DATABASE_URL, which has to be empty),
and asks for each page through the whole stack of Django, in this process. Prints the median and the worst.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

AGENTS: Final = 25
COMMANDS: Final = (
    *("rm -r /tmp/old-{}", "touch /tmp/note-{}", "ls /tmp/of-{}"),
    *("docker restart web-{}", "make -C /tmp t-{}"),
)


def main() -> int:
    """Fill and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--waiting", type=int, default=500, help="how many requests wait (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="how often each page is asked for (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atom-queue-") as home:
        os.environ["ATOM_HOME"] = home
        os.environ["DJANGO_SETTINGS_MODULE"] = "atomsite.settings"
        os.environ["ATOM_PENDING_PER_AGENT"] = str(options.waiting)
        _measure(options.waiting, options.rounds)
    return 0


def _measure(waiting: int, rounds: int) -> None:
    # Django is set up here, in the home that was just made.
    import django  # noqa: PLC0415

    django.setup()
    from django.conf import settings  # noqa: PLC0415
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    from audit import trail_keys  # noqa: PLC0415
    from shellagent import signing_keys  # noqa: PLC0415
    from shellagent.links import SessionConverter  # noqa: PLC0415
    from shellagent.models import ShellSession  # noqa: PLC0415

    keys = Path(settings.ATOM_KEYS)
    signing_keys.create(keys)
    trail_keys.create(keys)
    call_command("migrate", interactive=False, verbosity=0)
    if ShellSession.objects.exists():
        raise SystemExit("This database is in use; name an empty one.")
    fill(waiting)
    client = Client()
    client.force_login(User.objects.create(username="reader", is_staff=True, is_superuser=True))
    newest = ShellSession.objects.order_by("-pk")[0]
    unchanged = {"If-None-Match": client.get("/queue/now", headers={"host": "localhost"})["ETag"]}
    print(f"{waiting} requests wait, on {connection.vendor}")
    pages: dict[str, tuple[str, dict[str, str]]] = {
        "the queue": ("/queue", {}),
        "its last page": (f"/queue?p={-(-waiting // 25)}", {}),
        "one category": ("/queue?category=delete", {}),
        "what changed of it": ("/queue/now", {}),
        "nothing changed": ("/queue/now", unchanged),
        "a card": (f"/s/{SessionConverter().to_url(newest.pk)}", {}),
    }
    for name, (path, headers) in pages.items():
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            response = client.get(path, headers={"host": "localhost", **headers})
            took.append((time.perf_counter() - began) * 1000)
            if response.status_code not in (200, 304):
                raise SystemExit(f"{path} answered {response.status_code}")
        print(f"| {name} | {statistics.median(took):.0f} ms | {max(took):.0f} ms |", flush=True)


def fill(waiting: int) -> None:
    """Ask for that many commands that a person has to approve, by 25 agents on one host."""
    from django.contrib.auth.models import User  # noqa: PLC0415

    from audit.trail import SYSTEM  # noqa: PLC0415
    from governance.policy.types import Maturity  # noqa: PLC0415
    from governance.services import agent_create, agent_party  # noqa: PLC0415
    from shellagent.protocol import HostFacts  # noqa: PLC0415
    from shellagent.services import (  # noqa: PLC0415
        Ask,
        Asker,
        agent_host_set,
        enrolment_issue,
        host_enrol,
        sessions_request,
    )

    owner = User.objects.create(username="owner")
    facts = HostFacts(home="/home/a", user="a", scratch="/scratch", hostname="here", platform="linux")
    host, _key = host_enrol(code=enrolment_issue(name="here", actor=SYSTEM), facts=facts)
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


if __name__ == "__main__":
    raise SystemExit(main())
