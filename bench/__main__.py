"""`python -m bench`: start everything, let it take turns, say what holds.

Exit status 0, 1 where a gate fails, 130 at Ctrl-C, 64 for a wrong command line, 70 where
the benchmark itself cannot work.
"""

import sys
import time
from datetime import UTC, datetime

from bench import account, claim, host, machine, output, pages, policy, report, trail
from bench.figures import Run
from bench.gates import Verdict, gates
from bench.options import Options, parse
from bench.ours import Ours
from bench.peers import AT_ONCE, BareSpawn, Peer
from bench.queues import CeleryOnRedis, DjangoQ
from bench.rounds import Rounds, say
from bench.services import Postgres, Redis
from bench.ssh import AsyncSsh, SshControlMaster, SshServer, install_peers
from bench.sudo import SudoLogged
from bench.workspace import PeerFailed, Workspace

DATABASES = ("sqlite", "postgres")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit status. The report is written only where nothing failed."""
    options = parse(arguments)
    if options.only_part:
        return _only_part(options)
    if options.install_peers:
        install_peers()
    postgres = Postgres(options.postgres_url)
    run = Run(datetime.now(UTC).isoformat(timespec="seconds"), {}, options.host_concurrency)
    begun = time.monotonic()
    run.machine = {"begun": run.started_at, "host's concurrency": str(options.host_concurrency)}
    run.machine |= machine.describe(postgres)
    try:
        with Workspace() as workspace:
            whose = account.create(workspace)
            run.notes.append(
                f"That account's shell takes {whose.shell_ms('true'):.1f} ms by itself, start-up files included;"
                " each command of the ssh rows pays it."
            )
            _measure(workspace, options, run, _peers(options, whose, postgres))
        run.policy = policy.measure(is_quick=options.is_quick)
        run.output = output.measure(is_quick=options.is_quick)
        run.host = host.measure(is_quick=options.is_quick)
        if options.with_claim:
            _claim(options, run, postgres)
        if options.with_pages and not options.only:
            _pages(options, run, postgres)
        if options.with_trail and not options.only:
            _trail(options, run, postgres)
    except KeyboardInterrupt:
        say("stopped; everything that was started is gone")
        return 130
    except PeerFailed as failure:
        say(f"the benchmark itself failed: {failure}")
        return 70
    run.seconds = time.monotonic() - begun
    run.machine["took"] = f"{run.seconds / 60:.1f} minutes, {options.rounds} rounds"
    status = _judge(options, run)
    _publish(options, run, report.to_markdown(run, account=whose.summary, at_once=AT_ONCE))
    return status


def _peers(options: Options, whose: account.Account, postgres: Postgres) -> list[Peer]:
    server = SshServer(whose)
    peers: list[Peer] = [
        BareSpawn(),
        SshControlMaster(server),
        AsyncSsh(server),
        SudoLogged(whose),
        CeleryOnRedis(Redis()),
        *(DjangoQ(database, postgres, is_tuned=tuned) for database in DATABASES for tuned in (False, True)),
        *(Ours(database, postgres, concurrency=options.host_concurrency) for database in DATABASES),
    ]
    return [peer for peer in peers if options.wants(peer.key)]


def _measure(workspace: Workspace, options: Options, run: Run, peers: list[Peer]) -> None:
    rounds = Rounds(options, run)
    rounds.start(workspace, peers)
    rounds.measure()
    for peer in peers:
        if isinstance(peer, Ours) and run.row(peer.key):
            try:
                run.footprints.append(peer.footprint(options.idle_seconds))
                if peer.database == DATABASES[0]:
                    run.doors.append(peer.doors(is_quick=options.is_quick))
            except PeerFailed as failure:
                run.broken.append(f"footprint or doors of {peer.label}: {failure}")


def _claim(options: Options, run: Run, postgres: Postgres) -> None:
    for database in DATABASES:
        if not options.wants(f"ours-{database}") or (database == "postgres" and postgres.missing()):
            continue
        try:
            with Workspace() as workspace:
                run.claims[database] = claim.measure(workspace, database, postgres, options.claim_rows)
        except PeerFailed as failure:
            run.broken.append(f"claiming on {database}: {failure}")


def _trail(options: Options, run: Run, postgres: Postgres) -> None:
    for database in DATABASES:
        if not options.wants(f"ours-{database}") or (database == "postgres" and postgres.missing()):
            continue
        try:
            with Workspace() as workspace:
                figure = trail.measure(workspace, database, postgres, options.trail_events, options.trail_seconds)
                run.trail.append(figure)
        except PeerFailed as failure:
            run.broken.append(f"the trail on {database}: {failure}")


def _pages(options: Options, run: Run, postgres: Postgres) -> None:
    for database in DATABASES:
        if database == "postgres" and postgres.missing():
            continue
        try:
            with Workspace() as workspace:
                run.pages += pages.measure(workspace, database, postgres, options)
        except PeerFailed as failure:
            run.broken.append(f"the pages on {database}: {failure}")


def _only_part(options: Options) -> int:
    run = Run(datetime.now(UTC).isoformat(timespec="seconds"), {}, options.host_concurrency)
    measure, table = (_trail, report.trail_table) if options.only_part == "trail" else (_pages, report.pages_table)
    try:
        measure(options, run, Postgres(options.postgres_url))
    except KeyboardInterrupt:
        say("stopped; everything that was started is gone")
        return 130
    if options.json:
        options.json.write_text(report.to_json(run))
    say(table(run))
    return _judge(options, run)


def _publish(options: Options, run: Run, page: str) -> None:
    if options.json:
        options.json.write_text(report.to_json(run))
    if options.report and not run.failures():
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(page)
        say(f"written: {options.report}")
    else:
        say(page)


def _judge(options: Options, run: Run) -> int:
    found = gates(run)
    for gate in found:
        say(gate.line())
    for failure in run.failures():
        say(f"FAILED        {failure}")
    # What is not installed is only missing; what is there and does not work leaves a gate open that must not look shut.
    if run.failures() and (options.has_gates or options.is_quick):
        return 1
    return 1 if options.has_gates and any(gate.verdict is Verdict.FAIL for gate in found) else 0


if __name__ == "__main__":
    sys.exit(main())
