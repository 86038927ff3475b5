"""What the host adds to a command: from the answer that brings it to its result on the disk, over running it bare.

The host's own parts do the work, in a process of its own: its journal on the disk, the check of the server's signature,
a supervisor, the sandbox as the probe found it. Only the server is left out: what it would be told is taken at once.
"""

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final

from bench.figures import HostFigure
from governance.policy.plan import Plan
from shellagent import protocol
from shellagent.host import pipes
from shellagent.host.capture import Capture
from shellagent.host.cgroups import find
from shellagent.host.client import Client
from shellagent.host.loop import Loop
from shellagent.host.runlocalagent import build_loop
from shellagent.host.state import Enrolment, StateFolder
from shellagent.host.zygote import Zygote
from shellagent.signing import Signer, Start, new_private_key

COMMAND: Final = "/bin/true"
HOST_ID: Final = "1"
SAMPLES: Final = 200
WARM_UP: Final = 20
#: As large as what the journal writes before a session's start, and of its result.
BEGIN_BYTES: Final = 200
RESULT_BYTES: Final = 1000


class NoServer(Client):
    """A server that takes every result at once."""

    def another(self) -> "NoServer":
        return NoServer(self.url, self.credential)

    def record(self, request: protocol.RecordRequest) -> protocol.RecordAnswer:
        return protocol.RecordAnswer(protocol.VERSION, {one.id: "recorded" for one in request.records})


def measure(*, is_quick: bool = False) -> HostFigure:
    """Return the figures of some rounds, each in a process of its own."""
    rounds, samples = (1, 20) if is_quick else (3, SAMPLES)
    argv = [sys.executable, "-m", "bench.host", str(samples)]
    found = []
    for _ in range(rounds):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=True)
        found.append(json.loads(done.stdout))
    bare, disk, hosted = (tuple(one[name] for one in found) for name in ("bare_ms", "disk_ms", "hosted_ms"))
    return HostFigure(COMMAND, samples, bare, disk, hosted, tuple(found[0]["protections"]))


class _Bench:
    """A host without a server, and beside it a bare start, and what the disk takes for the writes of one session."""

    def __init__(self, loop: Loop, signer: Signer, folder: Path) -> None:
        self.loop = loop
        self.signer = signer
        self._file = (folder / "yardstick").open("wb", buffering=0)

    def disk(self) -> float:
        """Return the milliseconds of two writes, each on the disk before it returns."""
        begun = time.perf_counter()
        for size in (BEGIN_BYTES, RESULT_BYTES):
            self._file.write(b"x" * size)
            os.fdatasync(self._file.fileno())
        return (time.perf_counter() - begun) * 1000

    def hosted(self) -> float:
        """Return the milliseconds from a read answer to the result in the journal."""
        sessions, start_key = self.loop.sessions, str(uuid.uuid4())
        answer = self._answer(start_key)
        slots = sessions.slots.take(timeout_seconds=5)
        begun = time.perf_counter()
        sessions.begin(self.loop.client, answer, slots, start_key=start_key)
        while not sessions.is_idle():
            sessions.attend(5)
        return (time.perf_counter() - begun) * 1000

    @staticmethod
    def bare() -> float:
        """Return the milliseconds of starting the program, capturing both streams as the host does, and waiting."""
        begun = time.perf_counter()
        captures = {}
        with subprocess.Popen(
            [COMMAND], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as one:
            poll = select.poll()
            for name, stream in (("stdout", one.stdout), ("stderr", one.stderr)):
                if stream is not None:
                    captures[stream.fileno()] = Capture(name)
                    poll.register(stream, select.POLLIN)
            left = set(captures)
            while left:
                for descriptor, _event in poll.poll():
                    if not pipes.read(descriptor, captures[descriptor]):
                        poll.unregister(descriptor)
                        left.discard(descriptor)
        for capture in captures.values():
            capture.totals()
        return (time.perf_counter() - begun) * 1000

    def _answer(self, start_key: str) -> protocol.PollAnswer:
        plan = Plan.simple(COMMAND)
        digest = protocol.session_digest(
            plan=plan, working_directory="", host_id=HOST_ID, env={}, timeout_seconds=30, grants=(), obligations=()
        )
        wanted = protocol.Assignment(str(uuid.uuid4()), digest, plan.to_json(), "", {}, 30, (), (), ())
        signature = self.signer.granted(Start(wanted.id, start_key, digest, 40), host_id=HOST_ID)
        granted = protocol.GrantStatus.GRANTED
        grant = protocol.StartGrant(wanted.id, granted, 40, key=self.signer.public_key, signature=signature)
        return protocol.PollAnswer(
            protocol.VERSION, protocol.Desired.RUNNING, "ok", (), (wanted,), 20, HOST_ID, grants=(grant,)
        )


def _round(folder: Path, samples: int) -> dict[str, object]:
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    state, scratch, signer = StateFolder(folder / "state"), folder / "scratch", Signer(new_private_key())
    state.create()
    scratch.mkdir()
    groups = find(f"atom-bench-{os.getpid()}")
    zygote = Zygote.start(groups=groups)
    client = NoServer("http://127.0.0.1:9", "ath_bench")
    loop = build_loop(state, Enrolment(host_id=HOST_ID), client, zygote, scratch=scratch, concurrency=1, groups=groups)
    loop.sessions.pinned.pin(signer.public_key)
    loop.sessions.say = lambda _line: None
    try:
        bench = _Bench(loop, signer, folder)
        for _ in range(WARM_UP):
            bench.bare()
            bench.hosted()
        turns = [(bench.bare(), bench.disk(), bench.hosted()) for _ in range(samples)]
    finally:
        loop.close()
        zygote.close()
    medians = map(statistics.median, zip(*turns, strict=True))
    figures: dict[str, object] = dict(zip(("bare_ms", "disk_ms", "hosted_ms"), medians, strict=True))
    return {**figures, "protections": loop.sessions.settings.protections}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="atom-bench-host-") as made:
        sys.stdout.write(json.dumps(_round(Path(made), int(sys.argv[1]))))
