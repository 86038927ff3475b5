"""The clerk: one thread that answers the hot calls, all that wait in one transaction.

Hosts' calls and agents' requests are many and small. Each on a thread of its own pays for a commit, for waking up, and
for a database whose pages another thread's connection has just thrown out of the cache. The clerk takes what has come
in since it last looked, answers it on one connection, commits once, and hands all the answers over together. Nothing is
answered before that commit.

A call that has nothing to say yet is held without a thread: it listens for a ring (`shellagent.wake`), and is looked at
again then, when its time is over, and every few seconds in case a ring never came.
"""

import heapq
import itertools
import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from django.db import DatabaseError, close_old_connections, connection, transaction
from django.db.backends.signals import connection_created
from rest_framework.exceptions import APIException

from audit import driver
from governance.errors import ProblemError
from shellagent import wake
from shellagent.protocol import ProtocolError

logger = logging.getLogger(__name__)

#: Errors that a caller is told about and that leave nothing half done. Any other spoils the transaction.
TOLD: Final = (ProblemError, ProtocolError, APIException)
#: As many calls share a transaction at most.
MOST_AT_ONCE: Final = 64
#: A connection to PostgreSQL keeps so many statements prepared.
PREPARED_STATEMENTS: Final = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller gets: a status and a body of JSON."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


Listen = Callable[[str], None]


class Call(ABC):
    """Something to answer. Both methods run on the clerk's thread, inside its transaction."""

    #: When a held call is answered whatever there is to say, by `time.monotonic`; set by `begin`.
    until: float = 0.0
    #: Whether it may be held, so that its caller going away is worth noticing.
    may_be_held: bool = False
    #: Set once what it began is committed, and it is held.
    is_held: bool = False
    #: Set once nobody waits for the answer any more.
    is_gone: bool = False

    @abstractmethod
    def begin(self, listen: Listen) -> Answer | None:
        """Do what is asked; None where the answer is not there yet. It is begun again where its transaction failed.

        `listen` takes the name of a ring to wait for, before what it would tell of is looked at.
        """

    @abstractmethod
    def look(self) -> Answer | None:
        """Look whether a held call can be answered now. Once its time is over it has to be."""

    @classmethod
    def begin_all(cls, calls: Sequence[tuple[Self, Listen]]) -> list["Answer | Exception | None"]:
        """Begin several calls of this class. What one is to be told of stands in its place."""
        found: list[Answer | Exception | None] = []
        for call, listen in calls:
            try:
                found.append(call.begin(listen))
            except TOLD as error:
                found.append(error)
        return found

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what was held; called once the call is answered or dropped."""

    @abstractmethod
    def failed(self, error: Exception) -> Answer:
        """Return what an error is answered with."""


Deliver = Callable[[Sequence[tuple[Call, Answer]]], None]


class _SpoiltError(RuntimeError):
    """A call failed inside the transaction that all share. Holds what those that failed are told."""

    def __init__(self, told: "dict[_Task, Answer | None]") -> None:
        super().__init__()
        self.told = told


@dataclass(slots=True, eq=False)
class _Task:
    """A call on the clerk's table. Setting it, as a ring does, puts it on top."""

    call: Call
    inbox: "queue.SimpleQueue[_Task]"
    names: set[str] = field(default_factory=set)
    has_begun: bool = False
    is_over: bool = False
    is_in: bool = False
    look_at: float = 0.0

    def set(self) -> None:
        if not self.is_in and not self.is_over:
            self.is_in = True
            self.inbox.put(self)

    def listen(self, name: str) -> None:
        if name not in self.names:
            wake.listen(name, self)
            self.names.add(name)


@dataclass(frozen=True, slots=True)
class _Fitting:
    """Fits one thread's connections to the clerk's statements: few, each run often, each by an index."""

    thread: int

    def __call__(self, connection: Any, **_sent: object) -> None:
        if threading.get_ident() != self.thread:
            return
        with suppress(DatabaseError):  # what it wanted to say is said where the database is needed
            if connection.vendor == "sqlite":
                connection.enlarge_cache()
                return
            # As many as there are lengths of lists, and more.
            connection.connection.prepared_max = PREPARED_STATEMENTS
            with connection.cursor() as cursor:
                # PostgreSQL keeps the plan of a prepared statement until a table is analysed. Made while the tables
                # are small, it reads them whole, and does so for as long as they grow.
                cursor.execute("SELECT set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false)")


