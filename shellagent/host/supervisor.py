"""A supervisor: a process of one thread that runs one session after another and adopts whatever they leave.

It gets its settings first, then for each session `prepare`, and `run` or `drop`; while one runs, orders to abort it.
Each of these, and each message of its own, says of which session it is.
When the local agent is gone, the connection ends, and so does everything here.
"""

import dataclasses
import logging
import os
import shutil
import socket
from pathlib import Path
from typing import Any, NoReturn

from shellagent import protocol
from shellagent.host import cgroups, scripts, tree
from shellagent.host.channel import Channel, ClosedError, Message
from shellagent.host.errors import RefusedError
from shellagent.host.family import Family
from shellagent.host.journal import Entry, report_without_run
from shellagent.host.run import Run
from shellagent.host.runner import Prepared, Runner
from shellagent.host.settings import Settings
from shellagent.protocol import Assignment, Reason, RunOutcome

logger = logging.getLogger(__name__)


def supervise(connection: socket.socket) -> NoReturn:
    """Serve one connection to its end, and end this process."""
    code = 1
    try:
        tree.offer_to_oom_killer()
        tree.adopt_orphans()
        channel = Channel(connection)
        settings = protocol.decode(Settings, channel.receive())
        settings.limits.hold_from_birth()
        Supervision.of(channel, _bounded(settings)).serve()
    except ClosedError:
        code = 0
    except BaseException:
        logger.exception("A supervisor met an error of its own")
    finally:
        Family(frozenset()).sweep()
        os._exit(code)


class Supervision:
    """What a supervisor does. It is the overseer of its runs: their orders come over its channel."""

    def __init__(self, channel: Channel, runner: Runner, temporary: Path) -> None:
        self.channel = channel
        self.runner = runner
        self.temporary = temporary
        self._id = ""
        self._generation = 0
        self._family = Family(frozenset())

    @classmethod
    def of(cls, channel: Channel, settings: Settings) -> "Supervision":
        """Make one from what `settings` gave."""
        runner = Runner(
            host_id="",
            scratch=settings.scratch,
            user=settings.user,
            sandbox=settings.sandbox(),
            protected=settings.protected,
            home=settings.home,
            path=settings.path,
            grace_seconds=settings.grace_seconds,
            roots=settings.roots,
            limits=settings.limits,
        )
        return cls(channel, runner, Path(settings.temporary))

    def serve(self) -> NoReturn:
        """Run one session after another. Raises ClosedError at the end."""
        while True:
            message = self.channel.receive()
            if "prepare" in message:
                self._session(message)

    def _session(self, message: Message) -> None:
        self._id = message["prepare"]["id"]
        try:
            assignment = protocol.decode(Assignment, message["prepare"])
            self.runner.host_id = message["host_id"]
            scripts.check(assignment.scripts)
            prepared = self.runner.prepare(assignment, self.temporary, message.get("secrets", {}))
        except (RefusedError, OSError, ValueError) as error:
            reason = error.reason if isinstance(error, RefusedError) else Reason.HOST_CEILING
            self._say(refused=reason, detail=str(error))
            return
        if message.get("answer"):
            self._say(ready=True)
        try:
            # An order for the session before may still come.
            while self._id not in (message.get("run"), message.get("drop")):
                message = self.channel.receive()
        except ClosedError:
            prepared.close()
            raise
        if "run" in message:
            self._run(prepared, message["start_key"])
        else:
            prepared.close()

    def _say(self, **message: object) -> None:
        self.channel.send({"id": self._id, **message})

    def _run(self, prepared: Prepared, start_key: str) -> None:
        try:
            # Again, as late as it can be: whoever could write a script had until now.
            scripts.check(prepared.assignment.scripts)
            run = Run(self.runner, prepared, start_key, overseer=self, family=self._family)
            if self.channel.has_waiting:
                # What came together with the order to run is read already: no descriptor tells of it.
                self.obey(run)
            report = run.finish()
        except ClosedError:
            raise
        except RefusedError as error:
            prepared.close()
            left: tuple[int, ...] = ()
            assignment = prepared.assignment
            entry = Entry(assignment.id, start_key, assignment.digest)
            outcome, reason = RunOutcome.REFUSED, Reason(error.reason)
            report = report_without_run(entry, outcome=outcome, reason=reason, detail=str(error))
            self._say(report=protocol.encode(report))
        except Exception as error:
            logger.exception("The run of %s met an error of the local agent's own", prepared.assignment.id)
            left = self._family.sweep().left_behind
            self._say(failed=type(error).__name__, left_behind=left)
        else:
            left = report.left_behind
            self._say(report=protocol.encode(report))
        self._clean(may_be_in_use=bool(left))

    def _clean(self, *, may_be_in_use: bool) -> None:
        """Empty the temporary folder. Where that fails, or something may use it, the next session gets another one."""
        if not may_be_in_use and _empty(self.temporary):
            return
        self._generation += 1
        base = self.temporary.name.partition(".")[0]
        self.temporary = self.temporary.with_name(f"{base}.{self._generation}")
        self.temporary.mkdir(mode=0o700, parents=True, exist_ok=True)

    # What a run says to its overseer

    def fileno(self) -> int:
        """Return the channel's descriptor."""
        return self.channel.fileno()

    def obey(self, run: Run) -> None:
        """Pass orders on. Raises ClosedError where there is nobody left to give any."""
        for message in self.channel.take():
            if message.get("abort") == run.id:
                run.abort(Reason(message["reason"]), float(message["grace_seconds"]))

    def started(self, pid: int) -> None:
        """Tell the process of a run that takes its time."""
        self._say(started=[pid, tree.create_time(pid)])

    def output(self, stream: str, offset: int, data: bytes) -> None:
        """Tell output while it comes."""
        segment: dict[str, Any] = protocol.encode(protocol.OutputSegment.of(stream, offset, data))
        self._say(output=segment)


def _bounded(settings: Settings) -> Settings:
    """Enter the slot's cgroup. Where that fails, what is said to protect a session does not name it."""
    if not settings.cgroup or cgroups.enter(settings.cgroup):
        return settings
    left = tuple(name for name in settings.protections if name != cgroups.PROTECTION)
    return dataclasses.replace(settings, protections=left)


def _empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
    except OSError as error:
        logger.warning("The temporary folder %s could not be emptied: %s", folder, error)
        return False
    return True
