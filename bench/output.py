"""What capturing costs: 200 MB through a pipe, read plainly, read and digested, and read as the product keeps it.

Plainly means a pipe as the kernel makes it, read 64 KiB at a time, and what is read thrown away. Each pass is a process
of its own, so that its peak memory is its own. `yes` is as fast as a pipe goes; `seq` makes what it prints, as most
programs do.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from typing import Final

from bench.figures import OutputFigure
from shellagent.host import pipes
from shellagent.host.capture import Capture

MEGABYTES: Final = 200
PRINTERS: Final = {
    "yes": ("yes", "a line of text that a build might print"),
    "seq": ("seq", "1000000000", "9999999999"),
}
WAYS: Final = ("plain", "digested", "kept")


def measure(*, is_quick: bool = False) -> list[OutputFigure]:
    """Return a figure for each program that prints."""
    rounds, megabytes = (1, MEGABYTES // 10) if is_quick else (3, MEGABYTES)
    found = []
    for printer in PRINTERS:
        passes = [{way: _apart(printer, way, megabytes) for way in WAYS} for _ in range(rounds)]
        rates = {way: tuple(one[way][0] for one in passes) for way in WAYS}
        grown = max(one["kept"][1] - one["plain"][1] for one in passes)
        found.append(OutputFigure(printer, megabytes, rates["plain"], rates["digested"], rates["kept"], grown / 1024))
    return found


def _apart(printer: str, way: str, megabytes: int) -> tuple[float, int]:
    """Return megabytes a second and the peak memory in KiB of a pass in a process of its own."""
    argv = [sys.executable, "-m", "bench.output", printer, way, str(megabytes)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    rate, peak = json.loads(done.stdout)
    return float(rate), int(peak)


def _pass(printer: str, way: str, megabytes: int) -> tuple[float, int]:
    capture, digest, wanted = Capture("stdout"), hashlib.sha256(), megabytes * 1_000_000
    read_end, write_end = os.pipe()
    with subprocess.Popen(PRINTERS[printer], stdout=write_end) as process:
        os.close(write_end)
        os.read(read_end, 1)
        begun, taken = time.perf_counter(), 0
        if way == "kept":
            while capture.total < wanted:
                pipes.read(read_end, capture)
            capture.totals()
        else:
            while taken < wanted:
                data = os.read(read_end, pipes.READ_BYTES)
                if way == "digested":
                    digest.update(data)
                taken += len(data)
        seconds = time.perf_counter() - begun
        process.kill()
    os.close(read_end)
    return megabytes / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_pass(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
