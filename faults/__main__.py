"""`python -m faults`: real sessions while everything goes wrong, then what was run twice, lost or left behind.

Exit status 0, 1 where something does not hold, 130 at Ctrl-C, 64 for a wrong command line, 70 where the run itself
cannot work.
"""

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from bench.services import Postgres
from bench.workspace import PeerFailed, Workspace
from faults import trail
from faults.clients import Clients
from faults.disk import Disk
from faults.journals import Journals
from faults.options import Options, parse
from faults.report import Outcome, say, to_json
from faults.stack import HOSTS, Stack
from faults.verdict import OPEN, Facts, effects_of, judge
from faults.weather import Weather

#: With so many open, clients wait: sessions that wait for minutes would only expire.
MOST_OPEN = 150
#: More than a lease, and than the time that leases get after the server's start.
LEASE_STEP_SECONDS = 70
#: The short form begins to step after this long, and steps until a silent host's sessions are lost.
SHORT_STEP_AFTER_SECONDS = 9.0
SHORT_STEP_EVERY_SECONDS = 2.5
SHORT_STEPS = 4


def main(arguments: list[str] | None = None) -> int:
    """Run on each database and return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["trail"]:
        return trail.main(arguments[1:])
    options = parse(arguments)
    postgres = Postgres(options.postgres_url)
    outcomes = []
    try:
        for database in options.databases:
            reason = postgres.missing() if database == "postgres" else None
            if reason is not None:
                raise PeerFailed(reason)
            outcomes.append(run_on(database, postgres, options))
            say("\n".join(outcomes[-1].lines()))
    except KeyboardInterrupt:
        say("stopped; everything that was started is gone")
        return 130
    except PeerFailed as failure:
        say(f"the run itself failed: {failure}")
        return 70
    finally:
        if options.json:
            options.json.write_text(to_json(outcomes))
    return 0 if all(outcome.holds for outcome in outcomes) else 1


def run_on(database: str, postgres: Postgres, options: Options) -> Outcome:
    """Run on one database. Raises PeerFailed."""
    with Workspace(prefix="atom-faults-") as workspace:
        if options.keep:
            say(f"kept: {workspace.keep()}")
        stack = Stack(workspace, database, postgres, options.seed)
        state = stack.state(HOSTS[1])
        state.mkdir(mode=0o700)
        disk = Disk(state, lambda: stack.services[HOSTS[1]].pid)
        workspace.callback(disk.close)
        say(f"{database}: setting up, seed {options.seed}")
        stack.start()
        return _Run(database, stack, disk, options).run()


class _Run:
    """A run on a stack that is up."""

    def __init__(self, database: str, stack: Stack, disk: Disk, options: Options) -> None:
        self.database, self.stack, self.disk, self.options = database, stack, disk, options
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.weather = Weather(stack, disk, options)
        self.journals = Journals([stack.state(name) / "journal.log" for name in HOSTS])
        self.clients = Clients(
            port=stack.client_port,
            key=stack.agent_key(),
            marker=stack.marker,
            seed=options.seed,
            count=options.sessions,
            seconds=options.fault_seconds,
        )
        self._began = self._say_at = time.monotonic()

    def run(self) -> Outcome:
        """Ask for sessions while things go wrong, let all settle, and judge."""
        self.journals.start()
        self.clients.start()
        self.weather.start()
        try:
            self._wait(self.options.fault_seconds, until_done=False)
            # Where the machine is slow, what is still to be asked for is not to find fair weather.
            self._wait(self.options.fault_seconds / 2, until_done=False, until_asked=True)
        finally:
            self.weather.close()
        amid_faults = len(self.clients.asked)
        settled = time.monotonic()
        fault_seconds = settled - self._began
        self._wait(self.options.drain_seconds, until_done=True)
        drain_seconds = time.monotonic() - settled
        self.clients.close()
        sessions = self.stack.ask(ask="sessions")
        self.stack.stop()
        self.journals.close()
        clock = self.stack.clocks["server"]
        return Outcome(
            database=self.database,
            seed=self.options.seed,
            started_at=self.started_at,
            sessions=self.options.sessions,
            amid_faults=amid_faults,
            fault_seconds=fault_seconds,
            drain_seconds=drain_seconds,
            disk=self.disk.kind,
            clock="a preloaded library, the time of day only"
            if clock.library
            else "nothing: no C compiler is installed",
            deeds=dict(self.weather.counts),
            network=dict(self.stack.proxies.counts),
            ends=dict(self.stack.ends),
            clients=dict(self.clients.counts),
            turned_down=tuple(self.clients.turned_down),
            verdict=judge(
                Facts(
                    count=self.options.sessions,
                    asked={one.id: (one.token, one.mode) for one in self.clients.asked.values()},
                    effects=effects_of(self.stack.scratch(name) / "effects" for name in HOSTS),
                    kept=self.journals.results,
                    sessions=sessions,
                    processes=self.stack.left(),
                )
            ),
        )

    def _wait(self, seconds: float, *, until_done: bool, until_asked: bool = False) -> None:
        """Wait so long, or until all are asked for, or until they have ended too; say how it goes meanwhile."""
        began, steps = time.monotonic(), 0
        while (waited := time.monotonic() - began) < seconds:
            counts = self.stack.ask(ask="counts")
            count = sum(counts.get(status, 0) for status in OPEN)
            if time.monotonic() >= self._say_at:
                self._say_at = time.monotonic() + (4 if self.options.is_short else 15)
                self._progress(counts, count)
            if self.clients.is_done and (until_asked or (until_done and not count)):
                return
            (self.clients.may_ask.set if count < MOST_OPEN else self.clients.may_ask.clear)()
            if (
                until_done
                and self.options.is_short
                and waited > SHORT_STEP_AFTER_SECONDS + steps * SHORT_STEP_EVERY_SECONDS
            ):
                steps += 1
                self._outlast_leases(steps)
            time.sleep(min(1.0 if self.options.is_short else 5.0, seconds - waited))

    def _outlast_leases(self, steps: int) -> None:
        """In place of waiting for minutes, put the server's clock on, so that leases of hosts that died are over."""
        if steps <= SHORT_STEPS:
            clock = self.stack.clocks["server"]
            clock.step(clock.offset + LEASE_STEP_SECONDS)
            self.stack.ask(ask="tidy")

    def _progress(self, counts: Mapping[str, int], count: int) -> None:
        seconds = time.monotonic() - self._began
        ended = sum(counts.values()) - count
        say(
            f"{self.database} {seconds:5.0f} s: asked {len(self.clients.asked)}/{self.options.sessions}, open {count},"
            f" ended {ended}, lost {counts.get('lost', 0)}; {sum(self.weather.counts.values())} faults,"
            f" {sum(self.stack.proxies.counts.values())} in the network"
        )


if __name__ == "__main__":
    sys.exit(main())
