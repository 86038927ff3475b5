"""`atom` at the command line: what it asks, what it prints, and with which code it ends."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shellagent.client import cli, credentials, patience, terminal
from shellagent.client.errors import StateError
from tests.client.conftest import EXECUTE, ONE, SESSION, Call
from tests.host.server import StubServer

Bodies = list[dict[str, Any]]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["ls | wc -l"], {"command": "ls | wc -l"}),
        (["--", "make", "test", "-k", "x"], {"argv": ["make", "test", "-k", "x"]}),
        (["make", "--json", "--", "x"], {"argv": ["make", "--json", "--", "x"]}),
        (["--reason", "why", "true"], {"command": "true", "reason": "why"}),
        (["--env", "A=b=c", "--secret", "TOKEN", "true"], {"env": {"A": "b=c"}, "secrets": ["TOKEN"]}),
    ],
)
def test_what_is_asked(atom: Call, server: StubServer, words: list[str], asked: dict[str, Any]) -> None:
    bodies: Bodies = []
    done = {**SESSION, "status": "succeeded", "exit_code": 0}
    server.bend(EXECUTE, lambda body: bodies.append(body) or (200, done))  # type: ignore[func-returns-value]
    assert atom("run", *words).code == 0
    assert asked.items() <= bodies[0].items()


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((200, {**SESSION, "status": "failed", "exit_code": 5, "stdout": "out\n", "stderr": "err\n"}), 5, "err"),
        ((200, {**SESSION, "status": "timed_out", "exit_code": 143}), 124, "timed_out"),
        ((200, {**SESSION, "status": "aborted", "exit_code": 143}), 130, "aborted"),
        ((200, {**SESSION, "status": "refused", "termination_detail": "The ceiling."}), 77, "The ceiling."),
        ((200, {**SESSION, "status": "rejected", "approval": {"reason": "Not today."}}), 77, "Not today."),
        ((200, {**SESSION, "status": "lost"}), 70, "lost"),
        ((202, {**SESSION, "status": "pending", "approve_url": "http://approve"}), 75, "http://approve"),
        ((202, {**SESSION, "status": "queued", "host_online": False}), 75, "offline"),
        ((403, {"type": "http://x/problems/denied", "status": 403, "detail": "Denied."}), 77, "Denied."),
        ((403, {"type": "http://x/problems/kill-switch", "status": 403, "detail": "Stopped."}), 77, "Stopped."),
        ((400, {"type": "http://x/problems/not-allowlisted", "status": 400, "detail": "Not listed."}), 77, "Not"),
        ((400, {"type": "http://x/problems/syntax", "detail": "What?", "hint": "Quote it."}), 64, "Quote it."),
        ((413, {"type": "http://x/problems/too-large", "detail": "Over 2 MiB."}), 64, "Over 2 MiB."),
        ((401, {"detail": "This key is revoked."}), 3, "revoked"),
        ((429, {"status": 429, "detail": "Too many."}), 75, "Too many."),
        ((503, {"status": 503, "detail": "No host."}), 69, "No host."),
        ((200, [1]), 69, "Is the URL right?"),
        ((200, {**SESSION, "status": 5}), 69, "Is the URL right?"),
    ],
)
def test_how_it_ends(atom: Call, server: StubServer, answer: tuple[int, object], code: int, said: str) -> None:
    server.bend(EXECUTE, *[lambda _: answer] * 2)
    done = atom("run", "--wait", "0", "ls")
    assert (done.code, said in done.err) == (code, True), done.err
    assert done.out == ("out\n" if code == 5 else "")
    shown = atom("run", "--wait", "0", "--json", "ls")
    assert (shown.code, shown.json["process_exit_code"]) == (code, code)


def test_output_is_printed_byte_for_byte(
    home: Path, server: StubServer, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("ATOM_URL", server.url)
    monkeypatch.setenv("ATOM_KEY", "ata_x")
    server.bend(EXECUTE, lambda _: (200, {**SESSION, "status": "succeeded", "exit_code": 0, "stdout": "\ufffd!"}))
    body = {"id": SESSION["id"], "status": "succeeded", "finished": True, "next": {}, "stderr": []}
    server.bend(f"{ONE}/output", lambda _: (200, {**body, "stdout": [{"offset": 0, "bytes": 2, "text": "/yE="}]}))
    assert cli.main(["run", "ls"]) == 0
    assert capsysbinary.readouterr().out == b"\xff!"


@pytest.mark.parametrize(("is_terminal", "printed"), [(True, b"\x1b[31mred\x07\n"), (False, b"\x1b[31mred\x07\n")])
def test_what_acts_on_a_terminal_does_not_reach_one(is_terminal: bool, printed: bytes) -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    stream.isatty = lambda: is_terminal  # type: ignore[method-assign]
    terminal.print_bytes(stream, printed)
    assert stream.buffer.getvalue() == (b"red\n" if is_terminal else printed)


@pytest.mark.parametrize(("no_colour", "is_painted"), [("", True), ("1", False)])
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, no_colour: str, is_painted: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert (terminal.painted("pending", "yellow") != "pending") is is_painted


def test_a_server_that_was_away_for_a_moment_is_asked_again(
    atom: Call, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr("shellagent.client.patience.time.sleep", naps.append)
    server.bend(EXECUTE, lambda _: (202, {**SESSION, "status": "queued"}))
    away = (503, {"type": "x/problems/unavailable", "detail": "Busy.", "status": 503})
    server.bend(ONE, lambda _: away, lambda _: (200, {**SESSION, "status": "failed", "exit_code": 4}))
    assert atom("run", "ls").code == 4
    assert naps == [1.0]
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", -1.0)
    server.bend(ONE, *[lambda _: (202, {**SESSION, "status": "queued"}), lambda _: away])
    done = atom("wait", SESSION["id"])
    assert (done.code, SESSION["id"] in done.err) == (69, True)


def test_the_server_is_down(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOM_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ATOM_KEY", "ata_x")
    done = call("run", "--json", "--", "ls")
    assert (done.code, done.json["process_exit_code"], "Is it running" in done.err) == (69, 69, True)
    monkeypatch.setenv("ATOM_KEY", "ata_x")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert "https_proxy is not used" in call("list").err


@pytest.mark.parametrize(
    ("variables", "kept", "said"),
    [
        ({}, None, "set ATOM_KEY"),
        ({"ATOM_KEY": "ata_x"}, None, "a key but no server"),
        ({"ATOM_KEY": "ath_x", "ATOM_URL": "http://localhost"}, None, "a host's key"),
        ({"ATOM_KEY": "ata_x\n y", "ATOM_URL": "http://localhost"}, None, "no key"),
        ({"ATOM_KEY": "ata_x", "ATOM_URL": "localhost:8000"}, None, "is not the address of a server"),
        ({}, {"url": "http://localhost", "key": "ata_x"}, "can be read by others"),
        ({}, {"url": "http://localhost"}, "set ATOM_KEY"),
        ({}, ["x"], "is damaged"),
        ({"ATOM_URL": "http://other"}, {"url": "http://localhost", "key": "ata_x"}, "not for http://other"),
    ],
)
def test_who_asks_where_is_said_first(  # noqa: PLR0917 - parameters and fixtures are passed by name
    call: Call, home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], kept: object, said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if kept is not None:
        keep(home, kept, 0o644 if "others" in said else 0o600)
    done = call("status")
    assert (done.code, said in done.err, "ata_x" in done.err) == (64, True, False), done.err


def keep(home: Path, kept: object, mode: int = 0o600) -> None:
    file = home / "atom" / "credentials.json"
    file.parent.mkdir()
    file.write_text(json.dumps(kept))
    file.chmod(mode)


def test_the_file_is_enough(call: Call, home: Path, server: StubServer) -> None:
    keep(home, {"url": server.url, "key": "ata_x"})
    server.bend(ONE, lambda _: (200, {**SESSION, "status": "denied", "command": "rm\x1b[2J /"}))
    done = call("show", SESSION["id"])
    assert (done.code, "denied" in done.out, "\x1b" in done.out) == (0, True, False)


@pytest.mark.parametrize(
    ("url", "is_exposed"),
    [
        ("http://localhost:8000", False),
        ("http://10.1.2.3", False),
        ("http://[::1]:8000", False),
        ("https://93.184.216.34", False),
        ("http://93.184.216.34", True),
        ("http://[2606:2800:220:1::1]", True),
    ],
)
def test_a_key_on_its_way_in_the_open(url: str, is_exposed: bool) -> None:
    assert credentials.is_exposed(url) is is_exposed


def test_a_clock_far_off_is_said(atom: Call, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.bend("/api/local-agent/sessions", *[lambda _: (200, {"results": []})] * 2)
    assert atom("list").err == ""
    monkeypatch.setattr("shellagent.client.atom.time", SimpleNamespace(time=lambda: 0.0))
    assert "behind the server's" in atom("list").err


def test_lists_and_answers_for_people(atom: Call, server: StubServer) -> None:
    sessions = [{**SESSION, "status": "failed", "exit_code": 2, "argv": ["grep", "a b"]}]
    server.bend("/api/local-agent/sessions", lambda _: (200, {"results": sessions}))
    assert "failed       2  grep 'a b'" in atom("list").out
    agent = {"id": 4, "name": "builder", "maturity": "INTERN"}
    server.bend("/api/agents", *[lambda _: (200, {"results": [agent]})] * 2)
    host = {"name": "web", "online": True, "running": 1, "queued": 0}
    counts = {"pending": 2, "queued": 0, "claimed": 0, "running": 1}
    server.bend("/api/local-agent/status", lambda _: (200, {"hosts": [host], "sessions": counts}))
    shown = atom("status").out
    assert "builder (INTERN)" in shown
    assert "2 pending, 1 running" in shown
    rule = {"id": "matrix:delete:INTERN", "outcome": "ask", "justification": "A person."}
    decision = {"outcome": "ask", "category": "delete", "explanation": "`rm` deletes.", "rules": [rule]}
    server.bend("/api/agents/4/governance", lambda _: (200, decision))
    done = atom("policy", "check", "--", "rm", "x")
    assert (done.code, "matrix:delete:INTERN: A person." in done.out) == (75, True)


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["policy"],
        ["list", "--limit", "0"],
        ["run", "--env", "x", "ls"],
        ["run", "--wait", "nan", "ls"],
        ["run", "--wait=-1", "ls"],
        ["wait", "nonsense"],
        ["connect", "codex", "--project", "/no/such/folder"],
        ["show", ""],
    ],
)
def test_a_usage_error_is_64(call: Call, words: list[str]) -> None:
    done = call(*words)
    assert (done.code, "usage:" in done.err) == (64, True)


@pytest.mark.parametrize(
    "words", [["run", "ls", "\udcff"], ["run", "--reason", "\udcff", "ls"], ["list", "--status", "\udcff"]]
)
def test_bytes_that_are_no_text_are_refused_before_they_are_sent(
    atom: Call, server: StubServer, words: list[str]
) -> None:
    done = atom(*words)
    assert (done.code, "UTF-8" in done.err, server.calls) == (64, True, [])


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        ({"scope": "everything", "subject": ""}, 69),
        ({"scope": "agent", "subject": "builder"}, 69),
        ({"scope": "host", "subject": "web"}, 69),
        ({"scope": "host", "subject": "other"}, 0),
    ],
)
def test_the_status_tells_of_a_kill_switch(atom: Call, server: StubServer, stop: dict[str, str], code: int) -> None:
    status = {"hosts": [{"name": "web", "online": True}], "kill_switch": [{**stop, "by": "ann", "reason": "It loops."}]}
    server.bend("/api/local-agent/status", lambda _: (200, {"sessions": {}, **status}))
    server.bend("/api/agents", lambda _: (200, {"results": [{"id": 4, "name": "builder", "maturity": "INTERN"}]}))
    done = atom("status")
    said = f"{stop['scope']} {stop['subject']}".strip() + ", by ann: It loops."
    assert (done.code, said in done.out) == (code, True), done.out


def test_it_waits_as_long_as_it_takes(atom: Call, server: StubServer) -> None:
    server.bend(EXECUTE, lambda _: (202, {**SESSION, "status": "pending"}))
    server.bend(ONE, lambda _: (200, {**SESSION, "status": "succeeded", "exit_code": 0}))
    assert atom("run", "--wait", "inf", "ls").code == 0


def test_json_stays_json_at_ctrl_c(atom: Call, server: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    pending = (202, {**SESSION, "status": "pending"})
    server.bend(ONE, lambda _: pending)
    monkeypatch.setattr("shellagent.client.running.pause", interrupt)
    server.bend(ONE, lambda _: pending)
    done = atom("wait", "--json", SESSION["id"])
    assert (done.code, done.json["process_exit_code"], "goes on" in done.err) == (130, 130, True)
    server.bend(EXECUTE, lambda _: pending)
    server.bend(ONE, lambda _: pending)
    server.bend(f"{ONE}/cancel", lambda _: (503, {"detail": "Busy."}))
    done = atom("run", "--json", "ls")
    assert (done.code, done.json["status"], "could not be cancelled" in done.err) == (130, "pending", True)


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/local-agent", "/under/api/local-agent"])
def test_an_address_of_the_api_is_no_servers(path: str) -> None:
    with pytest.raises(StateError, match=r"Give the server's: https://x(/under)?$"):
        credentials.checked_url(f"https://x{path}")
