"""Publishing to receivers that are really there, and to ones that were away: nothing is left out, nobody waits."""

import resource
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction

from audit import anchors, notes, sealing
from audit.models import AuditCheckpoint, AuditSink
from audit.tags import Tag
from audit.trail import SYSTEM, Event, record
from audit.trail_health import trail_health
from audit.trail_keys import trail_keys
from audit.verifying import anchored
from audit.verifying_report import Report

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def seal() -> str:
    """Write an event, seal it, and return the checkpoint's note."""
    with transaction.atomic():
        record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM))
    sealing.seal(NOW)
    return AuditCheckpoint.objects.order_by("-number")[0].note


def publish(*names: str, later: int = 0) -> dict[str, str]:
    settings.ATOM_AUDIT_ANCHORS = " ".join(names)
    return anchors.anchors_publish(NOW + timedelta(seconds=later))


@pytest.fixture(autouse=True)
def own_sinks(db: None) -> Iterator[None]:
    before = settings.ATOM_AUDIT_ANCHORS
    yield
    settings.ATOM_AUDIT_ANCHORS = before


class Receiver(HTTPServer):
    """Keeps what is posted, and answers with a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[str] = []
        self.status = 200
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://anchor:word@127.0.0.1:{self.server_port}/atom?token=secret"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if server.status == 200:
            server.bodies.append(body)
        self.send_response(server.status)
        self.send_header("Location", "http://127.0.0.1:9/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.shutdown()
    made.server_close()


def test_a_webhook_that_was_away_gets_all_that_it_missed(receiver: Receiver) -> None:
    sent = [seal()]
    assert publish(receiver.address) == {}
    receiver.status = 500
    sent.append(seal())
    assert publish(receiver.address) == {receiver.address: "it answered 500"}
    receiver.status = 302
    sent.append(seal())
    assert publish(receiver.address, later=30) == {receiver.address: "it answered 302"}
    (sink,) = trail_health(NOW + timedelta(minutes=3)).sinks
    assert (sink.name, sink.error, sink.failing_seconds) == (
        f"http://127.0.0.1:{receiver.server_port}/atom",
        "it answered 302",
        180,
    )
    assert not trail_health(NOW + timedelta(minutes=3)).is_well
    assert trail_health(NOW + timedelta(minutes=1)).is_well
    receiver.status = 200
    assert publish(receiver.address, later=60) == {}
    assert [len(list(notes.notes_in(body.splitlines(keepends=True)))) for body in receiver.bodies] == [1, 2]
    # Whoever appends the bodies has a file that the verifier takes.
    lines = "".join(receiver.bodies).splitlines(keepends=True)
    assert list(notes.notes_in(lines)) == sent
    assert anchored(Report(), lines, trail_keys().public) == 3
    (sink,) = trail_health(NOW + timedelta(minutes=1)).sinks
    assert (sink.error, sink.failing_seconds, sink.published_seconds, sink.behind) == ("", None, 0, 0)


def test_what_is_away_keeps_nothing_from_the_others_and_tells_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    note = seal()
    away = f"http://u:secret-word@127.0.0.1:{port}/atom?token=secret-word"
    failed = publish(away, f"syslog:{tmp_path}/no-socket", f"file:{tmp_path}/kept.txt")
    assert set(failed) == {away, f"syslog:{tmp_path}/no-socket"}
    assert list(notes.notes_in((tmp_path / "kept.txt").read_text().splitlines(keepends=True))) == [note]
    stored = [f"{sink.name} {sink.error}" for sink in AuditSink.objects.all()]
    assert "secret-word" not in caplog.text + " ".join(stored)
    assert "ConnectionError" in caplog.text


@pytest.mark.parametrize("kind", ["udp", "unix"])
def test_syslog_gets_a_line_for_each_checkpoint(tmp_path: Path, kind: str) -> None:
    family = socket.AF_INET if kind == "udp" else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_DGRAM) as log:
        log.bind(("127.0.0.1", 0) if kind == "udp" else str(tmp_path / "log"))
        log.settimeout(5)
        place = f"127.0.0.1:{log.getsockname()[1]}" if kind == "udp" else str(tmp_path / "log")
        sent = [seal(), seal()]
        assert publish(f"syslog:{place}") == {}
        lines = [log.recv(65536).decode() for _ in sent]
        third = seal()
        publish(f"syslog:{place}")
        assert f"number {notes.note_read(third).number} |" in log.recv(65536).decode()
    for line, note in zip(lines, sent, strict=True):
        # <86>: authpriv, informational. The note can be had back from its line.
        assert line.startswith("<86>atom-audit: ")
        text, _, signature = line.rstrip("\0").removeprefix("<86>atom-audit: ").rpartition(" | ")
        assert text.replace(" | ", "\n") + f"\n\n{signature}\n" == note


@pytest.mark.parametrize("wrong", ["https://log..example.com/", "syslog:log..example.com:514", "http://[::1/"])
def test_a_host_that_cannot_be_keeps_nothing_from_the_others(tmp_path: Path, receiver: Receiver, wrong: str) -> None:
    seal()
    assert set(publish(wrong, receiver.address)) == {wrong}
    assert len(receiver.bodies) == 1


def test_a_name_that_is_too_long_to_keep_is_said(receiver: Receiver) -> None:
    seal()
    name = receiver.address + 200 * "x"
    assert "is too long" in publish(name)[name]
    assert "is too long" in anchors.sink_problem(name)
    assert receiver.bodies == []


def test_what_a_full_disk_cut_short_is_not_taken_for_published(tmp_path: Path) -> None:
    path = tmp_path / "anchors.txt"
    sent = [seal(), seal()]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(sent[0]) + 100, limits[1]))
    try:
        assert set(publish(f"file:{path}")) == {f"file:{path}"}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert publish(f"file:{path}") == {}
    assert list(notes.notes_in(path.read_text().splitlines(keepends=True))) == sent


def test_a_name_that_is_no_sink_is_said(db: None) -> None:
    assert "is no sink" in publish("ftp://u:secret@127.0.0.1/x")["ftp://u:secret@127.0.0.1/x"]


def test_a_file_whose_path_has_a_space_is_one_sink(tmp_path: Path) -> None:
    path = tmp_path / "my data" / "anchors 100%.txt"
    written = f"file:{path}".replace("%", "%25").replace(" ", "%20")
    note = seal()
    assert publish(written) == {}
    assert note in path.read_text()
    assert [found.name for found in tmp_path.iterdir()] == ["my data"]
