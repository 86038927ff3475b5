"""`manage.py up` before it starts anything, and what it would start; tests/e2e/test_make_run.py runs it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from django_q.models import Schedule

from atomsite.commands import UnavailableError, check_set_up
from atomsite.console import Console
from atomsite.home import Home
from atomsite.up import CannotStartError, Plan, check_port, check_redis, is_healthy, only_one, run
from atomsite.worker.management.commands import qcluster
from shellagent.tasks import schedules_install
from tests.database import OwnDatabase

pytestmark = pytest.mark.e2e


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def free() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plan(home: Path, port: int = 8000, **values: Any) -> Plan:
    return Plan(Home(home), Path("/product"), "127.0.0.1", port, f"http://localhost:{port}", **values)


def test_a_free_port_is_free(free: int) -> None:
    check_port("127.0.0.1", free)


def test_a_taken_port_is_named_with_a_way_out(taken: int) -> None:
    with pytest.raises(CannotStartError, match=rf"Port {taken} on 127.0.0.1 is taken.* make run PORT="):
        check_port("127.0.0.1", taken)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_somebody_elses_localhost_is_seen(free: int) -> None:
    with socket.socket(socket.AF_INET6) as other:
        try:
            other.bind(("::1", free))
        except OSError:
            pytest.skip("no IPv6 on this machine")
        other.listen()
        with pytest.raises(CannotStartError, match=r"::1 is taken"):
            check_port("127.0.0.1", free)


def test_an_address_of_another_machine(free: int) -> None:
    with pytest.raises(CannotStartError, match=r"Cannot listen on 192\.0\.2\.1"):
        check_port("192.0.2.1", free)


@pytest.mark.parametrize("url", ["redis://:tiger@127.0.0.1:{free}/0", "redis://:tiger@127.0.0.1:{free}0/0"])
def test_redis_that_is_gone_is_said_before_anything_starts(url: str, free: int, tmp_path: Path) -> None:
    url = url.format(free=free)
    with pytest.raises(CannotStartError, match=r"^Redis, which REDIS_URL names, cannot be used: ") as error:
        check_redis(url)
    assert "tiger" not in str(error.value)
    with pytest.raises(CannotStartError, match="REDIS_URL"):
        run(plan(tmp_path, free, redis_url=url), Console(StringIO()))


def test_one_at_a_time(tmp_path: Path) -> None:
    second = only_one(Home(tmp_path))
    with only_one(Home(tmp_path)), pytest.raises(CannotStartError, match=r"already \(process \d+\)"):
        second.__enter__()
    with only_one(Home(tmp_path)):
        pass


def test_nobody_there_is_not_healthy(free: int) -> None:
    assert not is_healthy("127.0.0.1", free)


def test_the_local_agent_starts_last_and_gets_time_to_end(tmp_path: Path) -> None:
    services = plan(tmp_path, concurrency=3).services()
    assert [service.name for service in services] == ["worker", "agent"]
    agent = services[-1]
    assert agent.argv[-4:] == ("--concurrency", "3", "--state-dir", str(tmp_path / "host"))
    assert [seconds for _, seconds in agent.rungs] == [30.0, 15.0]
    assert agent.final_codes == {0, 3, 4}


def test_parts_can_be_left_out(tmp_path: Path) -> None:
    assert plan(tmp_path, has_agent=False, has_worker=False).services() == ()


def test_children_know_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert plan(tmp_path).environment()["MALLOC_ARENA_MAX"] == "2"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "5")
    assert plan(tmp_path).environment()["MALLOC_ARENA_MAX"] == "5"
    environment = plan(tmp_path, 9000).environment()
    assert environment["PORT"] == "9000"
    assert environment["ATOM_URL"] == "http://localhost:9000"
    assert environment["ATOM_HOME"] == str(tmp_path)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [("--port", "0", "not a port"), ("--port", "65536", "not a port"), ("--concurrency", "0", "give 1 to 64")],
)
def test_wrong_options_are_usage_errors(option: str, value: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence) as raised:
        call_command("up", option, value)
    assert raised.value.returncode == 64


def test_an_unknown_option_is_a_usage_error() -> None:
    with pytest.raises(CommandError, match="ten") as raised:
        call_command("up", "--port", "ten")
    assert raised.value.returncode == 64


def test_without_a_set_up_it_says_what_to_do(settings: Any, tmp_path: Path) -> None:
    settings.HOME = Home(tmp_path / "nowhere")
    with pytest.raises(CommandError, match=r"manage\.py init") as raised:
        call_command("up")
    assert raised.value.returncode == 69


def test_settings_that_only_made_the_folder_are_no_set_up(settings: Any, tmp_path: Path) -> None:
    settings.HOME = Home(tmp_path)
    with pytest.raises(CommandError, match=r"not set up.* manage\.py init") as raised, no_database(tmp_path):
        call_command("up")
    assert raised.value.returncode == 69
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CommandError, match=r"not set up.* manage\.py init"), no_database(tmp_path):
        call_command("tour")


def test_a_database_without_tables_or_behind_is_no_set_up(own_database: OwnDatabase, settings: Any) -> None:
    check_set_up()
    recorder = MigrationRecorder(connection)
    newest = max(name for app, name in recorder.applied_migrations() if app == "shellagent")
    recorder.record_unapplied("shellagent", newest)
    with pytest.raises(UnavailableError, match=r"earlier version \(1 .* manage\.py init"):
        check_set_up()
    with connection.schema_editor() as editor:
        editor.delete_model(recorder.Migration)
    with pytest.raises(UnavailableError, match=r"no tables.* manage\.py init"):
        check_set_up()


@pytest.mark.parametrize("database", ["", "postgresql://nobody@127.0.0.1:9/none"])
def test_up_and_tour_without_init_end_at_once(database: str, tmp_path: Path) -> None:
    for command in ("up", "tour"):
        done = manage(command, ATOM_HOME=str(tmp_path / "home"), DATABASE_URL=database)
        sentence = "cannot be used" if database else "is not set up. Run: manage.py init"
        assert (done.returncode, done.stdout, sentence in done.stderr) == (69, "", True), done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "ten", "PORT must be a whole number, not 'ten'."),
        ("ATOM_WAITS_TOTAL", "-1", "ATOM_WAITS_TOTAL must be a whole number"),
        ("ATOM_HOME", "/dev/null/home", "ATOM_HOME (/dev/null/home) cannot be used: Not a directory."),
        ("DATABASE_URL", "oracle://scott:tiger@there", "DATABASE_URL must be like"),
        ("REDIS_URL", "scott:tiger@there", "REDIS_URL must be like redis://host:6379/0."),
        ("TZ", "Mars/Olympus", "TZ must be a time zone"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL must be one of"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_sentence(name: str, value: str, sentence: str, tmp_path: Path) -> None:
    variables = {"ATOM_HOME": str(tmp_path), name: value}
    for command in ("init", "check"):
        done = manage(command, **variables)
        assert (done.returncode, done.stderr.count("\n")) == (64, 1), done.stderr
        assert done.stderr.startswith(f"{command}: {sentence}")
        assert "tiger" not in done.stderr
    assert "Traceback" in manage("check", "--traceback", **variables).stderr


def test_what_nobody_foresaw_is_one_sentence(tmp_path: Path) -> None:
    variables = {"ATOM_HOME": str(tmp_path), "DJANGO_SETTINGS_MODULE": "no_such_settings"}
    done = manage("check", **variables)
    assert (done.returncode, done.stderr.count("\n")) == (70, 1), done.stderr
    assert "internal error: ModuleNotFoundError: No module named 'no_such_settings'" in done.stderr
    assert "Traceback" in manage("check", "--traceback", **variables).stderr


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ATOM_", "DJANGO_", "DATABASE_", "SECRET_"))
    }
    return subprocess.run(
        [sys.executable, str(Path(__file__).resolve().parents[2] / "manage.py"), *arguments],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def no_database(folder: Path) -> Iterator[None]:
    """Let the database be a file that is not there. Connecting to it would raise AttributeError."""
    nowhere = SimpleNamespace(
        vendor="sqlite", settings_dict={"NAME": folder / "db.sqlite3"}, in_atomic_block=False, close=lambda: None
    )
    with patch("atomsite.commands.connection", nowhere):
        yield


def test_the_console_holds_lines_back_and_loses_none() -> None:
    stream = StringIO()
    console = Console(stream)
    console.hold()
    console.relay("web", "one")
    console.say("ours")
    console.relay("web", "two")
    assert stream.getvalue() == "ours\n"
    console.release()
    console.relay("agent", "three")
    assert stream.getvalue() == "ours\nweb    | one\nweb    | two\nagent  | three\n"


def test_the_console_speaks_json() -> None:
    stream = StringIO()
    console = Console(stream, as_json=True)
    console.say("ours")
    console.relay("web", "a\x1b[0m")
    console.report({"url": "http://localhost:1"})
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"message": "ours"},
        {"process": "web", "line": "a\\x1b[0m"},
        {"url": "http://localhost:1"},
    ]


def test_a_worker_without_tables_says_so_and_ends(tmp_path: Path) -> None:
    done = manage("qcluster", ATOM_HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (69, f"qcluster: {tmp_path} is not set up. Run: manage.py init\n")
    assert manage("qcluster", "--nonsense", ATOM_HOME=str(tmp_path)).returncode == 64


def test_a_worker_tries_on_where_the_database_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise UnavailableError("gone") from OperationalError("gone")

    started: list[Any] = []
    monkeypatch.setattr(qcluster, "check_set_up", gone)
    monkeypatch.setattr("django_q.management.commands.qcluster.Cluster", lambda: Mock(start=lambda: started.append(1)))
    qcluster.Command().handle()
    assert started == [1]


def test_a_folder_whose_name_has_a_space_gets_its_anchors(tmp_path: Path) -> None:
    look = "from audit.anchors import sink_file, sinks; print([str(sink_file(name)) for name in sinks()])"
    home = tmp_path / "my data 100%"
    done = manage("shell", "--no-imports", "-c", look, ATOM_HOME=str(home))
    assert done.stdout == f"['{home}/audit-anchors.txt']\n", done.stderr


def test_a_worker_mends_schedules_that_a_wrong_clock_wrote(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    schedules_install()
    Schedule.objects.update(next_run=timezone.now() + timedelta(days=400))
    monkeypatch.setattr(qcluster, "check_set_up", lambda: None)
    monkeypatch.setattr("django_q.management.commands.qcluster.Cluster", Mock)
    qcluster.Command().handle()
    assert not Schedule.objects.filter(next_run__gt=timezone.now()).exists()
