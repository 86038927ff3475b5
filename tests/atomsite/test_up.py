"""`manage.py up` before it starts anything, and what it would start; tests/e2e/test_make_run.py runs it."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from atomsite.console import Console
from atomsite.home import Home
from atomsite.up import CannotStartError, Plan, check_port, is_healthy, only_one


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


def test_children_know_where_they_are(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("name", "value"), [("PORT", "ten"), ("ATOM_WAITS_TOTAL", "-1")])
def test_a_setting_that_is_no_number_is_named(name: str, value: str, tmp_path: Path) -> None:
    code = "import atomsite.settings"
    environment = {"ATOM_HOME": str(tmp_path), "SECRET_KEY": "x" * 50, name: value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert f"{name} must be a whole number, not {value!r}." in done.stderr
