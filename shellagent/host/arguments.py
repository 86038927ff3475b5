"""What the commands of the host share on the command line: how they end, and who the server is."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from shellagent.client.arguments import ended
from shellagent.host import console
from shellagent.host.errors import StateError
from shellagent.host.state import Enrolment, StateFolder, default_state_folder

DEFAULT_URL = "http://localhost:8000"


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the server and the state folder."""
    parser.add_argument(
        "--backend-url",
        metavar="URL",
        help=f"the server; by default ATOM_URL, else where it was enrolled, else {DEFAULT_URL}",
    )
    parser.add_argument("--host", metavar="NAME", help="the server's host name, instead of --backend-url")
    parser.add_argument("--port", type=int, metavar="N", help="the server's port, instead of --backend-url")
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where the key and the journal are; by default $ATOM_HOME/host, else var/host of this checkout where it "
        "exists, else $XDG_STATE_HOME/atom-local-agent",
    )


def state_folder(options: argparse.Namespace) -> StateFolder:
    """Return the state folder that the options name."""
    chosen: Path | None = options.state_dir
    return StateFolder(chosen.expanduser().absolute() if chosen else default_state_folder())


def server_url(options: argparse.Namespace, enrolment: Enrolment) -> str:
    """Return the server's URL. Raises StateError for one that is not http or https."""
    url: str = options.backend_url or ""
    if not url and (options.host or options.port):
        url = f"http://{options.host or 'localhost'}:{options.port or 8000}"
    url = url or os.environ.get("ATOM_URL", "") or enrolment.url or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise StateError(f"{url!r} is not the address of a server: it begins with http:// or https://.")
    return url.rstrip("/")


def refuse_root(*, is_allowed: bool) -> None:
    """Raise StateError for a service that is root's, unless that was said to be wished for."""
    if os.geteuid() == 0 and not is_allowed:
        raise StateError(
            "As a service it refuses to be root. Make a user for it (docs/how-to/run-as-a-service.md), or give "
            "--allow-root, best with `runlocalagent --run-as USER`, so that commands are not root's."
        )


def log_to_stderr(*, is_verbose: bool, is_json: bool = False) -> None:
    """Send the log to the standard error: what matters, or with `is_verbose` each request too; lines or JSON."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if is_verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if is_json:
        console.use_json()
        for handler in logging.getLogger().handlers:
            handler.setFormatter(console.JsonFormatter())


def guarded(work: Callable[[], int], program: str) -> int:
    """Run a command; an error becomes one sentence and its exit code, never a traceback."""
    return ended(work, lambda error, message: console.complain(program, message))