class Clerk:
    """Answers calls. `deliver` is called on the clerk's thread with the answers of one transaction."""

    def __init__(self, deliver: Deliver, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._deliver = deliver
        self._clock = clock
        self._inbox: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._tasks: dict[Call, _Task] = {}
        self._times: list[tuple[float, int, _Task]] = []
        self._order = itertools.count()

    def take(self, call: Call) -> None:
        """Take a call, from any thread."""
        task = self._tasks[call] = _Task(call, self._inbox)
        task.set()

    def drop(self, call: Call) -> None:
        """Forget a call whose caller has gone: nothing is begun or claimed for it any more."""
        call.is_gone = True
        task = self._tasks.get(call)
        if task is not None:
            task.set()

    def start(self) -> None:
        """Serve on a thread of its own until the process ends."""
        threading.Thread(target=self.serve, name="clerk", daemon=True).start()

    def serve(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Answer calls on this thread until, after some answers, the condition holds."""
        fitting = _Fitting(threading.get_ident())
        connection_created.connect(fitting, weak=False)
        try:
            self._serve(until)
        finally:
            connection_created.disconnect(fitting)

    def _serve(self, until: Callable[[], bool]) -> None:
        while not until():
            tasks = self._next()
            try:
                if not connection.in_atomic_block:
                    close_old_connections()
                self._work(tasks)
            except Exception as error:
                logger.exception("the clerk met an error of its own")
                for task in tasks:
                    self._give_up(task, error)

    def _give_up(self, task: _Task, error: Exception) -> None:
        """Tell a caller of an error of the clerk's own. Whatever else fails then, the thread serves the others."""
        try:
            self._hand_over([(task, task.call.failed(error))])
        except Exception:
            logger.exception("the clerk cannot say what went wrong")
            self._hand_over([(task, Answer(500, b""))])

    def _next(self) -> list[_Task]:
        """Return what is to be looked at now; waits until there is something."""
        while True:
            wait = max(0.0, self._times[0][0] - self._clock()) if self._times else None
            tasks: dict[_Task, None] = {}
            with suppress(queue.Empty):
                tasks[self._inbox.get(timeout=wait)] = None
                while len(tasks) < MOST_AT_ONCE:
                    tasks[self._inbox.get_nowait()] = None
            for task in tasks:
                task.is_in = False
            now = self._clock()
            while self._times and self._times[0][0] <= now:
                at, _order, task = heapq.heappop(self._times)
                if task.look_at == at:
                    tasks[task] = None
            for task in tasks:
                if task.call.is_gone:
                    self._over(task)
            if found := [task for task in tasks if not task.is_over]:
                return found

    def _work(self, tasks: Sequence[_Task], *, is_alone: bool = False) -> Exception | None:
        """Answer these in one transaction; where that fails, each in one of its own.

        Alone, held calls are not looked at along with it. Returns the error by which no transaction could begin.
        """
        answers: dict[_Task, Answer | None] = {}
        # Only what was begun and surely undone is tried again: a database that is locked would be waited for each time.
        has_begun = is_undone = is_done = False
        try:
            with wake.gathering() as names:
                with driver.remembering(), transaction.atomic():
                    has_begun = is_undone = True
                    self._attempt_all(tasks, answers)
                    is_done = True
                    if not is_alone:
                        self._attempt_rung(names, answers)
                    wake.tell_others(names)
                    # From here on the commit itself may fail, and then nobody knows whether it happened.
                    is_undone = False
                wake.ring(names, but=answers)
        except Exception as error:  # noqa: BLE001 - whatever it is, each call has its own answer
            if is_undone and not is_alone and (len(tasks) > 1 or is_done):
                self._work_alone(tasks)
                return None
            told = error.told if isinstance(error, _SpoiltError) else {}
            answers = {task: told.get(task) or task.call.failed(error) for task in tasks}
            if not has_begun:
                self._settle(answers)
                return error
        self._settle(answers)
        return None

    def _work_alone(self, tasks: Sequence[_Task]) -> None:
        """Answer each of these in a transaction of its own, as long as one can begin: each would wait for that anew."""
        gone: Exception | None = None
        for task in tasks:
            if gone is None:
                gone = self._work([task], is_alone=True)
            else:
                self._settle({task: task.call.failed(gone)})

    def _settle(self, answers: Mapping[_Task, Answer | None]) -> None:
        """Hand over the answers that there are, and hold the calls that have none yet."""
        for task in answers:
            task.has_begun = True
        self._hand_over([(task, answer) for task, answer in answers.items() if answer is not None])
        for task, answer in answers.items():
            if answer is None:
                self._hold(task)

    def _attempt_all(self, tasks: Sequence[_Task], answers: dict[_Task, Answer | None]) -> None:
        alike: dict[type[Call], list[_Task]] = {}
        told: dict[_Task, Answer | None] = {}
        for task in tasks:
            if task.has_begun or task in answers:
                answers[task] = task.call.look()
            else:
                alike.setdefault(type(task.call), []).append(task)
        for kind, group in alike.items():
            for task, found in zip(group, kind.begin_all([(task.call, task.listen) for task in group]), strict=True):
                if isinstance(found, Exception):
                    found = told[task] = task.call.failed(found)  # noqa: PLW2901
                answers[task] = found
        if transaction.get_rollback():
            raise _SpoiltError(told)

    def _attempt_rung(self, names: set[str], answers: dict[_Task, Answer | None]) -> None:
        """Look at the held calls that wait for what was just done, while it can still be committed together."""
        told: set[str] = set()
        while (new := names - told) and not transaction.get_rollback():
            told |= new
            held = [bell for bell in wake.bells(new) if isinstance(bell, _Task) and bell.inbox is self._inbox]
            held = [task for task in held if not (task.is_over or task.call.is_gone)]
            self._attempt_all([task for task in held if answers.get(task) is None], answers)

    def _hold(self, task: _Task) -> None:
        task.call.is_held = True
        task.look_at = min(task.call.until, self._clock() + wake.RECHECK_SECONDS)
        heapq.heappush(self._times, (task.look_at, next(self._order), task))

    def _over(self, task: _Task) -> None:
        task.is_over = True
        task.call.close()
        self._tasks.pop(task.call, None)
        for name in task.names:
            wake.leave(name, task)
        task.names.clear()

    def _hand_over(self, answers: Sequence[tuple[_Task, Answer]]) -> None:
        for task, _answer in answers:
            self._over(task)
        if answers:
            self._deliver([(task.call, answer) for task, answer in answers])
