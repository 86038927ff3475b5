"""The stages of the trail's fault run, inside a process with the product's settings.

`python -m faults.trail_inside '{"stage": …}'` prints one line of JSON: figures, and what does not hold.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

Found = dict[str, Any]
WRITERS = 8
#: What the disk has for the trail in the stage of the full disk.
ROOM_BYTES = 3 * 2**20
COMES_BACK_SECONDS = 120


def kills(kills: int, seed: int, **_asked: Any) -> Found:
    """Kill writers and sealers; what was acknowledged has to be there, once, in one line."""
    from faults.trail_processes import Pack

    with tempfile.TemporaryDirectory() as folder:
        pack = Pack(Path(folder), 3600, seed)
        pack.add(writers=4, sealers=2)
        try:
            while pack.killed.total() < kills:
                pack.kill()
        finally:
            pack.stop()
        acknowledged = pack.acknowledged()
    return {"kills": dict(pack.killed), **_settled(acknowledged)}


def writers(seconds: float, seed: int, **_asked: Any) -> Found:
    """Eight writers and two sealers at once: leaves equal commits, no fork, no gap."""
    from faults.trail_processes import Pack

    with tempfile.TemporaryDirectory() as folder:
        pack = Pack(Path(folder), seconds, seed)
        pack.add(writers=WRITERS, sealers=2)
        wrong = pack.end()
        acknowledged = pack.acknowledged()
        found: Found = {"seconds": seconds, "longest transaction in ms": round(pack.longest() * 1000)}
    found |= _settled(acknowledged)
    if found["leaves"] != found["acknowledged"]:
        wrong.append(f"{found['leaves']} leaves of {found['acknowledged']} commits")
    return {**found, "wrong": [*found["wrong"], *wrong]}


def server(room: str, start: Sequence[str] = (), log: str = "", **_asked: Any) -> Found:
    """Let the whole database server run out of room, its log of changes too: it stops itself, and has to come back."""
    if not start:
        return {"tried": "no: it takes root and initdb", "wrong": []}
    found = disk(room, start=start)
    stops = Path(log).read_text(errors="replace").count("PANIC")
    wrong = [] if stops else ["the server never stopped itself; its log of changes had room"]
    return {"the server stopped itself": stops, **found, "wrong": [*found["wrong"], *wrong]}


def disk(room: str, start: Sequence[str] = (), **_asked: Any) -> Found:
    """Write until the disk is full, go on for a while, make room, and write again.

    With `start`, a command, the server is started where it has ended, until it answers.
    """
    from django.db import DatabaseError, connection, transaction

    from audit.tags import Tag
    from audit.trail import SYSTEM, Event, record

    acknowledged: set[str] = set()

    def write() -> bool:
        try:
            with transaction.atomic():
                receipts = record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM, data={"padding": "x" * 2000}))
            acknowledged.update(receipt.uid for receipt in receipts if receipt)
        except DatabaseError:
            connection.close()
            return False
        return True

    free = _nearly_full(Path(room) if room else None)
    before = 0
    while write() and before < 100_000:
        before += 1
    refused = sum(not write() for _ in range(50))
    free()
    if start:
        until = time.monotonic() + COMES_BACK_SECONDS
        while not write() and time.monotonic() < until:
            subprocess.run(start, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.5)
    wrong = [] if refused else ["nothing was refused; the disk was not full"]
    again = sum(write() for _ in range(50))
    if again != 50:
        wrong.append(f"{50 - again} events were refused with room again")
    found = _settled(acknowledged)
    said = {"written until full": before, "refused": refused, "written with room again": again}
    return {**said, **found, "wrong": [*wrong, *found["wrong"]]}


def _nearly_full(room: Path | None) -> Callable[[], None]:
    """Leave little room, in a small file system or by a limit on this process. Returns what makes room again."""
    if room is None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * 2**20, hard))
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    filler = room / "filler"
    info = os.statvfs(room)
    size = max(0, info.f_bavail * info.f_frsize - ROOM_BYTES)
    with filler.open("wb") as stream:
        for _ in range(size // 2**16):
            stream.write(b"\0" * 2**16)
    return filler.unlink


def clock(seed: int, page: str, **_asked: Any) -> Found:
    """Let the clock jump between events and between seals: the order stays, and a step back is a warning."""
    import random

    from django.utils import timezone

    from audit.sealing import seal
    from audit.verifying import verify
    from faults.attacks import write
    from faults.clocks import Clock

    chance = random.Random(seed)  # noqa: S311 - to repeat it
    stepped = Clock(Path(page), Path(page)) if page else None
    jumps = 0
    for _ in range(40):
        write(3)
        if stepped:
            stepped.step(chance.randrange(-7200, 7200))
        jumps += 1
        seal(timezone.now())
    if stepped:
        stepped.step(0)
    seal(timezone.now())
    report = verify(_keys(), now=timezone.now())
    wrong = [] if report.verdict == "sound" else [str(finding) for finding in report.findings]
    return {"jumps": jumps, "by": "the time of day" if page else "nothing", "warnings": len(report.findings)} | {
        "verdict": str(report.verdict),
        "wrong": wrong,
    }


def attacks(**_asked: Any) -> Found:
    """Try every attack of a database administrator on a log of its own, with and without an anchor."""
    from django.utils import timezone

    from audit import verifying
    from faults.attacks import ATTACKS, do, emptied, small_log

    wrong, table = [], {}
    for name, attack in ATTACKS.items():
        emptied()
        published = small_log()
        do(attack.statements())
        without = verifying.verify(_keys(), now=timezone.now())
        with_anchor = verifying.verify(_keys(), now=timezone.now())
        verifying.anchored(with_anchor, "\n".join(published).splitlines(keepends=True), _keys())
        table[name] = [str(without.verdict), str(with_anchor.verdict)]
        if with_anchor.verdict != "tampered" or (without.verdict != "tampered") is not attack.needs_anchor:
            wrong.append(f"{name}: {table[name]}")
        if not any(attack.told in finding.what for finding in with_anchor.findings):
            wrong.append(f"{name}: told as {[finding.what for finding in with_anchor.findings]}")
    shown = sum(pair[0] == "tampered" for pair in table.values())
    return {"attacks": len(table), "shown without an anchor": shown, "verdicts": table, "wrong": wrong}


def flips(flips: int, seed: int, **_asked: Any) -> Found:
    """Flip a bit of one byte after another; each has to show."""
    from audit.verifying_log import Verification
    from faults.attacks import Flips, emptied, small_log, unguarded

    emptied()
    small_log()
    missed = []
    with unguarded():
        flipped = Flips(seed)
        for _ in range(flips):
            with flipped.flip() as where:
                if Verification(_keys()).run().verdict != "tampered":
                    missed.append(where)
        is_sound = Verification(_keys()).run().verdict == "sound"
    wrong = missed[:20] + ([] if is_sound else ["not sound once all was put back"])
    return {"flips": flips, "told": flips - len(missed), "wrong": wrong}


def _settled(acknowledged: set[str]) -> Found:
    """Seal what waits, verify all, and look for what was acknowledged."""
    from django.utils import timezone

    from audit.models import AuditCheckpoint, AuditEvent, AuditLeaf, AuditPending
    from audit.sealing import seal_all
    from audit.verifying import verify

    began = time.perf_counter()
    while seal_all(timezone.now() + timedelta(seconds=1)):
        pass
    known = {str(uid) for uid in AuditEvent.objects.values_list("uid", flat=True).iterator()}
    sealed = {str(uid) for uid in AuditLeaf.objects.values_list("event__uid", flat=True).iterator()}
    report = verify(_keys(), now=timezone.now())
    lost = acknowledged - known
    wrong = [f"lost: {uid}" for uid in sorted(lost)[:20]]
    if not acknowledged <= sealed:
        wrong.append(f"{len(acknowledged - sealed)} acknowledged events have no leaf")
    if report.verdict != "sound" or AuditPending.objects.exists():
        wrong += [f"{report.verdict}: {finding.what}" for finding in report.findings[:20]] or ["something waits"]
    return {
        "acknowledged": len(acknowledged),
        "lost": len(lost),
        "leaves": len(sealed),
        "checkpoints": AuditCheckpoint.objects.count(),
        "verdict": str(report.verdict),
        "settled and verified in s": round(time.perf_counter() - began, 1),
        "wrong": wrong,
    }


def _keys() -> Any:
    from audit.trail_keys import trail_keys

    return trail_keys().public


STAGES: dict[str, Callable[..., Found]] = {
    "kills": kills,
    "writers": writers,
    "disk": disk,
    "server": server,
    "clock": clock,
    "attacks": attacks,
    "flips": flips,
}


def main() -> None:
    """Run one stage and print what was found."""
    asked = json.loads(sys.argv[1])
    os.environ["DJANGO_SETTINGS_MODULE"] = "atomsite.settings"
    django.setup()
    from faults.attacks import emptied

    emptied()
    sys.stdout.write(json.dumps(STAGES[asked.pop("stage")](**asked)) + "\n")


if __name__ == "__main__":
    main()
