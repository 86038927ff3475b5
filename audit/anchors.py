"""Publishing checkpoints outside the database, where whoever can write the database cannot take them back.

A sink is `file:/path`, an `https://` or `http://` address, or `syslog:` (this machine's), `syslog:/socket` or
`syslog:host:port` (UDP).
Each gets every checkpoint, in their order, as one signed note after another; what a sink missed while it was away comes
with the next.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from audit.models import AuditAnchor, AuditCheckpoint, AuditSink

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS: Final = 5
#: As many checkpoints are read at a time when a sink was away for long.
_BATCH: Final = 500
#: As long may a sink's name be, beside which it is kept what it has got.
_LONGEST: Final = 200
#: A failure that goes on is written again after so long.
_REMEMBERED_FOR: Final = timedelta(minutes=1)


class SinkError(ValueError):
    """The name of a sink is not one that is known."""


def sinks() -> Sequence[str]:
    """Return the names of the sinks that are configured."""
    return [name for name in settings.ATOM_AUDIT_ANCHORS.split() if name != "none"]


def sink_file(name: str) -> Path | None:
    """Return the file that a sink appends to, or None for another kind of sink."""
    kind, _, rest = name.partition(":")
    return Path(unquote(rest)) if kind == "file" and rest.startswith("/") else None


def sink_problem(name: str) -> str:
    """Return why a name is not one of a sink, or an empty text where it is."""
    try:
        _sender(name)
    except SinkError as error:
        return str(error)
    return ""


def sink_label(name: str) -> str:
    """Return a sink's name without what may be secret: the user of an address, and what follows a question mark."""
    kind, separator, rest = name.partition("?")[0].partition("//")
    return f"{kind}{separator}{rest.rpartition('@')[2]}" if kind in ("http:", "https:") else name


def anchors_publish(now: datetime) -> dict[str, str]:
    """Publish what each sink has not got yet. Returns what went wrong, by sink; those are tried again next time."""
    failed = {}
    # Files first: what is away or slow keeps nothing from them.
    for sink in sorted(sinks(), key=lambda name: not name.startswith("file:")):
        reason = ""
        try:
            _publish(sink, now)
        # Those of `requests` are OSErrors; a host's name that none can have is a ValueError of several libraries.
        except (OSError, ValueError) as error:
            failed[sink] = reason = _reason(error)
            logger.error("a checkpoint could not be published at %s: %s", sink_label(sink), reason)
        _remember(sink_label(sink), reason, now)
    return failed


def _reason(error: Exception) -> str:
    """Return what went wrong. An error of `requests` quotes the address, which may hold a secret: its kind is told."""
    if isinstance(error, SinkError | TimeoutError) or type(error) is OSError:
        return str(error)
    return getattr(error, "strerror", None) or f"it cannot be reached ({type(error).__name__})"


def _publish(sink: str, now: datetime) -> None:
    send = _sender(sink)
    done = AuditAnchor.objects.filter(sink=sink).aggregate(newest=Max("checkpoint_id"))["newest"] or 0
    while batch := list(AuditCheckpoint.objects.filter(number__gt=done).order_by("number")[:_BATCH]):
        send([row.note for row in batch])
        done = batch[-1].number
        with transaction.atomic():
            AuditAnchor.objects.create(checkpoint_id=done, sink=sink, anchored_at=now)


def _remember(label: str, reason: str, now: datetime) -> None:
    """Keep since when a sink fails and why, or that it does not. Writes where that is new, or a minute old."""
    known = AuditSink.objects.filter(name=label[:200]).first()
    if known is None and not reason:
        return
    row = known or AuditSink(name=label[:200])
    is_old = row.failed_at is None or now - row.failed_at > _REMEMBERED_FOR
    if (row.error, bool(row.failing_since)) == (reason[:300], bool(reason)) and not (reason and is_old):
        return
    row.error, row.failed_at = reason[:300], now if reason else row.failed_at
    row.failing_since = (row.failing_since or now) if reason else None
    with transaction.atomic():
        row.save()


def _sender(sink: str) -> Callable[[Sequence[str]], None]:
    if len(sink) > _LONGEST:
        raise SinkError(f"{sink_label(sink)[:80]!r}… is too long: a sink's name has {_LONGEST} characters at most.")
    kind, _, rest = sink.partition(":")
    if path := sink_file(sink):
        return lambda notes: _append(path, notes)
    if kind in ("http", "https") and rest.startswith("//"):
        return lambda notes: _post(sink, notes)
    if kind == "syslog" and (not rest or rest.startswith("/") or rest.rpartition(":")[2].isdecimal()):
        return lambda notes: _log(rest, notes)
    raise SinkError(
        f"{sink_label(sink)!r} is no sink: give file:/path, https://…, or syslog: with nothing, /socket or host:port."
    )


def _append(path: Path, notes: Sequence[str]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as stream:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        # What a crash cut short is closed, so that the next note begins on a line of its own.
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        content = ("\n\n" if is_cut else "") + "".join(f"{note}\n" for note in notes)
        left = memoryview(content.encode())
        try:
            while left:  # a disk that is nearly full takes a part, and has its error for the rest
                left = left[stream.write(left) :]
        except OSError:
            with suppress(OSError):  # a file that can only be appended to keeps the part
                stream.truncate(size)
            raise
        os.fsync(descriptor)


def _post(address: str, notes: Sequence[str]) -> None:
    import requests  # noqa: PLC0415 - 8 MiB of a web process, and few have such a sink

    # The body is that of a file's sink: who appends what comes has a file for `auditverify --anchor`.
    with requests.post(
        address,
        data="".join(f"{note}\n" for note in notes).encode(),
        headers={"Content-Type": "text/plain; charset=utf-8"},
        timeout=_TIMEOUT_SECONDS,
        allow_redirects=False,
        stream=True,  # what it answers is not read
    ) as answer:
        if not answer.ok or answer.is_redirect:
            raise OSError(f"it answered {answer.status_code}")


class _Syslog(SysLogHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        raise OSError("syslog did not take it")


def _log(place: str, notes: Sequence[str]) -> None:
    host, _, port = place.rpartition(":")
    address = (host, int(port)) if port.isdecimal() else place or "/dev/log"
    handler = _Syslog(address, SysLogHandler.LOG_AUTHPRIV)
    try:
        for note in notes:
            line = "atom-audit: " + note.strip().replace("\n\n", "\n").replace("\n", " | ")
            handler.emit(logging.LogRecord("audit", logging.INFO, __file__, 0, line, None, None))
    finally:
        handler.close()
