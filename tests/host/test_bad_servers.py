"""The whole process against servers that are none: each a clear message, an exit code of its own, and no run."""

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shellagent.host.state import StateFolder
from tests.host.server import StubServer
from tests.host.test_commands import Command, command, enrolled, env

pytestmark = pytest.mark.e2e

__all__ = ["command", "enrolled", "env"]


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (200, b"<html>", 69, "shape of the protocol"),
        (200, {"v": 1, "sessions": "all"}, 69, "shape of the protocol"),
        (302, {}, 69, "Is the URL right?"),
        (426, {"title": "Upgrade required", "detail": "This server speaks version 2."}, 76, "Install the server's"),
        (200, b" " * (33 * 1024 * 1024), 69, "larger than 32 MiB"),
    ],
    ids=["no-json", "malformed", "redirect", "version", "huge"],
)
def test_an_answer_that_is_none(  # noqa: PLR0917 - parameters and fixtures are passed by name
    enrolled: StateFolder, server: StubServer, command: Command, status: int, body: object, code: int, said: str
) -> None:
    assert enrolled.key_file.exists()
    server.bend("/api/host/poll", *[lambda _: (status, body)] * 3)
    done = command("runlocalagent", "--once")
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr
    assert server.started == {}


class _Answers(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
        """Say nothing."""


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[str]:
    """The address of a TLS server whose certificate nobody signed but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "elsewhere.example")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
    file = tmp_path / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"https://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def test_a_certificate_that_nobody_vouches_for(enrolled: StateFolder, command: Command, self_signed: str) -> None:
    assert enrolled.key_file.exists()
    done = command("runlocalagent", "--once", "--backend-url", self_signed)
    assert (done.returncode, "is not trusted" in done.stderr, "Traceback" in done.stderr) == (69, True, False)
    done = command("localagent", "doctor", "--backend-url", self_signed)
    assert (done.returncode, "fail  tls" in done.stdout) == (1, True)
