"""Publishing checkpoints outside the database, where whoever can write the database cannot take them back.

A sink is `file:/path`, an `https://` or `http://` address, or `syslog:` (this machine's) or `syslog:host:port` (UDP).
A file gets every checkpoint, one signed note after another; the others get the newest whenever there is a new one.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from audit.models import AuditAnchor, AuditCheckpoint

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS: Final = 5
#: As many checkpoints are read at a time when a sink was away for long.
_BATCH: Final = 500


class SinkError(ValueError):
    """The name of a sink is not one that is known."""


def sinks() -> Sequence[str]:
    """Return the names of the sinks that are configured."""
    return [name for name in settings.ATOM_AUDIT_ANCHORS.split() if name != "none"]


def sink_problem(name: str) -> str:
    """Return why a name is not one of a sink, or an empty text where it is."""
    try:
        _sender(name)
    except SinkError as error:
        return str(error)
    return ""


def anchors_publish(now: datetime) -> dict[str, str]:
    """Publish what each sink has not got yet. Returns what went wrong, by sink; those are tried again next time."""
    failed = {}
    for sink in sinks():
        try:
            _publish(sink, now)
        except (OSError, SinkError) as error:  # those of `requests` are OSErrors
            failed[sink] = str(error)
            logger.error("a checkpoint could not be published at %s: %s", sink, error)
    return failed


def _publish(sink: str, now: datetime) -> None:
    send = _sender(sink)
    done = AuditAnchor.objects.filter(sink=sink).aggregate(newest=Max("checkpoint_id"))["newest"] or 0
    new = AuditCheckpoint.objects.filter(number__gt=done)
    if sink.startswith("file:"):
        while batch := list(new.filter(number__gt=done).order_by("number")[:_BATCH]):
            send([row.note for row in batch])
            done = batch[-1].number
            _keep(sink, done, now)
    elif (newest := new.order_by("-number").first()) is not None:
        send([newest.note])
        _keep(sink, newest.number, now)


def _keep(sink: str, number: int, now: datetime) -> None:
    with transaction.atomic():
        AuditAnchor.objects.create(checkpoint_id=number, sink=sink, anchored_at=now)


def _sender(sink: str) -> Callable[[Sequence[str]], None]:
    kind, _, rest = sink.partition(":")
    if kind == "file" and rest.startswith("/"):
        return lambda notes: _append(Path(rest), notes)
    if kind in ("http", "https") and rest.startswith("//"):
        return lambda notes: _post(sink, notes[-1])
    if kind == "syslog" and (not rest or rest.rpartition(":")[2].isdecimal()):
        return lambda notes: _log(rest, notes[-1])
    raise SinkError(
        f"{sink.partition('?')[0]!r} is no sink: give file:/path, https://… or syslog:, or syslog:host:port."
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
        stream.write(content.encode())
        os.fsync(descriptor)


def _post(address: str, note: str) -> None:
    import requests  # noqa: PLC0415 - 8 MiB of a web process, and few have such a sink

    answer = requests.post(
        address,
        data=note.encode(),
        headers={"Content-Type": "text/plain; charset=utf-8"},
        timeout=_TIMEOUT_SECONDS,
        allow_redirects=False,
    )
    if not answer.ok or answer.is_redirect:
        raise requests.HTTPError(f"it answered {answer.status_code}")


class _Syslog(SysLogHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        raise OSError("syslog did not take it")


def _log(place: str, note: str) -> None:
    host, _, port = place.rpartition(":")
    address = (host, int(port)) if place else "/dev/log"
    handler = _Syslog(address, SysLogHandler.LOG_AUTHPRIV)
    try:
        line = "atom-audit: " + note.strip().replace("\n\n", "\n").replace("\n", " | ")
        handler.emit(logging.LogRecord("audit", logging.INFO, __file__, 0, line, None, None))
    finally:
        handler.close()
