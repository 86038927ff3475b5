"""`manage.py runlocalagent`: the local agent in the foreground."""

import argparse
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from governance.policy.types import Facts
from shellagent import protocol
from shellagent.client.arguments import Parser
from shellagent.host import background, ceiling, cgroups, console, facts, limits, tree
from shellagent.host.arguments import add_server, guarded, log_to_stderr, refuse_root, server_url, state_folder
from shellagent.host.capabilities import Account, find_account
from shellagent.host.ceiling import NO_CEILING, Ceiling
from shellagent.host.cgroups import Cgroups
from shellagent.host.client import Client, product_version
from shellagent.host.credential import credential_of
from shellagent.host.environment import is_within, search_path
from shellagent.host.errors import AlreadyRunningError, StateError
from shellagent.host.holding import Holding
from shellagent.host.journal import Journal
from shellagent.host.loop import Loop
from shellagent.host.notify import SOCKET_VARIABLE, Notifier
from shellagent.host.process import Process
from shellagent.host.runner import GRACE_SECONDS
from shellagent.host.sandbox import Sandbox
from shellagent.host.sessions import Sessions
from shellagent.host.settings import Settings
from shellagent.host.slots import Slots, temporary_folder
from shellagent.host.state import KEY_VARIABLE, Enrolment, StateFolder, boot_id, conceal_key, free_bytes
from shellagent.host.zygote import Zygote

if TYPE_CHECKING:
    from shellagent.host.pinned import PinnedKeys

PROGRAM = "runlocalagent"
DEFAULT_CONCURRENCY = 2
MOST_CONCURRENCY = 256
#: More than a zygote gives them.
SUPERVISORS_END_SECONDS = 20.0
#: What a start writes is some kilobytes.
START_BYTES = 1024 * 1024
ROOM_CHECK_SECONDS = 1.0

DESCRIPTION = """\
Run the local agent in the foreground: it polls the server, runs what governance has decided may run on this machine,
and reports. Its key comes from ATOM_HOST_KEY or from the state folder, where `localagent enroll` puts it.
The first Ctrl-C (or TERM) waits for what runs, the second aborts it."""
EXAMPLES = """\
  manage.py runlocalagent
  manage.py runlocalagent --backend-url https://atom.example.com --concurrency 4
  ATOM_HOST_KEY=ath_... manage.py runlocalagent --state-dir /var/lib/atom --once

exit codes: 0 clean, 3 the key is refused, 4 another instance runs, 5 stalled, 64 usage, 69 no server, 70 internal,
76 the server speaks another version of the protocol"""


def main(arguments: Sequence[str], *, is_own_process: bool = False) -> int:
    """Run the command. `is_own_process` says that this process is there for nothing else."""
    options = parser().parse_args(arguments)
    options.given = tuple(arguments)
    log_to_stderr(is_verbose=options.verbose, is_json=options.json_logs)
    if is_own_process:
        conceal_key(KEY_VARIABLE)
    return guarded(lambda: _run(options, is_own_process=is_own_process), PROGRAM)


def parser() -> Parser:
    """Return the command's parser."""
    made = Parser(prog=f"manage.py {PROGRAM}", description=DESCRIPTION, examples=EXAMPLES)
    add_server(made)
    made.add_argument(
        "--concurrency",
        type=_concurrency,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help="sessions at once, 2 by default",
    )
    made.add_argument(
        "--scratch", metavar="DIR", help="where sessions without a directory run; by default ATOM_SCRATCH, else a cache"
    )
    made.add_argument(
        "--require-sandbox", action="store_true", help="refuse to start where a protection of commands is missing"
    )
    made.add_argument(
        "--run-as", metavar="USER", help="an unprivileged user that commands run as, where the local agent is root's"
    )
    made.add_argument(
        "--ceiling",
        type=Path,
        metavar="FILE",
        help="what may run here at most, whatever the server decides; by default ceiling.toml in the state folder",
    )
    made.add_argument("--once", action="store_true", help="run what waits now, deliver the results, and end")
    made.add_argument(
        "--allow-root", action="store_true", help="let a service be root's; without it, one that root starts refuses"
    )
    made.add_argument("--json-logs", action="store_true", help="print each line as a JSON object")
    made.add_argument("--verbose", action="store_true", help="log each request")
    return made


