"""What the tour asks, and how it tells the answers: against a small server that gives fixed ones."""

import json
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from atomsite.tour import STOPS, Tour, TourError, curl_line

AGENTS = {name: {"id": 1, "key": f"ata_{name}"} for name in ("student", "intern", "supervised", "autonomous")}
ANSWERS: dict[str, tuple[int, dict[str, Any]]] = {
    "cat readme.txt": (200, {"status": "succeeded", "exit_code": 0, "stdout": "one\x1b[2J\n" + "line\n" * 9}),
    "sudo reboot": (403, {"title": "Denied", "detail": "sudo is blocked.", "type": "/problems/denied"}),
    "unheard-of-program": (400, {"title": "Not on the allowlist", "decision": {"explanation": "Nobody knows it."}}),
}


class Server(HTTPServer):
    """Remembers what was asked: the key and the body of each request."""

    seen: list[tuple[str, dict[str, Any]]]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Authorization"].removeprefix("Bearer ")
        self.server.seen.append((key, body))
        if key == "ata_student" and body["command"] not in ANSWERS:
            status, answer = 202, {"status": "pending", "approve_url": "http://localhost/approve/1"}
        else:
            status, answer = ANSWERS.get(body["command"], (200, {"status": "failed", "exit_code": 2, "stderr": "no"}))
        content = json.dumps(answer).encode() if body["command"] != "broken" else b"<html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.seen = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def tour_of(server: Server, **values: Any) -> Tour:
    return Tour(f"http://127.0.0.1:{server.server_port}", AGENTS, **{"is_coloured": False, **values})


def test_each_stop_is_asked_with_its_agents_key(server: Server) -> None:
    list(tour_of(server).lines())
    assert [(key, body["command"]) for key, body in server.seen] == [
        ("ata_autonomous", "ls /tmp"),
        ("ata_supervised", "cat readme.txt"),
        ("ata_student", "ls /tmp"),
        ("ata_student", "sudo reboot"),
        ("ata_intern", "unheard-of-program"),
    ]
    assert server.seen[2][1]["wait_seconds"] == 0, "nobody waits for a person here"


def test_every_kind_of_answer_is_told(server: Server) -> None:
    text = "\n".join(tour_of(server).lines())
    assert "HTTP 200: failed, exit code 2" in text
    assert "| no" in text
    assert "HTTP 200: succeeded, exit code 0" in text
    assert "| … and 4 more lines" in text
    assert "HTTP 202: pending" in text
    assert "approve or reject it here: http://localhost/approve/1" in text
    assert "HTTP 403: Denied" in text
    assert "why: sudo is blocked." in text
    assert "why: Nobody knows it." in text


def test_output_cannot_steer_the_terminal(server: Server) -> None:
    text = "\n".join(tour_of(server).lines())
    assert "\x1b" not in text
    assert r"one\x1b[2J" in text
    assert "\x1b[2J" not in "\n".join(tour_of(server, is_coloured=True).lines())


def test_colour_where_it_belongs(server: Server) -> None:
    assert "\x1b[32m" in "\n".join(tour_of(server, is_coloured=True).lines())


def test_an_answer_that_is_not_json(server: Server) -> None:
    broken = type(STOPS[0])("autonomous", "broken", "", "")
    with pytest.raises(TourError, match="no answer that could be read"):
        tour_of(server).ask(broken)


def test_nobody_there() -> None:
    with pytest.raises(TourError, match="no answer that could be read"):
        Tour("http://127.0.0.1:9", AGENTS, is_coloured=False).ask(STOPS[0])


def test_a_missing_key() -> None:
    with pytest.raises(TourError, match="no key for the autonomous agent"):
        Tour("http://127.0.0.1:9", {}, is_coloured=False).ask(STOPS[0])


def test_the_curl_line_is_one_shell_command() -> None:
    words = shlex.split(curl_line("http://localhost:8000", "ata_x"))
    assert words[:3] == ["curl", "-sS", "http://localhost:8000/api/local-agent/execute"]
    assert json.loads(words[-1]) == {"command": "ls /tmp", "wait_seconds": 20}
