"""`manage.py init`, in a database and a home of its own."""

import fcntl
import json
import stat
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError
from django_q.models import Schedule

from atomsite.home import Home
from atomsite.initial import Made, credentials, initialise
from audit.models import AuditEvent
from governance import keys
from governance.models import Agent, AgentKey
from governance.policy.decide import build_policy
from governance.policy.entries import Tables
from governance.policy.types import Maturity
from shellagent.host.state import StateFolder
from shellagent.models import AgentHost, Host
from tests.database import OwnDatabase

pytestmark = pytest.mark.usefixtures("own_database")


@pytest.fixture
def home(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An ATOM_HOME that does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ATOM_HOME", str(tmp_path / "home"))
    settings.HOME = Home(tmp_path / "home")
    return settings.HOME  # type: ignore[no-any-return]


def init(*options: str) -> str:
    output = StringIO()
    call_command("init", *options, stdout=output)
    return output.getvalue()


def test_the_first_time_makes_all(home: Home) -> None:
    text = init()
    kept = json.loads(home.credentials.read_text())
    admin = User.objects.get()
    assert (admin.username, admin.is_superuser) == ("admin", True)
    assert admin.check_password(kept["admin"]["password"])
    assert kept["admin"]["password"] in text
    assert {agent.maturity for agent in Agent.objects.all()} == set(Maturity)
    for maturity, agent in kept["agents"].items():
        row = AgentKey.objects.get(digest=keys.digest(agent["key"]))
        assert (row.agent_id, row.agent.maturity) == (agent["id"], maturity.upper())
        assert agent["key"] not in text
    host = Host.objects.get()
    assert (host.pk, host.is_local, host.is_enrolled) == (kept["host"]["id"], True, True)
    assert host.key_digest == keys.digest(StateFolder(home.host_state).key())
    assert AgentHost.objects.filter(is_default=True, host=host).count() == 4
    folder = Path(AgentHost.objects.get(agent__maturity="SUPERVISED").working_directory)
    assert "demo-supervised" in (folder / "readme.txt").read_text()
    assert Schedule.objects.exists()
    tags = Counter(AuditEvent.objects.values_list("tag", flat=True))
    assert (tags["agent:created"], tags["key:issued"], tags["host:enrolled"]) == (4, 4, 1)


def test_all_is_the_owners_only(home: Home) -> None:
    init()
    loose = [path for path in [home.path, *home.path.rglob("*")] if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert loose == []


def test_the_second_time_changes_nothing(home: Home) -> None:
    init()
    before = (home.credentials.read_bytes(), AuditEvent.objects.count(), AgentKey.objects.count())
    assert "nothing was missing" in init()
    assert init("--quiet") == ""
    assert (home.credentials.read_bytes(), AuditEvent.objects.count(), AgentKey.objects.count()) == before


def test_rules_that_are_not_sound_are_named_at_every_start(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    init("--quiet")
    assert capsys.readouterr().err == ""
    wrong = replace(build_policy(), tables=Tables(problems=("t.toml, line 3: ls: unknown key flag",)))
    with patch("governance.checks.stored_policy", return_value=wrong):
        assert init("--quiet") == ""
    assert capsys.readouterr().err.startswith("governance.E001: t.toml, line 3: ls: unknown key flag Mend the file")


def test_another_port_is_kept_for_scripts(home: Home, settings: Any) -> None:
    init()
    before = credentials(home)
    settings.ATOM_URL = "http://localhost:9000"
    init()
    assert credentials(home) == {**before, "url": "http://localhost:9000"}


def test_without_credentials_the_secrets_are_printed_once(home: Home) -> None:
    text = init("--no-credentials", "--quiet")
    assert not home.credentials.exists()
    printed = [word for word in text.split() if word.startswith("ata_")]
    assert len(printed) == 4
    assert AgentKey.objects.filter(digest__in=[keys.digest(key) for key in printed]).count() == 4
    init()
    assert not home.credentials.exists(), "a later call does not bring the file back"


def test_removed_credentials_stay_removed(home: Home) -> None:
    init()
    home.credentials.unlink()
    init()
    assert not home.credentials.exists()


def test_without_the_demonstration(home: Home) -> None:
    init("--no-demo")
    assert not Agent.objects.exists()
    assert User.objects.get().username == "admin"
    assert Host.objects.get().is_local
    init()
    assert not Agent.objects.exists(), "who left it out does not get it later"


def test_an_administrator_of_ones_own_is_respected(home: Home) -> None:
    User.objects.create_superuser("root", password="of my own")  # noqa: S106
    init()
    assert User.objects.get().username == "root"
    assert not Agent.objects.exists()
    assert not home.credentials.exists()


def test_json(home: Home) -> None:
    first = json.loads(init("--json"))
    assert (first["is_new"], first["home"]) == (True, str(home.path))
    assert "admin" not in first, "the secrets are in credentials.json"
    assert json.loads(init("--json"))["is_new"] is False


def test_json_without_credentials_has_the_secrets(home: Home) -> None:
    shown = json.loads(init("--json", "--no-credentials"))
    assert User.objects.get().check_password(shown["admin"]["password"])
    assert set(shown["agents"]) == {"student", "intern", "supervised", "autonomous"}


def test_a_lost_state_folder_is_enrolled_again(home: Home) -> None:
    init()
    folder = StateFolder(home.host_state)
    old = folder.key()
    folder.key_file.unlink()
    init()
    host = Host.objects.get()
    assert host.key_digest == keys.digest(folder.key()) != keys.digest(old)
    assert credentials(home)["host"] == {"id": host.pk}


def test_another_machines_name_is_not_taken(home: Home) -> None:
    with patch("atomsite.initial.socket.gethostname", return_value="crate (old)"):
        Host.objects.create(name="crate-old", key_digest="another machine's")
        init()
    assert Host.objects.get(is_local=True).name == "crate-old-2"
    assert Host.objects.get(name="crate-old").key_digest == "another machine's"


def test_a_failure_leaves_no_half_made_state_and_the_next_call_succeeds(home: Home) -> None:
    url = "http://localhost:8000"
    full = patch("atomsite.initial.agent_host_set", side_effect=OSError(28, "No space left on device"))
    with full, pytest.raises(OSError, match="No space left"):
        initialise(home, url=url)
    assert not User.objects.exists()
    assert not Host.objects.exists()
    made = initialise(home, url=url)
    assert made.password
    kept = credentials(home)
    assert Host.objects.get().key_digest == keys.digest(StateFolder(home.host_state).key())
    assert isinstance(kept["agents"], dict)
    assert AgentKey.objects.filter(digest=keys.digest(kept["agents"]["intern"]["key"])).exists()


def test_two_at_once_come_one_after_the_other(home: Home) -> None:
    def is_set_up_elsewhere() -> bool:
        with (home.path / "init.lock").open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    held: list[bool] = []

    def step(*_: object, **__: object) -> Made:
        held.append(is_set_up_elsewhere())
        return Made()

    names = ("call_command", "initialise", "schedules_install")
    steps = [patch(f"atomsite.management.commands.init.{name}", side_effect=step) for name in names]
    with steps[0], steps[1], steps[2]:
        init("--quiet")
    assert held == [True, True, True]
    assert not is_set_up_elsewhere()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(DatabaseError("gone"), "The database cannot be used"), (PermissionError(13, "denied"), "cannot be used")],
)
def test_what_is_missing_is_one_sentence(home: Home, error: Exception, sentence: str) -> None:
    failing = patch("atomsite.management.commands.init.initialise", side_effect=error)
    with failing, pytest.raises(CommandError, match=sentence) as raised:
        init()
    assert raised.value.returncode == 69


def test_a_fresh_database_file_is_the_owners_only(home: Home, own_database: OwnDatabase) -> None:
    home.create()
    home.create_database()
    assert stat.S_IMODE(home.database.stat().st_mode) == 0o600
