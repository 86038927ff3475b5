"""`localagent doctor`: what could keep this machine from being a host, looked at one by one, with the next step."""

import argparse
import email.utils
import json
import os
import shutil
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from shellagent import protocol
from shellagent.client.errors import Exit
from shellagent.client.http import Connection
from shellagent.client.terminal import without_escapes
from shellagent.host import background, ceiling, cgroups, facts
from shellagent.host.arguments import server_url, state_folder
from shellagent.host.client import Client, product_version
from shellagent.host.errors import (
    AtomError,
    CallError,
    StateError,
    UnauthorisedError,
    UnavailableError,
    UpgradeRequiredError,
)
from shellagent.host.sandbox import Sandbox
from shellagent.host.state import PRODUCT, StateFolder

LEAST_FREE_BYTES: Final = 64 * 1024 * 1024
#: What makes leases and log times hard to compare, and what makes them wrong.
MOST_SKEW_SECONDS: Final = 5.0
OK, WARN, FAIL = "ok", "warn", "fail"

EXAMPLES: Final = """\
  manage.py localagent doctor
  manage.py localagent doctor --json --backend-url https://atom.example.com

exit codes: 0 nothing keeps it from working; 1 something does; 64 usage"""


@dataclass(frozen=True, slots=True)
class Check:
    """One check's result: `ok`, `warn` (it works, with less) or `fail`. `next_step` is empty where all is well."""

    name: str
    result: str
    found: str
    next_step: str = ""


def doctor(options: argparse.Namespace) -> int:
    """Check everything and print it. Returns 0 where nothing failed, else 1."""
    state = state_folder(options)
    checks = []
    for check in _checks(options, state):
        checks.append(check)
        if not options.json:
            sys.stdout.write(f"{check.result:<5} {check.name}: {without_escapes(check.found)}\n")
            if check.next_step:
                sys.stdout.write(f"      next: {check.next_step}\n")
            sys.stdout.flush()
    failed = [check.name for check in checks if check.result == FAIL]
    if options.json:
        sys.stdout.write(json.dumps({"ok": not failed, "checks": [asdict(check) for check in checks]}) + "\n")
    else:
        count = f"{len(checks)} checks"
        sys.stdout.write(f"{count}: {', '.join(failed)} failed.\n" if failed else f"{count}: it can work.\n")
    return 1 if failed else Exit.OK


def _checks(options: argparse.Namespace, state: StateFolder) -> Iterator[Check]:
    known = background.find(state)
    yield _guarded("state folder", lambda: _folder(state))
    yield _guarded("instance", lambda: _instance(state, known))
    yield from _server(options, state, known)
    yield _guarded("scratch folder", lambda: _scratch(options, state))
    yield _guarded("disk", lambda: _disk(state))
    yield _guarded("ceiling", lambda: _ceiling(state, known))
    yield _guarded("protections", lambda: _protections(state))
    yield _guarded("cgroup", lambda: cgroup_check(known))
    yield _guarded("account", _account)


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except (AtomError, OSError) as error:
        return Check(name, FAIL, str(error), "See to what it says, and run the doctor again.")


def _folder(state: StateFolder) -> Check:
    name = "state folder"
    try:
        info = state.path.stat()
    except FileNotFoundError:
        return Check(name, FAIL, f"{state.path} is not there", "Run `localagent enroll`, or give --state-dir.")
    if not stat.S_ISDIR(info.st_mode):
        return Check(name, FAIL, f"{state.path} is no folder", "Give another --state-dir.")
    if info.st_uid != os.geteuid():
        return Check(name, FAIL, f"{state.path} belongs to another user", "Run this as the local agent's own user.")
    if info.st_mode & 0o077:
        return Check(
            name, FAIL, f"{state.path} has mode {stat.S_IMODE(info.st_mode):o}", f"Run `chmod 700 {state.path}`."
        )
    if not os.access(state.path, os.W_OK | os.X_OK):
        return Check(name, FAIL, f"{state.path} cannot be written", "Mount it for writing, or give --state-dir.")
    return Check(name, OK, f"{state.path}, owner-only")


def _instance(state: StateFolder, known: background.Known | None) -> Check:
    if known is not None:
        return Check("instance", OK, f"the local agent runs with pid {known.pid} for {known.url}")
    if not state.path.is_dir():
        return Check("instance", OK, "none runs with this folder")
    if state.is_held():
        return Check(
            "instance",
            FAIL,
            f"an unknown process holds {state.path / 'lock'}",
            f"Find it with `fuser {state.path / 'lock'}`; what a dead local agent left lets go by itself.",
        )
    return Check("instance", OK, "none runs; start it with `manage.py localagent start`")


def _server(options: argparse.Namespace, state: StateFolder, known: background.Known | None) -> Iterator[Check]:
    try:
        url = known.url if known is not None and not options.backend_url else server_url(options, state.enrolment())
    except StateError as error:
        yield Check("address", FAIL, str(error), "Give --backend-url.")
        return
    try:
        connection = Connection(url, lambda: "", agent=f"atom-local-agent/{product_version()}")
        answer = connection.request("GET", "/healthz")
        connection.close()
    except UnavailableError as error:
        is_tls = isinstance(error.__cause__, ssl.SSLError)
        found = f"the certificate of {url} is not trusted" if is_tls else f"no server answers at {url}"
        step = (
            "Give the URL whose name the certificate carries; it must be of an authority that this machine knows."
            if is_tls
            else "Start the server, or give its --backend-url; look at names, firewall and port."
        )
        yield Check("tls" if is_tls else "address", FAIL, found, step)
        return
    if 300 <= answer.status < 400:
        yield Check("address", FAIL, f"{url} redirects, which is not followed", "Give the address it leads to.")
        return
    yield Check("address", OK, f"{url} answers")
    yield _tls(url)
    yield _clock(answer.date)
    yield from _key(state, url)


