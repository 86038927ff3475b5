"""What the tools answer, typed, each with the next step for a model."""

from collections.abc import Mapping
from typing import Any, Final

from typing_extensions import TypedDict

from shellagent.client import AtomError, Decision, DeclinedError, Session, ThrottledError, UnauthorisedError

#: Of each stream, this many characters from its beginning and as many from its end are given to the model.
SHOWN_CHARACTERS: Final = 10_000
_STEPS: Final = {
    "denied": "It did not run. Change the command or stop; do not look for a way around.",
    "refused": "It did not run. Change the command or stop; do not look for a way around.",
    "expired": "Nobody approved it in time, or no host took it; it did not run. Ask the user before you ask again.",
    "timed_out": "It was stopped at its timeout. What it had done until then stands.",
}


class CommandResult(TypedDict):
    """A command that was asked for, as it is now."""

    id: str | None
    status: str
    command: str
    exit_code: int | None
    stdout: str
    stderr: str
    truncated: bool
    why: str
    approve_url: str | None
    next_step: str


class CommandLine(TypedDict):
    """A command in a list."""

    id: str
    status: str
    command: str
    exit_code: int | None
    created_at: str


class CommandList(TypedDict):
    """Commands, newest first."""

    commands: list[CommandLine]


class PolicyResult(TypedDict):
    """What governance would say."""

    outcome: str
    category: str
    explanation: str
    rules: list[str]
    would_allow: str
    next_step: str


def command_result(session: Session, note: str = "") -> CommandResult:
    """Return a session for a model. `note` is something beside it that whoever reads the answer has to know."""
    return {
        "id": session.id,
        "status": session.status,
        "command": session.shown_command,
        "exit_code": session.exit_code,
        "stdout": _shortened(session.stdout),
        "stderr": _shortened(session.stderr),
        "truncated": session.truncated or max(len(session.stdout), len(session.stderr)) > 2 * SHOWN_CHARACTERS,
        "why": "" if session.has_run else session.why,
        "approve_url": session.approve_url,
        "next_step": " ".join(filter(None, (_next_step(session), note))),
    }


def denied_result(command: str, problem: Mapping[str, Any]) -> CommandResult:
    """Return what governance denied when it was asked for."""
    decision = problem.get("decision")
    would = str(decision.get("would_allow") or "") if isinstance(decision, dict) else ""
    session_id = problem.get("session_id")
    return {
        "id": str(session_id) if session_id else None,
        "status": "denied",
        "command": command,
        "exit_code": None,
        "stdout": "",
        "stderr": "",
        "truncated": False,
        "why": str(problem.get("detail") or "Governance denies it."),
        "approve_url": None,
        "next_step": f"It did not run, and asking again gives the same. {would}".strip(),
    }


def command_line(session: Session) -> CommandLine:
    """Return a session as a line of a list."""
    return {
        "id": session.id,
        "status": session.status,
        "command": session.shown_command,
        "exit_code": session.exit_code,
        "created_at": session.created_at,
    }


def policy_result(decision: Decision) -> PolicyResult:
    """Return a decision for a model."""
    steps = {
        "allow": "run_command would run it at once.",
        "ask": "run_command would wait for a person to approve it.",
    }
    return {
        "outcome": decision.outcome,
        "category": decision.category,
        "explanation": decision.explanation,
        "rules": [f"{rule.get('id')}: {rule.get('justification', '')}" for rule in decision.rules],
        "would_allow": decision.would_allow,
        "next_step": steps.get(decision.outcome, "run_command would refuse it. Do not look for a way around."),
    }


def sentence_of(error: AtomError) -> str:
    """Return what went wrong and the next step."""
    if isinstance(error, UnauthorisedError):
        step = "Nothing was done. A person has to give this server another key; stop until then."
    elif isinstance(error, ThrottledError):
        step = "Nothing was done. Wait a minute before you ask again."
    elif isinstance(error, DeclinedError):
        step = "Nothing was done. Change the request."
    else:
        step = "If you had asked for a command, see list_commands for whether it was taken before you ask again."
    return f"{error} {step}"


def _next_step(session: Session) -> str:
    if session.status == "pending":
        return (
            f"It waits for a person, who approves it at {session.approve_url} . Tell the user, and call get_command "
            "with this id to wait on. Do not ask for it again: it would be a second request."
        )
    if not session.is_over:
        return "It has not ended. Call get_command with this id to wait on; do not ask for it again."
    if session.status == "rejected":
        return f"A person rejected it and it did not run. Their reason: {session.why or 'none'}. Do as they say."
    return "" if session.has_run else _STEPS.get(session.status, "Look at why it ended before you ask again.")


def _shortened(text: str) -> str:
    left_out = len(text) - 2 * SHOWN_CHARACTERS
    if left_out <= 0:
        return text
    return f"{text[:SHOWN_CHARACTERS]}\n[... {left_out} characters left out ...]\n{text[-SHOWN_CHARACTERS:]}"
