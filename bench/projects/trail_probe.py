"""The trail's own figures, in a process with the product's settings: `python -m bench.projects.trail_probe JSON`.

Asked for `append`, eight writers write one event a transaction while a sealer seals; asked for `fill`, the product's
own write path makes a long trail; asked for `look`, parts of it are verified again and again. Prints a line of JSON.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import django

WRITERS = 8
SAMPLES = 9


def append(seconds: float) -> dict[str, Any]:
    """Return events a second and the longest a transaction took, of writers that are processes."""
    from django.db import connections

    connections.close_all()
    stop, pipes = time.monotonic() + seconds, []
    for number in range(WRITERS + 1):
        read, write = os.pipe()
        if os.fork() == 0:
            found: list[float] = []
            _seal(stop) if number == WRITERS else _write(stop, found.append)
            with os.fdopen(write, "w") as stream:
                json.dump([round(one, 5) for one in found], stream)
            os._exit(0)
        os.close(write)
        pipes.append(read)
    taken: list[float] = []
    for read in pipes:
        with os.fdopen(read) as stream:
            taken += json.load(stream)
        os.wait()
    return {"rate": len(taken) / seconds, "longest_ms": max(taken) * 1000, "seconds": seconds}


def _write(stop: float, took: Callable[[float], None]) -> None:
    from django.db import connection, transaction

    from audit.tags import Tag
    from audit.trail import SYSTEM, Event, record

    while (began := time.monotonic()) < stop:
        with transaction.atomic():
            record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM, data={"number": 1}))
        took(time.monotonic() - began)
    connection.close()


def _seal(stop: float) -> None:
    from django.db import connection
    from django.utils import timezone

    from audit.sealing import seal

    while time.monotonic() < stop:
        seal(timezone.now())
        time.sleep(0.5)
    connection.close()


def fill(events: int) -> dict[str, Any]:
    """Write a long trail. Returns how long that took."""
    from bench.projects.trail_fill import fill as filled

    return {"seconds": filled(events)}


def look() -> dict[str, Any]:
    """Return how long the newest checkpoint, a minute's look and one entry take, in ms."""
    from django.utils import timezone

    from audit import verifying
    from audit.models import AuditEvent
    from audit.trail_keys import trail_keys
    from audit.verdicts import verdict_update
    from bench.projects.trail_fill import fill as filled

    keys, uids = trail_keys().public, []
    highest = AuditEvent.objects.order_by("-id").values_list("id", flat=True)[0]
    for part in range(SAMPLES):
        at = highest * part // SAMPLES
        uids.append(AuditEvent.objects.filter(id__gt=at).order_by("id").values_list("uid", flat=True)[0])
    entries = [_ms(partial(_entry, keys, uid)) for uid in uids]
    last = [_ms(lambda: _sound(verifying.verify_last(keys))) for _ in range(SAMPLES)]
    # The first look begins a walk; so that none is in what is measured, all of it is walked over before.
    while verdict_update(timezone.now()).whole_at is None:
        pass
    filled(1000)
    newest = [_ms(lambda: verdict_update(timezone.now()))]
    return {
        "entry_ms": statistics.median(entries),
        "last_ms": statistics.median(last),
        "look_ms": statistics.median(newest),
    }


def _entry(keys: Any, uid: Any) -> None:
    from audit.verifying import verify_entry

    _sound(verify_entry(keys, uid))


def _sound(report: Any) -> None:
    if report.verdict != "sound":
        raise SystemExit(f"{report.verdict}: {report.findings[:3]}")


def _ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Do what is asked for."""
    asked = json.loads(sys.argv[1])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "atomsite.settings")
    django.setup()
    what: dict[str, Callable[..., dict[str, Any]]] = {"append": append, "fill": fill, "look": look}
    print(json.dumps(what[asked.pop("ask")](**asked)), flush=True)


if __name__ == "__main__":
    main()
