"""A command from asking to its end, as a person or a program at a command line sees it: output, notes, exit code."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

from shellagent.client.atom import MOST_WAIT_SECONDS, Atom, pause
from shellagent.client.errors import AtomError, CallError, Exit, UnavailableError
from shellagent.client.patience import session_patiently
from shellagent.client.terminal import print_bytes, without_escapes
from shellagent.client.types import STREAMS, Offsets, Output, OutputPart, Session

#: The first wait, in which most commands end; then output is followed while the command runs.
FIRST_WAIT_SECONDS: Final = 2
FOLLOW_SECONDS: Final = 20
SETTLED: Final = {
    "denied": Exit.DENIED,
    "rejected": Exit.DENIED,
    "refused": Exit.DENIED,
    "expired": Exit.DENIED,
    "timed_out": Exit.TIMED_OUT,
    "cancelled": Exit.CANCELLED,
    "aborted": Exit.CANCELLED,
    "lost": Exit.INTERNAL,
}


class Manner(NamedTuple):
    """How it is shown, for how many seconds an approval or the host is waited for, and the command's name in notes."""

    is_json: bool = False
    wait_seconds: float = 45.0
    program: str = "atom"

    def note(self, message: str) -> None:
        """Say something about the command, apart from its output."""
        sys.stderr.write(f"{self.program}: {without_escapes(message)}\n")
        sys.stderr.flush()

    def complain(self, error: Exception, message: str) -> None:
        """Say what went wrong; as JSON too, with the server's problem, where that was asked for."""
        if self.is_json:
            code = error.ends_with if isinstance(error, AtomError) else Exit.INTERNAL
            problem = error.problem if isinstance(error, CallError) else {}
            sys.stdout.write(json.dumps({"process_exit_code": int(code), "detail": message, **problem}) + "\n")
        self.note(message)


def run(atom: Atom, ask: Callable[[int], Session], manner: Manner) -> int:
    """Ask, follow the command to its end, and return its exit code, or the one that says why it has none.

    `ask` takes the seconds to wait. Ctrl-C cancels the command, a second one leaves at once. Raises CallError.
    """
    with _interrupts_held() as interrupted:
        session = ask(FIRST_WAIT_SECONDS)
    try:
        if interrupted:
            raise KeyboardInterrupt
        return _Running(atom, manner).end_of(session)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, lambda *_: os._exit(Exit.CANCELLED))
        return _cancel(atom, session, manner)


def resume(atom: Atom, session_id: str, manner: Manner) -> int:
    """Follow a session that was asked for before. Ctrl-C leaves it running. Raises CallError."""
    session = atom.session(session_id)
    try:
        return _Running(atom, manner).end_of(session)
    except KeyboardInterrupt:
        manner.note(f"session {session.id} goes on without this: take it up again by its id, or cancel it")
        if manner.is_json:
            sys.stdout.write(as_json(Exit.CANCELLED, session))
        return Exit.CANCELLED


def exit_code(session: Session) -> int:
    """Return the code that stands for how a session ended: its own where it ran to its end."""
    if session.has_run and session.exit_code is not None:
        return session.exit_code
    return SETTLED.get(session.status, Exit.INTERNAL) if session.is_over else Exit.WAITING


def as_json(code: int, session: Session) -> str:
    """Return a session as one line of JSON, with the exit code of the process that prints it."""
    return json.dumps({"process_exit_code": int(code), **session.raw}) + "\n"


