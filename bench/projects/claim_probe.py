"""Claiming as the table grows: fill the product's own database, then time the product's own claim in this process.

Run as `python -m bench.projects.claim_probe SAMPLES ROWS…` with a set-up ATOM_HOME; prints one line of JSON a size.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import django
from django.db import transaction

from bench.projects.filling import fill

#: What differs from the copied session. Of a hundred sessions one is queued for the host that claims and one for
#: another host, the rest is history; the queue lies behind what is asked for now, so a claim meets its own session.
COLUMNS = {
    "status": "CASE WHEN n %% 100 < 2 THEN 'queued' ELSE 'succeeded' END",
    "host_id": "CASE WHEN n %% 100 = 0 THEN {host} ELSE {other} END",
    "queue_key": "CASE WHEN n %% 100 < 2 THEN 9000000000000000 + n ELSE 1000000000000000 + n END",
}
#: As many as one claim of the product takes at most.
CLAIM_BATCH = 32
WARM = 20


def main() -> None:
    """Fill to each size in turn, and measure there."""
    django.setup()
    samples, *sizes = map(int, sys.argv[1:])
    probe = _Probe()
    for size in sizes:
        probe.fill(size)
        print(json.dumps(probe.measure(samples) | {"rows": size}), flush=True)


class _Probe:
    """The product's database with one host that claims. The product can be imported only after Django's set-up."""

    def __init__(self) -> None:
        from audit.trail import Party  # noqa: PLC0415
        from governance.models import Agent  # noqa: PLC0415
        from shellagent.models import Host, ShellSession  # noqa: PLC0415
        from shellagent.services.asking import Asker  # noqa: PLC0415

        agent = Agent.objects.get(maturity="AUTONOMOUS")
        party = Party("agent", str(agent.pk), agent.name)
        self.asker = Asker(agent.pk, agent.name, agent.maturity, is_suspended=False, party=party)
        self.host = Host.objects.get()
        self.other = Host.objects.create(name="other")
        self.template = self._ask()
        self.filled = 0
        ShellSession.objects.filter(pk=self.template).update(status="succeeded")

    def fill(self, size: int) -> None:
        """Add copies of one session until there are `size` of them, and let the planner know."""
        own = {name: text.format(host=self.host.pk, other=self.other.pk) for name, text in COLUMNS.items()}
        fill(self.template, self.filled + 1, size, "1700000000000 + n / 8", lambda _dialect: own)
        self.filled = size

    def measure(self, samples: int) -> dict[str, object]:
        """Return the medians and 95th percentiles, in microseconds, of the queue's query and of the whole claim."""
        from django.utils import timezone  # noqa: PLC0415

        from shellagent import queries  # noqa: PLC0415

        now = timezone.now()
        query = [self._read_queue(now) for _sample in range(WARM + samples)][WARM:]
        claim = [self._claim() for _sample in range(WARM + samples)][WARM:]
        return {
            "query_us": statistics.median(query),
            "query_p95_us": _p95(query),
            "claim_us": statistics.median(claim),
            "claim_p95_us": _p95(claim),
            "plan": queries.claimable(self.host.pk, now)[:CLAIM_BATCH].explain(),
        }

    def _read_queue(self, now: datetime) -> float:
        from shellagent import queries  # noqa: PLC0415

        # Its rows are locked where the database can, which needs a transaction; begin and commit are not in the figure.
        with transaction.atomic():
            return _us(lambda: queries.next_claimable(self.host.pk, now, CLAIM_BATCH))

    def _claim(self) -> float:
        from shellagent.protocol import HostFacts, PollRequest  # noqa: PLC0415
        from shellagent.services.claiming import sessions_claim  # noqa: PLC0415

        asked = self._ask()
        facts = HostFacts("/", "probe", "/tmp", "probe", "linux")  # noqa: S108 - a path as text
        request = PollRequest(1, "probe", "boot", asked.hex, 1, (), 0, (), facts, "0", 0)
        claimed: list[str] = []
        took = _us(
            lambda: claimed.extend(one.id for one in sessions_claim(host=self.host, request=request).assignments)
        )
        if claimed != [str(asked)]:
            raise RuntimeError(f"claimed {claimed} and not {asked}")
        return took

    def _ask(self) -> UUID:
        from shellagent.services import Ask, session_request  # noqa: PLC0415

        session, _is_replay = session_request(ask=Ask(command="/bin/true"), asker=self.asker)
        if session.status != "queued":
            raise RuntimeError(f"`true` is {session.status} for an AUTONOMOUS agent, not queued")
        identifier: UUID = session.pk
        return identifier


def _us(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e6


def _p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * len(values))]


if __name__ == "__main__":
    main()