def _concurrency(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if not 1 <= number <= MOST_CONCURRENCY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_CONCURRENCY}")
    return number


def _run(options: argparse.Namespace, *, is_own_process: bool) -> int:
    # As systemd says whom it started: what a unit's own processes start is no service.
    is_service = SOCKET_VARIABLE in os.environ or os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())
    notifier = Notifier.of_environment()
    if is_service:
        refuse_root(is_allowed=options.allow_root)
    state = state_folder(options)
    state.create()
    _lock(state)
    _wait_for_room(state, may_wait=not options.once)
    groups = cgroups.find(f"atom-{temporary_folder(state.path).name}")
    zygote = Zygote.start(kept=(state.lock_descriptor,), groups=groups)
    try:
        enrolment = state.enrolment()
        url = server_url(options, enrolment)
        key = credential_of(state)
        scratch = facts.scratch_folder(options.scratch)
        limits_of_host = ceiling.load(options.ceiling or state.ceiling, must_exist=bool(options.ceiling))
        _make_scratch(scratch, facts.protected_paths(state, limits_of_host.files))
        if is_own_process:
            tree.hide_memory()
            limits_of_host.limits.hold_from_birth()
        known = background.note_own_process(state, url, limits_of_host.path, options.given, is_service=is_service)
        account = find_account(options.run_as) if options.run_as else None
        if account is not None:
            os.chown(scratch, account.uid, account.gid)
        client = Client(url, key)
        loop = build_loop(
            state,
            enrolment,
            client,
            zygote,
            scratch=scratch,
            concurrency=options.concurrency,
            account=account,
            limits_of_host=limits_of_host,
            groups=groups,
        )
        protections = loop.sessions.settings.protections
        background.note_what_it_is(state, known, protections=protections, version=loop.version)
        missing = loop.sessions.settings.sandbox().missing
        if options.require_sandbox and missing:
            names = ", ".join(missing)
            raise StateError(f"This machine lacks {names}. docs/reference/protections.md says what each needs.")
        _warn(loop, is_root=loop.facts.is_root)
        lost = loop.sessions.recover()
        if lost:
            loop.say(f"{lost} sessions were running when the local agent last ended: reported as lost, not run again")
        process = Process(loop, notifier)
        return process.run_once() if options.once else process.run()
    finally:
        zygote.close()
        background.forget_own_process(state)
        state.unlock()


def _lock(state: StateFolder) -> None:
    """Hold the state folder; where a local agent died, its supervisors first end what they run."""
    deadline = time.monotonic() + SUPERVISORS_END_SECONDS
    while True:
        try:
            state.lock()
        except AlreadyRunningError:
            if not background.has_died(state) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _wait_for_room(state: StateFolder, *, may_wait: bool) -> None:
    """Return once there is room for what a start writes. Raises StateError where it may not wait for that.

    On a full disk a start fails, or finds no sandbox to work; whoever starts it anew would give up after a while.
    """
    has_said = False
    while free_bytes(state.path) < START_BYTES:
        sentence = f"No room is left on the disk of {state.path}. Free some."
        if not may_wait:
            raise StateError(sentence)
        if not has_said:
            has_said = True
            console.say(f"{sentence} Waiting until there is.")
        time.sleep(ROOM_CHECK_SECONDS)