class _Running:
    def __init__(self, atom: Atom, manner: Manner) -> None:
        self._atom = atom
        self._manner = manner
        #: By stream, the offset after what was printed.
        self._printed = dict.fromkeys(STREAMS, 0)
        self._is_followed = False
        self._told = ""

    def end_of(self, session: Session) -> int:
        give_up_at = time.monotonic() + self._manner.wait_seconds
        while not session.is_over:
            self._tell(session)
            if not session.is_started and time.monotonic() >= give_up_at:
                return self._end(session)
            if session.is_started and not self._manner.is_json:
                self._follow(session)
                session = self._get(session, 0)
            else:
                session = self._wait(session, give_up_at)
        if not self._is_followed and not self._manner.is_json:
            self._print_all(session)
        return self._end(session)

    def _wait(self, session: Session, give_up_at: float) -> Session:
        begun = time.monotonic()
        left = MOST_WAIT_SECONDS if session.is_started else give_up_at - begun
        found = self._get(session, max(1, int(min(MOST_WAIT_SECONDS, left))))
        if not found.is_over and found.status == session.status:
            pause(begun)
        return found

    def _follow(self, session: Session) -> None:
        """Print what a session prints as soon as there is any, until it has ended."""
        for found in self._outputs(session.id):
            self._print(found)
        self._is_followed = True

    def _outputs(self, session_id: str) -> Iterator[Output]:
        is_finished = False
        while not is_finished:
            begun, after = time.monotonic(), self._offsets()
            ask = partial(self._atom.output, session_id, after, wait_seconds=FOLLOW_SECONDS)
            found = session_patiently(session_id, ask)
            yield found
            is_finished = found.finished
            if not is_finished and self._offsets() == after:
                pause(begun)

    def _get(self, session: Session, wait_seconds: int) -> Session:
        return session_patiently(session.id, lambda: self._atom.session(session.id, wait_seconds=wait_seconds))

    def _offsets(self) -> Offsets:
        return Offsets(**self._printed)

    def _print_all(self, session: Session) -> None:
        """Print the output of a session that ended, byte for byte."""
        if "\ufffd" in session.stdout + session.stderr:
            self._print(session_patiently(session.id, lambda: self._atom.output(session.id)))
        else:
            print_bytes(sys.stdout, session.stdout.encode())
            print_bytes(sys.stderr, session.stderr.encode())

    def _print(self, found: Output) -> None:
        self._print_parts(sys.stdout, "stdout", found.stdout)
        self._print_parts(sys.stderr, "stderr", found.stderr)

    def _print_parts(self, stream: Any, name: str, parts: tuple[OutputPart, ...]) -> None:
        for part in parts:
            try:
                data = part.data
            except ValueError as error:
                raise UnavailableError("The answer does not hold output. Is the URL right?") from error
            if part.offset > self._printed[name]:
                print_bytes(stream, b"\n[... %d bytes cut ...]\n" % (part.offset - self._printed[name]))
            print_bytes(stream, data)
            self._printed[name] = part.offset + len(data)

    def _tell(self, session: Session) -> None:
        if session.status == self._told:
            return
        self._told = session.status
        if session.status == "pending":
            self._manner.note(f"waiting for a person to approve it: {session.approve_url}")
        elif session.status == "queued":
            self._manner.note(f"waiting for the host{', which is offline' if session.host_online is False else ''}")

    def _end(self, session: Session) -> int:
        code = exit_code(session)
        if self._manner.is_json:
            sys.stdout.write(as_json(code, session))
        elif not session.is_over:
            self._manner.note(f"session {session.id} is {session.status}")
        elif not session.has_run:
            self._manner.note(f"{session.status}: {session.why or 'no reason was given'}")
        elif session.termination_detail:
            self._manner.note(session.termination_detail)
        return code


def _cancel(atom: Atom, session: Session, manner: Manner) -> int:
    try:
        found = atom.cancel(session.id, reason="Ctrl-C")
    except CallError as error:
        manner.note(f"session {session.id} could not be cancelled: {error}")
        found = session
    else:
        manner.note(f"session {session.id} {'is ' + found.status if found.is_over else 'is being stopped'}")
    if manner.is_json:
        sys.stdout.write(as_json(Exit.CANCELLED, found))
    return Exit.CANCELLED


@contextmanager
def _interrupts_held() -> Iterator[list[int]]:
    """Note a Ctrl-C in place of raising it, so that what was asked for is known when it comes; a second one leaves."""
    seen: list[int] = []

    def note(number: int, _frame: object) -> None:
        if seen:
            os._exit(Exit.CANCELLED)
        seen.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:
        # Not the main thread, which is the one that signals reach.
        yield seen
        return
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
