"""How each program wants to be answered by a hook. A field that one does not know makes it ignore the whole answer."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple


class Word(StrEnum):
    """What a program is told. NONE leaves the call to the program's own rules."""

    NONE = "none"
    ALLOW = "allow"
    DENY = "deny"


class Answer(NamedTuple):
    """What is to become of a call: why, and for a rewritten one its new arguments."""

    word: Word
    reason: str = ""
    arguments: Mapping[str, Any] | None = None

    @classmethod
    def none(cls) -> "Answer":
        """Have no opinion."""
        return cls(Word.NONE)

    @classmethod
    def allowed(cls, reason: str) -> "Answer":
        """Let the call run as it is."""
        return cls(Word.ALLOW, reason)

    @classmethod
    def denied(cls, reason: str) -> "Answer":
        """Block the call."""
        return cls(Word.DENY, reason)

    @classmethod
    def rewritten(cls, arguments: Mapping[str, Any], reason: str) -> "Answer":
        """Let the call run with other arguments."""
        return cls(Word.ALLOW, reason, arguments)


class Dialect:
    """Claude Code's: `PreToolUse` with allow, deny and a new input (code.claude.com/docs/en/hooks)."""

    rewriting: tuple[str, ...] = ("PreToolUse",)

    def can_rewrite(self, event: str) -> bool:
        """Return whether a call of this event may be given other arguments."""
        return event in self.rewriting

    def made(self, event: str, answer: Answer) -> dict[str, Any]:
        """Return the answer's object, empty for no opinion."""
        if answer.word is Word.NONE:
            return {}
        if event == "PermissionRequest":
            return _permission(answer)
        said: dict[str, Any] = {
            "hookEventName": event,
            "permissionDecision": answer.word.value,
            "permissionDecisionReason": answer.reason,
        }
        if answer.arguments is not None:
            said["updatedInput"] = dict(answer.arguments)
        return {"hookSpecificOutput": said}


class CodexDialect(Dialect):
    """Codex's: like Claude Code's, but `PreToolUse` knows no bare allow, and takes no reason beside a new input."""

    def made(self, event: str, answer: Answer) -> dict[str, Any]:
        """Return the answer's object; an allowed call is left to Codex's own sandbox and approvals."""
        if event != "PreToolUse" or answer.word is not Word.ALLOW:
            return super().made(event, answer)
        if answer.arguments is None:
            return {}
        said = {"hookEventName": event, "permissionDecision": "allow", "updatedInput": dict(answer.arguments)}
        return {"hookSpecificOutput": said}


class CursorDialect(Dialect):
    """Cursor's: `permission` with a message for the person and one for the model; nothing is rewritten."""

    rewriting = ()

    def made(self, event: str, answer: Answer) -> dict[str, Any]:
        """Return the answer's object."""
        del event
        if answer.word is not Word.DENY:
            return {"permission": "allow"}
        return {"permission": "deny", "user_message": answer.reason, "agent_message": answer.reason}


def _permission(answer: Answer) -> dict[str, Any]:
    decision = {"behavior": answer.word.value}
    if answer.word is Word.DENY:
        decision["message"] = answer.reason
    return {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": decision}}


DIALECTS: Final[Mapping[str, Dialect]] = {
    "claude-code": Dialect(),
    "codex": CodexDialect(),
    "cursor": CursorDialect(),
}
