# ruff: noqa: S608  (the SQL that fills a database of the benchmark's own is made of constants and numbers)
"""How long the trail's pages take at a million events: `python -m bench.review [--events N] [--rounds N]`.

Fills a database of its own (a temporary SQLite file, or DATABASE_URL, which has to be empty), and asks for each page
through the whole stack of Django, in this process. Prints the median and the worst of the rounds in milliseconds.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from typing import Any, Final

SESSIONS_A_DAY: Final = 550
_PADDING: Final = "x" * 300
#: The tags of a session's events, in order.
_TAGS: Final = ("session:queued", "session:claimed", "session:running", "session:output", "session:succeeded")
_CATEGORIES: Final = ("read", "write", "build", "network", "devops", "delete", "blocked", "unknown")

PAGES: Final = {
    "newest": "",
    "page 100": "p=100",
    "an agent": "agent=7",
    "a host": "host=3",
    "an approver": "approver=1",
    "a category": "category=delete",
    "an outcome": "outcome=denied",
    "a day half a year ago": "from_day=HALF&to_day=HALF",
    "since then": "from_day=HALF",
    "an agent, on that day": "agent=7&from_day=HALF&to_day=HALF",
    "a category and a host, since then": "category=delete&host=3&from_day=HALF",
    "a session": "q=SESSION",
    "a user": "q=user:1",
    "words that are there": "q=agent-7",
    "words that are nowhere": "q=nothing+of+that+name",
}


def fill(cursor: Any, vendor: str, events: int) -> None:
    """Write that many events of sessions, five each, ending now. Agents 1 to 20, hosts 1 to 5, approver 1."""
    is_sqlite = vendor == "sqlite"
    numbers = (
        f"WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {events - 1})"
        if is_sqlite
        else f"WITH numbers AS (SELECT n FROM generate_series(0, {events - 1}) AS n)"
    )
    uid = "printf('a%031x', n)" if is_sqlite else "md5('u' || n)::uuid"
    session = "printf('5%031x', n / 5)" if is_sqlite else "md5('s' || (n / 5))::uuid"
    seconds = 86_400 / SESSIONS_A_DAY / 5
    ago = f"({events} - n) * {seconds}"
    when = (
        f"strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || ({ago}) || ' seconds')"
        if is_sqlite
        else f"now() - make_interval(secs => {ago})"
    )
    tag = "CASE WHEN n % 50 = 0 THEN 'session:denied' " + " ".join(
        f"WHEN n % 5 = {at} THEN '{name}'" for at, name in enumerate(_TAGS)
    )
    category = " ".join(f"WHEN {at} THEN '{name}'" for at, name in enumerate(_CATEGORIES))
    agent = "1 + (n / 5) % 20"
    is_decided = "n % 25 = 5"
    actor = f"CASE WHEN {is_decided} THEN 'user' ELSE 'agent' END"
    body = (
        '\'{"data":{"category":"read","host":"host-\' || (1 + (n / 5) % 5) || \'","padding":"' + _PADDING + '"},'
        '"actor":{"id":"1","label":"agent-\' || (' + agent + ') || \'","type":"agent"},"origin":null,"outcome":"",'
        '"subject":{"id":"1","label":"a session","type":"session"},"tag":"\' || (' + tag + " END) || '\"}'"
    )
    cursor.execute(
        f"{numbers} INSERT INTO audit_auditevent (uid, session_id, session_seq, occurred_at, tag, actor_type, "
        "actor_id, actor_label, subject_type, subject_id, subject_label, outcome, agent_id, host_id, category, body, "
        f"hash) SELECT {uid}, {session}, 1 + n % 5, {when}, {tag} END, {actor}, "
        f"CASE WHEN {is_decided} THEN '1' ELSE CAST({agent} AS TEXT) END, 'agent-' || ({agent}), 'session', "
        f"CAST({session} AS TEXT), '', '', {agent}, 1 + (n / 5) % 5, CASE (n / 5) % 8 {category} END, {body}, "
        "'0' FROM numbers ORDER BY n"
    )
    if not is_sqlite:
        # PostgreSQL does so by itself; the product never asks SQLite to, which then takes any index for a good one.
        cursor.execute("ANALYZE")


def people_and_machines() -> Any:
    """Make who and what the events name, so that the menus have them. Returns a superuser."""
    from django.contrib.auth.models import User  # noqa: PLC0415

    from governance.models import Agent  # noqa: PLC0415
    from shellagent.models import Host  # noqa: PLC0415

    user = User.objects.create(pk=1, username="reviewer", is_staff=True, is_superuser=True)
    Agent.objects.bulk_create(Agent(pk=number, name=f"agent-{number}", owner=user) for number in range(1, 21))
    Host.objects.bulk_create(Host(pk=number, name=f"host-{number}") for number in range(1, 6))
    return user


def main() -> int:
    """Fill and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.review", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="how many events (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each page is asked for (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atom-review-") as home:
        os.environ["ATOM_HOME"] = home
        os.environ["DJANGO_SETTINGS_MODULE"] = "atomsite.settings"
        _measure(options.events, options.rounds)
    return 0


def _measure(events: int, rounds: int) -> None:
    # Django is set up here, in the home that was just made.
    import django  # noqa: PLC0415

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415

    from audit.counting import days_count  # noqa: PLC0415
    from audit.models import AuditEvent  # noqa: PLC0415

    call_command("migrate", interactive=False, verbosity=0)
    if AuditEvent.objects.filter(session_id__isnull=False).exists():
        raise SystemExit("This database is in use; name an empty one.")
    began = time.perf_counter()
    with connection.cursor() as cursor:
        fill(cursor, connection.vendor, events)
    print(f"{events:,} events on {connection.vendor}, written in {time.perf_counter() - began:.0f} s", flush=True)
    began = time.perf_counter()
    days = days_count(timezone.now())
    print(f"{days} days counted in {time.perf_counter() - began:.1f} s", flush=True)
    began = time.perf_counter()
    days_count(timezone.now())
    print(f"counted again in {(time.perf_counter() - began) * 1000:.0f} ms", flush=True)
    user = people_and_machines()
    client = Client()
    client.force_login(user)
    middle = AuditEvent.objects.filter(session_id__isnull=False).order_by("pk")[events // 2]
    for name, query in PAGES.items():
        address = query.replace("HALF", f"{middle.occurred_at:%Y-%m-%d}").replace("SESSION", str(middle.session_id))
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            answer = client.get(f"/admin/audit/auditevent/?{address}", headers={"host": "localhost"}, follow=False)
            times.append((time.perf_counter() - began) * 1000)
            if answer.status_code != 200:
                raise SystemExit(f"{address}: {answer.status_code}")
        rows = answer.content.count(b'class="field-when')
        print(f"{name:32} {statistics.median(times):6.0f} ms, worst {max(times):6.0f} ms, {rows} rows", flush=True)


if __name__ == "__main__":
    sys.exit(main())
