"""`atom hook`: governance before a tool of Claude Code, Codex or Cursor runs a shell command.

Whatever goes wrong here blocks the call: an error, a missing server, an answer that does not come in time. The programs
that call a hook let the tool run where it crashes or takes too long, so this one bounds itself and ends with the exit
code that blocks.
"""

import hashlib
import json
import os
import shlex
import signal
import sys
from enum import StrEnum
from typing import Final, NamedTuple

from shellagent.client.atom import Atom
from shellagent.client.credentials import find_access
from shellagent.client.errors import AtomError, DeclinedError, DeniedError
from shellagent.client.hook_dialects import DIALECTS, Answer
from shellagent.client.terminal import without_escapes
from shellagent.client.tool_calls import MOST_BYTES, Kind, ToolCall, read_call
from shellagent.client.types import Decision, Session

#: The exit code that blocks a call in all three programs.
BLOCKS: Final = 2
#: Well within the time-out that `connect` gives the hook, which lets the tool run when it is over.
MOST_SECONDS: Final = 20.0
#: What an unconfined shell meets by itself: these only say what the sandbox opens. The others are promises of the
#: host's that the decision rests on.
MET_ANYWHERE: Final = frozenset(("read-only", "network", "daemon"))
#: They run anything at a key press, and a tool's shell may give them the terminal that a host does not.
PAGERS: Final = frozenset(("less", "man", "more"))
RUN_WAIT_SECONDS: Final = 90
REASON_MAX: Final = 400


class Mode(StrEnum):
    """What becomes of an allowed shell call: `check` leaves it as it is, `run` rewrites it so that a host runs it."""

    CHECK = "check"
    RUN = "run"


class Manner(NamedTuple):
    """How a hook was set up: for which program, in which mode, and whether the tool's folder is the host's too."""

    program: str
    mode: Mode
    has_same_folders: bool = True


def main(manner: Manner) -> int:
    """Read a call from standard input, print the answer, and return the exit code: 0, or 2 which blocks the call."""
    _bound()
    try:
        # One byte more than may be read tells that there is more.
        call = read_call(sys.stdin.buffer.read(MOST_BYTES + 1))
        text = json.dumps(DIALECTS[manner.program].made(call.event, answer_to(call, manner)))
    except AtomError as error:
        return _block(f"{error} The call was blocked.")
    except Exception as error:  # noqa: BLE001 - any error blocks
        return _block(f"internal error: {type(error).__name__}: {error}. The call was blocked.")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 0


def answer_to(call: ToolCall, manner: Manner) -> Answer:
    """Return what a program is to do with a call. Raises AtomError where that cannot be said."""
    if call.kind is Kind.OTHER:
        return Answer.none()
    if call.kind is Kind.SETTINGS:
        return Answer.denied(f"{call.tool} would change what governs this agent. Only a person may do that.")
    if call.is_own:
        return Answer.allowed("It is governed by the server.")
    with Atom(*find_access()) as atom:
        return _checked(atom, call, manner)


def own_call(call: ToolCall, manner: Manner) -> str | None:
    """Return a call's command as a call of `atom`; None where its text cannot stand in one."""
    words = ["atom", "run", "--wait", str(RUN_WAIT_SECONDS)]
    if manner.has_same_folders and call.directory:
        words += ["--directory", call.directory]
    if call.timeout_seconds:
        words += ["--timeout", str(call.timeout_seconds)]
    if reason := without_escapes(call.reason).replace("\n", " ").replace("'", "\u2019")[:REASON_MAX].strip():
        words += ["--reason", reason]
    words += ["--", call.command]
    return shlex.join(words) if call.command.isprintable() else None


def _checked(atom: Atom, call: ToolCall, manner: Manner) -> Answer:
    directory = call.directory if manner.has_same_folders and call.directory else None
    try:
        decision = atom.check(call.command, working_directory=directory)
    except DeclinedError as error:
        return Answer.denied(str(error))
    if decision.outcome == "allow":
        # Not before: versions of these programs drop a changed command in silence, and run it as it was.
        return _rewritten(call, manner) if manner.mode is Mode.RUN else _allowed(call, decision, manner)
    if decision.outcome == "ask":
        return _asked(atom, call, directory)
    return Answer.denied(f"Governance denies this: {decision.explanation}")


def _allowed(call: ToolCall, decision: Decision, manner: Manner) -> Answer:
    programs = {os.path.basename(token.get("text", "")) for token in decision.tokens if token.get("role") == "program"}
    unmet = sorted(set(decision.obligations) - MET_ANYWHERE) + [f"no terminal for {name}" for name in programs & PAGERS]
    if not unmet:
        return Answer.allowed(decision.explanation)
    own = own_call(call, manner)
    return Answer.denied(
        f"This is allowed only where a host confines it ({', '.join(unmet)}). "
        + (f"Run it so: {own}" if own else "Write it in one line and run it with `atom run`.")
    )


def _rewritten(call: ToolCall, manner: Manner) -> Answer:
    own = own_call(call, manner)
    if own is None:
        return Answer.denied("The command holds a character that cannot be passed on. Write it in one line.")
    if not (DIALECTS[manner.program].can_rewrite(call.event) and call.argument):
        return Answer.denied(f"Commands run under governance here. Run this instead: {own}")
    return Answer.rewritten({**call.arguments, call.argument: own}, "It runs under governance.")


def _asked(atom: Atom, call: ToolCall, directory: str | None) -> Answer:
    """Ask in the product, where the right person decides and the trail keeps it; the tool's own shell stays closed."""
    key = hashlib.sha256("\0".join((call.call_id or os.urandom(16).hex(), call.command)).encode()).hexdigest()
    try:
        session = atom.execute(
            call.command,
            working_directory=directory,
            timeout_seconds=call.timeout_seconds,
            reason=without_escapes(call.reason)[:REASON_MAX] or None,
            idempotency_key=f"hook-{key[:48]}",
        )
    except DeniedError as error:
        return Answer.denied(str(error))
    return Answer.denied(_what_to_do(session))


def _what_to_do(session: Session) -> str:
    follow = (
        f"It runs on {session.host.name if session.host else 'its host'}: `atom wait {session.id}` shows its output."
    )
    if not session.approve_url:
        return f"This was asked for as session {session.id}. {follow}"
    until = f" until {session.expires_at}" if session.expires_at else ""
    return f"A person has to approve this, at {session.approve_url}{until}. {follow} Do not try another way."


def _bound() -> None:
    """End the process with the blocking code once the time is over, whatever it is doing."""

    def over(*_: object) -> None:
        os.write(2, f"atom hook: no answer within {MOST_SECONDS:.0f} s. The call was blocked.\n".encode())
        os._exit(BLOCKS)

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)


def _block(message: str) -> int:
    sys.stderr.write(f"atom hook: {without_escapes(message)}\n")
    return BLOCKS
