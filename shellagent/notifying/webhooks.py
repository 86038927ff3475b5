"""Sending a signed webhook (https://www.standardwebhooks.com): one POST to a checked address, with a deadline."""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from shellagent.notifying.addresses import Address, AddressError, address_read, resolved
from shellagent.notifying.parcels import ATTEMPT_SECONDS, CONNECT_SECONDS, Delivery, Parcel

_GONE: Final = 410
_WAIT_MAX_SECONDS: Final = 3600


def webhook_send(parcel: Parcel, *, deadline_seconds: float = ATTEMPT_SECONDS) -> Delivery:
    """Sign and send. What goes wrong is told in the answer; it raises nothing."""
    try:
        address = address_read(parcel.address)
        headers = signed(parcel, datetime.now(UTC))
    except ValueError as error:
        return Delivery(is_delivered=False, detail=str(error))
    return _post(address, parcel.body.encode(), headers, deadline_seconds)


def signed(parcel: Parcel, now: datetime) -> dict[str, str]:
    """Return the headers of Standard Webhooks; after a rotation the old secret signs too, each in its signature."""
    signatures = [Webhook(secret).sign(parcel.name, now, parcel.body) for secret in parcel.secrets]
    return {
        "webhook-id": parcel.name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked. TLS is for the name, so that a certificate has to be the name's."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.host, address.port, timeout=CONNECT_SECONDS)
        self.address = address

    def connect(self) -> None:
        place = resolved(self.address.host, self.address.port, self.address.scheme)
        self.sock = socket.create_connection((place, self.address.port), CONNECT_SECONDS)
        if self.address.scheme == "https":
            # Assigned before the handshake, so that the deadline can end that too.
            self.sock = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self.address.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()

    def break_off(self) -> None:
        """End whatever waits on this connection, from another thread."""
        with suppress(OSError, AttributeError, ValueError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _post(address: Address, body: bytes, headers: Mapping[str, str], deadline_seconds: float) -> Delivery:
    connection = _Connection(address)
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        connection.break_off()

    watch = threading.Timer(deadline_seconds, end)
    watch.daemon = True
    watch.start()
    try:
        connection.connect()
        # Each read may take as long; the watch ends an answer that comes a byte at a time.
        connection.sock.settimeout(deadline_seconds)
        connection.request("POST", address.target, body, {**_OURS, "Host": address.authority, **headers})
        answer = connection.getresponse()
        if is_late.is_set():
            # What was cut off looks like an answer whose headers have ended.
            return Delivery(is_delivered=False, detail=f"It did not answer within {deadline_seconds:g} s.")
        return _judged(answer.status, answer.headers.get("Retry-After", ""))
    except AddressError as error:
        return Delivery(is_delivered=False, detail=str(error))
    except (OSError, http.client.HTTPException) as error:
        if is_late.is_set() or isinstance(error, TimeoutError):
            return Delivery(is_delivered=False, detail=f"It did not answer within {deadline_seconds:g} s.")
        return Delivery(is_delivered=False, detail=_reason(error))
    finally:
        watch.cancel()
        connection.close()


_OURS: Final = {"User-Agent": "atom-local-agent", "Content-Type": "application/json", "Connection": "close"}


def _judged(status: int, retry_after: str) -> Delivery:
    if 200 <= status < 300:
        return Delivery(is_delivered=True, detail=f"It answered {status}.", status=status)
    seconds = min(int(retry_after), _WAIT_MAX_SECONDS) if retry_after.isdecimal() and len(retry_after) < 9 else 0
    detail = f"It answered {status}."
    if 300 <= status < 400:
        detail = f"It answered {status}: a redirect, which is not followed."
    elif status == _GONE:
        detail = f"It answered {status}: it wants no more of this."
    return Delivery(
        is_delivered=False, detail=detail, status=status, retry_after_seconds=seconds, is_final=status == _GONE
    )


def _reason(error: Exception) -> str:
    """Return what went wrong without the address, whose path may be a secret."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"Its certificate is not good: {error.verify_message}."
    if isinstance(error, socket.gaierror):
        return "Nobody knows the name of its machine."
    if isinstance(error, OSError) and error.strerror:
        return f"It cannot be reached: {error.strerror}."
    return f"It did not answer as a web server does ({type(error).__name__})."
