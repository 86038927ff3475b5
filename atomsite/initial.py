"""The first set-up: an administrator, demonstration agents with their keys, and this machine as a host.

Each part is made only where it is missing. All rows of one call are one transaction, and the files that hold their
keys are written before it is committed: a crash in between leaves files that the next call writes again.
"""

import json
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from atomsite.home import Home
from audit import trail_keys
from audit.trail import SYSTEM
from governance import keys
from governance.models import Agent
from governance.policy.types import Maturity
from governance.services import agent_create, key_issue
from shellagent import signing_keys
from shellagent.host.errors import StateError
from shellagent.host.facts import host_facts, scratch_folder
from shellagent.host.pinned import PinnedKeys
from shellagent.host.state import Enrolment, StateFolder, cache_folder
from shellagent.models import AgentHost, Host
from shellagent.notifying import at_rest
from shellagent.services.hosts import agent_host_set, enrolment_issue, host_enrol

ADMINISTRATOR: Final = "admin"
README: Final = """This folder belongs to the agent demo-supervised.

It may read and write here without asking, because an operator gave it this folder and it is SUPERVISED.
"""


def demonstration_name(maturity: Maturity) -> str:
    """Return the name of the demonstration agent with this maturity."""
    return f"demo-{maturity.lower()}"


@dataclass(frozen=True, slots=True)
class Made:
    """What this call made, with the secrets that can be read only now. Empty where all was there."""

    password: str = ""
    #: Key by maturity in small letters: `{"student": {"id": …, "key": "ata_…"}}`.
    agents: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    host: Host | None = None

    @property
    def has_secrets(self) -> bool:
        return bool(self.password or self.agents)


def initialise(home: Home, *, url: str, has_demonstration: bool = True, keeps_credentials: bool = True) -> Made:
    """Make what is missing in a migrated database and in ATOM_HOME. Raises OSError, and what the services raise."""
    home.create()
    keys_folder = Path(settings.ATOM_KEYS)
    is_new_key = signing_keys.create(keys_folder)
    trail_keys.create(keys_folder)
    at_rest.create(keys_folder)
    with transaction.atomic():
        password = _administrator()
        agents = _agents() if password and has_demonstration else {}
        host = _host(home, url)
        if host is not None or is_new_key:
            # Whoever may make the server's key here may also tell this machine's host that it is the one.
            newest = signing_keys.read(keys_folder / signing_keys.FILE).signer.public_key
            PinnedKeys(StateFolder(home.host_state).server_keys).pin(newest)
        _links(Host.objects.get(pk=host.pk) if host else None)
        made = Made(password, agents, host)
        if keeps_credentials:
            _keep(home, url, made)
    return made


def credentials(home: Home) -> dict[str, object]:
    """Return what credentials.json holds, empty where there is none or it is not readable as such."""
    try:
        content = json.loads(home.credentials.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _administrator() -> str:
    if User.objects.filter(is_superuser=True).exists():
        return ""
    password = secrets.token_urlsafe(12)
    User.objects.create_superuser(ADMINISTRATOR, password=password)
    return password


def _agents() -> dict[str, dict[str, object]]:
    owner = User.objects.get(username=ADMINISTRATOR)
    made: dict[str, dict[str, object]] = {}
    for maturity in Maturity:
        agent = agent_create(name=demonstration_name(maturity), maturity=maturity, owner=owner, actor=SYSTEM)
        key = key_issue(agent=agent, actor=SYSTEM, label="demonstration")
        made[maturity.lower()] = {"id": agent.pk, "key": key}
    return made


def _host(home: Home, url: str) -> Host | None:
    """Enrol this machine where the state folder has no key that opens a host. Returns the host if it was new."""
    folder = StateFolder(home.host_state)
    try:
        if Host.objects.filter(key_digest=keys.digest(folder.key())).exists():
            return None
    except StateError:
        pass  # no key yet, or one that cannot be used
    code = enrolment_issue(name=_free_name(), actor=SYSTEM, is_local=True)
    host, key = host_enrol(code=code, facts=host_facts(folder, scratch_folder()))
    folder.enrol(Enrolment(url=url, host_id=str(host.pk), name=host.name), key)
    return host


def _free_name() -> str:
    """Return this machine's name, with a number behind it where another machine is the host of that name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-._")[:50] or "localhost"
    taken = set(Host.objects.filter(is_local=False).values_list("name", flat=True))
    return next(
        candidate for candidate in (name, *(f"{name}-{number}" for number in range(2, 1000))) if candidate not in taken
    )


def _links(host: Host | None) -> None:
    """Let the demonstration agents use a host that was just enrolled."""
    if host is None:
        return
    for agent in Agent.objects.filter(name__in=[demonstration_name(maturity) for maturity in Maturity]):
        if AgentHost.objects.filter(agent=agent, host=host).exists():
            continue
        directory = _own_folder(agent) if agent.name == demonstration_name(Maturity.SUPERVISED) else ""
        agent_host_set(agent=agent, host=host, is_default=True, working_directory=directory, actor=SYSTEM)


def _own_folder(agent: Agent) -> str:
    folder = cache_folder() / "demonstration" / agent.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "readme.txt").write_text(README)
    return str(folder)


def _keep(home: Home, url: str, made: Made) -> None:
    known = credentials(home)
    if not known and not made.has_secrets:
        return  # removed on purpose, or never kept
    content = {**known, "url": url}
    if made.password:
        content["admin"] = {"username": ADMINISTRATOR, "password": made.password}
    if made.agents:
        content["agents"] = dict(made.agents)
    if made.host is not None:
        content["host"] = {"id": made.host.pk}
    if content != known:
        home.write_secret(home.credentials, json.dumps(content, indent=2) + "\n")