def _tls(url: str) -> Check:
    if url.startswith("https://"):
        return Check("tls", OK, "the certificate is trusted")
    if urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1"):
        return Check("tls", OK, "none, and none is needed on this machine")
    return Check("tls", WARN, "none: the key travels for all to read", "Put it behind TLS: docs/how-to/behind-tls.md.")


def _clock(date: str) -> Check:
    now = time.time()
    try:
        skew = now - email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return Check("clock", WARN, "the server does not say what time it is", "Compare the clocks yourself.")
    # The header counts whole seconds.
    if abs(skew) > MOST_SKEW_SECONDS:
        return Check("clock", WARN, f"{skew:.0f} s from the server's", "Let both machines take the time by NTP.")
    return Check("clock", OK, "as the server's, to a few seconds")


def _key(state: StateFolder, url: str) -> Iterator[Check]:
    try:
        key = state.key()
    except StateError as error:
        yield Check("key", FAIL, str(error), "Run `manage.py localagent enroll` with a code from the admin.")
        return
    client = Client(url, key)
    version = f"version {product_version()}, protocol {protocol.VERSION}"
    try:
        # No starts: a call that is checked like any other and changes nothing.
        client.start(protocol.StartRequest(protocol.VERSION, "", ()))
    except UnauthorisedError as error:
        step = "Enable it on the host's page in the admin, or enrol this machine anew."
        yield Check("key", FAIL, f"refused: {error}", step)
    except UpgradeRequiredError as error:
        yield Check("protocol", FAIL, str(error), "Install the server's version of the product on this machine.")
    except UnavailableError as error:
        yield Check("key", FAIL, f"cannot be tried: {error}", "Look at the server's log, and at the URL.")
    except CallError as error:
        yield Check("key", WARN, f"accepted, with trouble: {error}", "Look at the host's page in the admin.")
    else:
        yield Check("key", OK, "accepted")
        yield Check("protocol", OK, f"{version}, as the server's")
    finally:
        client.close()


def _scratch(options: argparse.Namespace, state: StateFolder) -> Check:
    folder = facts.scratch_folder(options.scratch)
    step = "Give --scratch, or set ATOM_SCRATCH."
    real = os.path.realpath(folder)
    for path in facts.protected_paths(state):
        if real == path or real.startswith(f"{path}/"):
            return Check("scratch folder", FAIL, f"{folder} is inside {path}, which no command may reach", step)
    present = Path(real)
    while not present.exists():
        present = present.parent
    if not present.is_dir() or not os.access(present, os.W_OK | os.X_OK):
        return Check("scratch folder", FAIL, f"{folder} cannot be written or made", step)
    return Check("scratch folder", OK, f"{folder}" if str(present) == real else f"{folder}, to be made at the start")


def _disk(state: StateFolder) -> Check:
    place = state.path if state.path.exists() else PRODUCT
    free = shutil.disk_usage(place).free
    shown = f"{free // (1024 * 1024)} MiB free under {place}"
    if free < LEAST_FREE_BYTES:
        return Check("disk", FAIL, shown, "Make room: with less than 64 MiB the local agent claims nothing.")
    return Check("disk", OK, shown)


def _ceiling(state: StateFolder, known: background.Known | None) -> Check:
    path = Path(known.ceiling) if known is not None and known.ceiling else state.ceiling
    found = ceiling.load(path)
    return Check("ceiling", OK, f"{found.path}" if found.path else "none; what the server decides runs here")


def _protections(state: StateFolder) -> Check:
    if not state.path.is_dir():
        return Check("protections", WARN, "not tried without a state folder", "Enrol this machine first.")
    sandbox = Sandbox()
    sandbox.probe(state.path)
    if sandbox.missing:
        step = "docs/reference/protections.md says what each needs; --require-sandbox refuses to start without."
        return Check("protections", WARN, f"MISSING: {', '.join(sandbox.missing)}", step)
    return Check("protections", OK, ", ".join(sandbox.protections))


def cgroup_check(known: background.Known | None) -> Check:
    """Say whether the kernel bounds a session's processes, besides the count that the local agent keeps."""
    if known is not None and known.protections is not None:
        is_bounded = cgroups.PROTECTION in known.protections
    else:
        is_bounded = cgroups.find(f"atom-doctor-{os.getpid()}") is not None
    if is_bounded:
        return Check("cgroup", OK, "the kernel bounds the processes of each session")
    step = "The unit that `manage.py localagent install-service` writes asks for one (`Delegate=pids`)."
    return Check("cgroup", WARN, "none can be made: a session's processes are counted twice a second", step)


def _account() -> Check:
    if os.geteuid() == 0:
        step = "Make a user for it, or give runlocalagent --run-as USER."
        return Check("account", WARN, "root, and so are the commands", step)
    return Check("account", OK, facts.user_name())
