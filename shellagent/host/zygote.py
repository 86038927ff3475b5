"""The zygote: a process of one thread, made before there is any other thread, from which supervisors are forked.

A process with threads cannot be forked soundly, and a new interpreter takes long to start; a fork of this one takes
little and shares its memory. The zygote also adopts what a supervisor that died has left, and ends it.
"""

import contextlib
import gc
import logging
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from shellagent import protocol
from shellagent.host import tree
from shellagent.host.cgroups import Cgroups
from shellagent.host.channel import Channel, ClosedError, Message
from shellagent.host.family import Family
from shellagent.host.runner import shipped_protection
from shellagent.host.settings import Settings
from shellagent.host.supervisor import supervise

logger = logging.getLogger(__name__)

#: What is asked for, and for which supervisor. A request to make one carries the supervisor's end of its connection.
REQUEST: Final = struct.Struct("!cI")
MAKE, BURY = b"m", b"b"
#: Zygote and supervisors that take longer to answer hang.
ANSWER_SECONDS: Final = 30
#: How long supervisors may take to end what they run once the local agent is gone.
END_SECONDS: Final = 10.0


@dataclass(slots=True, eq=False)
class Supervisor:
    """The local agent's side of one supervisor."""

    pid: int
    channel: Channel


@dataclass(frozen=True, slots=True)
class Burial:
    """How a supervisor ended (negative: by this signal), and what of its session could not be ended."""

    code: int
    left_behind: tuple[int, ...]

    def cause(self) -> str:
        """Say it in words."""
        if self.code >= 0:
            return f"ended with code {self.code}"
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-self.code).name}"
        return f"was ended by signal {-self.code}"


@dataclass(eq=False)
class Zygote:
    """The local agent's side. Supervisors and the zygote end when this process does, however it does."""

    pid: int
    channel: Channel
    _asking: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @classmethod
    def start(cls, *, kept: Iterable[int] = (), groups: Cgroups | None = None) -> "Zygote":
        """Fork it; this process may have no other thread yet. `kept` are descriptors for it to hold while it lives.

        `groups` are those of the slots. It removes them at its end, which the local agent may not see.
        """
        shipped_protection()
        ours, its = socket.socketpair()
        gc.collect()
        gc.freeze()
        pid = os.fork()
        if not pid:
            _serve(its, kept, groups)
        gc.unfreeze()
        its.close()
        channel = Channel(ours)
        channel.limit(ANSWER_SECONDS)
        return cls(pid, channel)

    def supervisor(self, settings: Settings) -> Supervisor:
        """Make a supervisor. Raises ClosedError where the zygote is gone."""
        ours, its = socket.socketpair()
        try:
            with its:
                pid = self._ask(MAKE, 0, its.fileno())["pid"]
            channel = Channel(ours)
            channel.limit(ANSWER_SECONDS)
            channel.send(protocol.encode(settings))
        except ClosedError:
            ours.close()
            raise
        return Supervisor(pid, channel)

    def bury(self, supervisor: Supervisor) -> Burial:
        """End a supervisor, and what it left. Raises ClosedError where the zygote is gone."""
        answer = self._ask(BURY, supervisor.pid)
        supervisor.channel.close()
        return Burial(answer["code"], tuple(answer["left_behind"]))

    def close(self) -> None:
        """End it and wait for its end. The supervisors' connections have to be closed before."""
        self.channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _ask(self, kind: bytes, pid: int, *descriptors: int) -> Message:
        with self._asking:
            try:
                socket.send_fds(self.channel.socket, [REQUEST.pack(kind, pid)], descriptors)
            except OSError as error:
                raise ClosedError from error
            return self.channel.receive()


def _serve(connection: socket.socket, kept: Iterable[int], groups: Cgroups | None) -> NoReturn:
    code = 1
    try:
        _close_all_but({0, 1, 2, connection.fileno(), *kept})
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # The terminal sends them to all. Not ignored, as that would be passed on to commands.
            signal.signal(number, _pass_over)
        tree.adopt_orphans()
        tree.hide_memory()
        supervisors: set[int] = set()
        # The local agent that was killed may have left an answer unread, which is a reset and not an end.
        with contextlib.suppress(ConnectionError, ClosedError):
            _answer(connection, supervisors)
        _end(supervisors)
        if groups is not None:
            groups.remove()
        code = 0
    except BaseException:
        logger.exception("The zygote met an error of its own")
    finally:
        os._exit(code)


def _answer(connection: socket.socket, supervisors: set[int]) -> None:
    """Do what is asked for until nobody asks any more; `supervisors` are those that were made and not buried."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, REQUEST.size, 1)
        if len(data) < REQUEST.size:
            return
        kind, pid = REQUEST.unpack(data)
        answer = _make(connection, descriptors[0], supervisors) if kind == MAKE else _bury(pid, supervisors)
        Channel(connection).send(answer)


def _make(connection: socket.socket, descriptor: int, supervisors: set[int]) -> dict[str, Any]:
    pid = os.fork()
    if not pid:
        connection.close()
        supervise(socket.socket(fileno=descriptor))
    os.close(descriptor)
    supervisors.add(pid)
    return {"pid": pid}


def _bury(pid: int, supervisors: set[int]) -> dict[str, Any]:
    code = 0
    if pid in supervisors:
        os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        supervisors.discard(pid)
    # Whatever else is a child here was adopted from one that died.
    return {"code": code, "left_behind": Family(frozenset(supervisors)).sweep().left_behind}


def _end(supervisors: set[int]) -> None:
    """Wait for the supervisors, which end what they run, and end what is still there then."""
    deadline = time.monotonic() + END_SECONDS
    while supervisors and time.monotonic() < deadline:
        supervisors -= {pid for pid in supervisors if os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.005)
    Family(frozenset()).sweep()


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _pass_over(_number: int, _frame: object) -> None:
    """Do nothing; who is to end here is told by the end of the connection."""
