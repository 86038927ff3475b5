"""Receivers of messages that are real: an HTTP server that answers as it is told, and a mail server."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class Webhooks:
    """An HTTP server at 127.0.0.1. `answer` is the status that it gives; a status of 0 hangs, 1 drips."""

    answer: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    took: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    url: str = ""
    gate: threading.Event = field(default_factory=threading.Event)


@contextmanager
def webhooks() -> Iterator[Webhooks]:
    """Serve until the end of the block."""
    state = Webhooks()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            state.took.append((self.path, dict(self.headers.items()), body))
            if state.answer == 0:
                state.gate.wait(10)
                return
            if state.answer == 1:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not state.gate.wait(0.02):
                    try:
                        self.wfile.write(b"X")
                    except OSError:
                        return
                return
            self.send_response(state.answer)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            state.took.append((self.path, {}, "GET"))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Mailbox:
    """What a mail server took. `refusal` is what it answers to a recipient in place of taking it."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refusal = ""
        self.port = 0

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, server: Any, session: Any, envelope: Any, address: str, rcpt_options: list[str]
    ) -> str:
        """Take a recipient, or refuse."""
        if self.refusal:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Take a mail."""
        self.mails.append(envelope)
        return "250 taken"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Take mail at 127.0.0.1 until the end of the block."""
    box = Mailbox()
    box.port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