def build_loop(
    state: StateFolder,
    enrolment: Enrolment,
    client: Client,
    zygote: Zygote,
    *,
    scratch: Path,
    concurrency: int,
    account: Account | None = None,
    limits_of_host: Ceiling = NO_CEILING,
    groups: Cgroups | None = None,
) -> Loop:
    """Put a host process together; probes the sandbox on the way. Raises StateError where a folder cannot be made."""
    sizes = limits_of_host.limits
    if account is not None and groups is None:
        sizes = replace(sizes, user_tasks=sizes.tasks)
    slots = _made(Slots(concurrency, temporary_folder(state.path), groups, sizes.tasks))
    sandbox = Sandbox(tool_roots=enrolment.path, account=account)
    sandbox.probe(state.path)
    if groups is not None:
        sandbox.protections += (cgroups.PROTECTION,)
    known = facts.host_facts(state, scratch, limits_of_host)
    boot = boot_id()
    path = search_path(enrolment.path)
    own = Facts(known.home, known.user, known.scratch, is_sandboxed=True, protected=known.protected)
    holding = Holding(limits_of_host, facts=own, path=path, protections=sandbox.protections)
    holding.load()
    sessions = Sessions(
        connect=client.another,
        zygote=zygote,
        settings=Settings(
            scratch=str(scratch),
            user=account.name if account else known.user,
            run_as=account.name if account else "",
            home=known.home,
            protected=known.protected,
            path=path,
            tool_roots=sandbox.tool_roots,
            protections=sandbox.protections,
            grace_seconds=GRACE_SECONDS,
            roots=limits_of_host.roots,
            limits=sizes,
        ),
        journal=Journal(state.journal, boot, spool_bytes=limits_of_host.spool_mib * limits.MEBIBYTE),
        slots=slots,
        instance_id=state.instance_id(),
        boot_id=boot,
        host_id=enrolment.host_id,
        holding=holding,
        pinned=_pinned(state),
        say=console.say,
        draining=threading.Event(),
    )
    return Loop(client=client, sessions=sessions, facts=known, version=product_version())


def _made(slots: Slots) -> Slots:
    try:
        slots.create()
    except OSError as error:
        raise StateError(f"{slots.folder} cannot be made: {error.strerror}. Set XDG_CACHE_HOME.") from error
    return slots


def _pinned(state: StateFolder) -> "PinnedKeys":
    # Only now, after the zygote was forked: supervisors check no signatures, and need not carry what does.
    from shellagent.host.pinned import PinnedKeys  # noqa: PLC0415

    pinned = PinnedKeys(state.server_keys)
    pinned.load()
    return pinned


def _make_scratch(scratch: Path, protected: Sequence[str]) -> None:
    for path in protected:
        if is_within(os.path.realpath(scratch), path):
            raise StateError(
                f"The scratch folder {scratch} is inside {path}, which no command may reach. Give --scratch."
            )
    try:
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"The scratch folder {scratch} cannot be made: {error.strerror}. Give --scratch.") from error


def _ceiling_line(of_host: Ceiling) -> str:
    if not of_host.path:
        return "ceiling: none; what the server decides runs here"
    limits_shown = [name for name in of_host.shown() if name != "file"]
    return f"ceiling: {of_host.path} ({', '.join(limits_shown) or 'it limits nothing'})"


def _warn(loop: Loop, *, is_root: bool) -> None:
    sandbox = loop.sessions.settings.sandbox()
    warnings = [
        "it runs commands of AI agents on this machine, with access to this machine's files.",
        "agents of maturity AUTONOMOUS run without a person's approval, within the rules.",
    ]
    if sandbox.missing:
        missing = ", ".join(sandbox.missing)
        warnings.insert(0, f"MISSING PROTECTIONS: {missing}. docs/reference/protections.md says what each needs.")
    if is_root and sandbox.account is not None:
        warnings.insert(0, f"it runs as root. Commands run as {sandbox.account.name}.")
    elif is_root:
        warnings.insert(0, "IT RUNS AS ROOT, AND SO DO THE COMMANDS. Use a user of its own, without rights.")
    for warning in warnings:
        loop.say(f"WARNING: {warning}")
    for line in (
        f"Atom Local Agent {loop.version}, protocol {protocol.VERSION}: {loop.facts.hostname} for {loop.client.url}",
        "All of it is audited on the server.",
        f"protections: {', '.join(sandbox.protections) or 'NONE. No sandbox works on this machine'}",
        _ceiling_line(loop.sessions.holding.ceiling),
        f"limits: {console.shown_sizes(loop.facts.limits)}",
        f"sessions at once: {loop.sessions.slots.count}; scratch folder: {loop.facts.scratch}",
    ):
        loop.say(line)
