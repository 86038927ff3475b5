"""What `atom` prints for people: sessions, decisions, hosts. Nothing of a command's acts on the terminal."""

from collections.abc import Sequence
from typing import Final

from shellagent.client.terminal import painted, without_escapes
from shellagent.client.types import Agent, Decision, Session, Status

MOST_SHOWN: Final = 80
_COLOURS: Final = {
    "succeeded": "green",
    "pending": "yellow",
    "queued": "yellow",
    "claimed": "yellow",
    "running": "yellow",
    "allow": "green",
    "ask": "yellow",
}


def list_text(sessions: Sequence[Session]) -> str:
    """Return sessions a line each: id, when, state, exit code, command."""
    if not sessions:
        return "There are none."
    return "\n".join(
        f"{session.id}  {session.created_at[:19]}  {_word(session.status, 9)}  "
        f"{'-' if session.exit_code is None else session.exit_code:>3}  {_line(session.shown_command)}"
        for session in sessions
    )


def session_text(session: Session) -> str:
    """Return a session with all that a person asks about, and its output below."""
    decision = session.decision
    rows = [
        ("session", session.id),
        ("command", session.shown_command),
        ("directory", session.working_directory or "the scratch folder"),
        ("host", session.host.name if session.host else ""),
        ("status", session.status + (f", exit code {session.exit_code}" if session.exit_code is not None else "")),
        ("category", session.category),
        ("governance", f"{decision.outcome}: {decision.explanation}" if decision else ""),
        ("approve at", session.approve_url or ""),
        ("decided by", _decided(session)),
        ("because", session.termination_detail or ""),
        ("asked", session.created_at),
        ("ran", f"{session.duration_seconds:.3f} s" if session.duration_seconds is not None else ""),
    ]
    lines = [f"{name + ':':<12} {without_escapes(text)}" for name, text in rows if text]
    for name, text in (("stdout", session.stdout), ("stderr", session.stderr)):
        if text:
            lines += [painted(f"--- {name}", "faint"), without_escapes(text).rstrip("\n")]
    return "\n".join(lines)


def decision_text(decision: Decision) -> str:
    """Return what governance says, why, and what would change it."""
    lines = [f"{_word(decision.outcome)} ({decision.category}): {without_escapes(decision.explanation)}"]
    lines += [f"  {rule.get('id')}: {without_escapes(str(rule.get('justification', '')))}" for rule in decision.rules]
    if decision.would_allow:
        lines.append(f"To allow it: {without_escapes(decision.would_allow)}")
    return "\n".join(lines)


def status_text(url: str, agent: Agent, status: Status) -> str:
    """Return who asks, each host, and what waits."""
    state = "suspended" if agent.is_suspended else agent.maturity
    lines = [f"server: {url}", f"agent:  {agent.name} ({state})"]
    for host in status.hosts:
        word = painted("online", "green") if host.online else painted("offline", "red")
        extra = "" if host.enabled else ", disabled"
        extra += f", {host.desired_state}" if host.desired_state == "stopped" else ""
        lines.append(f"host:   {host.name} is {word}{extra}: {host.running} running, {host.queued} queued")
    if not status.hosts:
        lines.append("host:   none; a person has to give this agent one")
    for stop in status.kill_switch:
        what = f"{stop.scope} {stop.subject}".strip()
        lines.append(f"{painted('stop:', 'red')}   {what}, by {stop.by}: {without_escapes(stop.reason)}")
    waiting = ", ".join(f"{count} {name}" for name, count in status.sessions.items() if count)
    return "\n".join([*lines, f"mine:   {waiting or 'nothing waits or runs'}"])


def _decided(session: Session) -> str:
    approval = session.approval
    if approval is None or not approval.decision:
        return ""
    return f"{approval.by} ({approval.decision}{': ' + approval.reason if approval.reason else ''})"


def _word(text: str, width: int = 0) -> str:
    return painted(f"{text:<{width}}" if width else text, _COLOURS.get(text, "red"))


def _line(text: str) -> str:
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"
