"""The proxy lets pass, loses and cuts what it says it does; the clock is stepped for one program only."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests

from bench.workspace import free_port
from faults import proxy
from faults.clocks import Clock, build
from faults.proxy import Fate, Proxies


class Server(BaseHTTPRequestHandler):
    """Answers every POST with what it was sent, and counts."""

    protocol_version = "HTTP/1.1"
    seen = 0

    def do_POST(self) -> None:
        Server.seen += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Say nothing."""


class Quiet(HTTPServer):
    """Resets are what is tried here."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


@pytest.fixture
def target() -> Iterator[int]:
    server = Quiet(("127.0.0.1", 0), Server)
    Server.seen = 0
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxies(target: int) -> Iterator[Proxies]:
    """Proxies that are closed before the server is."""
    made = Proxies()
    yield made
    made.close()


def post(port: int) -> bytes:
    return requests.post(f"http://127.0.0.1:{port}/", data=b"x" * 500, timeout=5).content


def test_all_passes_while_it_is_calm(proxies: Proxies, target: int) -> None:
    made = proxies.add("one", free_port(), target, "seed")
    proxies.calm()
    with requests.Session() as session:
        for _ in range(5):
            assert session.post(f"http://127.0.0.1:{made.port}/", data=b"x" * 500, timeout=5).content == b"x" * 500
    assert not proxies.counts


@pytest.mark.parametrize(("fate", "reaches"), [(Fate.RESET, 0), (Fate.LOSE, 1), (Fate.CUT, 1)])
def test_what_goes_wrong(
    proxies: Proxies, target: int, monkeypatch: pytest.MonkeyPatch, fate: Fate, reaches: int
) -> None:
    monkeypatch.setattr(proxy, "WEIGHTS", {fate: 1000})
    made = proxies.add("one", free_port(), target, "seed")
    with pytest.raises(requests.RequestException):
        post(made.port)
    assert (Server.seen, proxies.counts) == (reaches, {fate: 1})


def test_cut_off_breaks_what_is_open_and_lets_nothing_in(proxies: Proxies, target: int) -> None:
    made = proxies.add("one", free_port(), target, "seed")
    made.is_calm = True
    with socket.create_connection(("127.0.0.1", made.port), timeout=5) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        with connection.makefile("rb") as answer:
            while not answer.readline().startswith(b"\r\n"):
                pass
            assert answer.read(1) == b"x"
        proxies.cut_off("one", 60)
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with pytest.raises(requests.RequestException):
        post(made.port)
    proxies.calm()
    assert post(made.port)


def test_a_clock_is_stepped_for_one_program_only(tmp_path: Path) -> None:
    library = build(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler")
    clock = Clock(tmp_path / "clock", library)
    clock.step(3600)
    # A sleep and a wait with a deadline take as long as ever.
    code = (
        "import datetime, multiprocessing, time; time.sleep(0);"
        "print(time.time(), datetime.datetime.now().timestamp());"
        "began = time.monotonic(); multiprocessing.Event().wait(0.01); assert time.monotonic() - began < 60"
    )
    shown = subprocess.check_output(
        [sys.executable, "-c", code], env={**os.environ, **clock.environment()}, text=True, timeout=60
    )
    for value in map(float, shown.split()):
        assert 3590 < value - time.time() < 3610
