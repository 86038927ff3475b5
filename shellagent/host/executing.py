"""`localagent execute`: as `atom run`, with the keys of this installation's `credentials.json`."""

import argparse
import json
from typing import Any, Final

from shellagent.client import running
from shellagent.client.atom import Atom
from shellagent.client.credentials import KEY_VARIABLE, read_secret, take_key
from shellagent.client.errors import AtomError
from shellagent.host.arguments import server_url
from shellagent.host.errors import StateError
from shellagent.host.state import Enrolment, atom_home

CREDENTIALS: Final = "credentials.json"


def execute(options: argparse.Namespace) -> int:
    """Run the command and return its exit code, or the one that says why it has none."""
    manner = running.Manner(is_json=options.json, wait_seconds=options.wait, program="localagent")
    try:
        with Atom(*_who(options)) as atom:
            return running.run(
                atom,
                lambda wait_seconds: atom.execute(
                    options.command,
                    working_directory=options.directory,
                    timeout_seconds=options.timeout,
                    reason=options.reason,
                    host=options.on_host,
                    wait_seconds=wait_seconds,
                ),
                manner,
            )
    except AtomError as error:
        manner.complain(error, str(error))
        return error.ends_with


def _who(options: argparse.Namespace) -> tuple[str, str]:
    """Return the server's URL and the agent's key. Raises StateError with the next step."""
    key, credentials = take_key(KEY_VARIABLE), _credentials()
    if options.agent:
        agents = credentials.get("agents")
        name = str(options.agent).lower().removeprefix("demo-")
        found = agents.get(name) if isinstance(agents, dict) else None
        if not isinstance(found, dict):
            known = ", ".join(agents) if isinstance(agents, dict) else "none"
            raise StateError(
                f"{atom_home() / CREDENTIALS} has no key of an agent {options.agent!r} (it has: {known}). Set ATOM_KEY."
            )
        key = str(found.get("key", ""))
    if not key:
        raise StateError("No agent is named: give --agent NAME, or set ATOM_KEY to the agent's key.")
    return server_url(options, Enrolment(url=str(credentials.get("url") or ""))), key


def _credentials() -> dict[str, Any]:
    file = atom_home() / CREDENTIALS
    if not file.exists():
        return {}
    try:
        data = json.loads(read_secret(file, missing=""))
    except ValueError as error:
        raise StateError(f"{file} is damaged: {error}") from error
    return data if isinstance(data, dict) else {}
