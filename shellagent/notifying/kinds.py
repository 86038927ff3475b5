"""What can be told, which events of the trail lead to it, and what it is called."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from audit.tags import Tag
from audit.trail import Event


class Kind(StrEnum):
    """What a notice tells of. At most 20 characters, as the column has it."""

    WAITING = "waiting"
    DECIDED = "decided"
    EXPIRED = "expired"
    FINISHED = "finished"
    ESCALATED = "escalated"
    HOST_OFFLINE = "host-offline"
    TRAIL_NOT_SOUND = "trail-not-sound"
    KILL_SWITCH = "kill-switch"
    PROMOTION = "promotion-proposed"
    DEMOTED = "demoted"
    TEST = "test"


#: What a sink can choose from, in the order of the form, in its words.
CHOICES: Final[Mapping[Kind, str]] = {
    Kind.WAITING: "a command waits for a person",
    Kind.DECIDED: "a person decided",
    Kind.EXPIRED: "nobody decided, or no host took it, in time",
    Kind.FINISHED: "a command that a person asked for or decided on has ended",
    Kind.HOST_OFFLINE: "a host was not heard of for two minutes",
    Kind.TRAIL_NOT_SOUND: "the audit trail is not sound",
    Kind.KILL_SWITCH: "the kill switch was thrown or released",
    Kind.PROMOTION: "an agent has earned a higher maturity",
    Kind.DEMOTED: "an agent has lost maturity",
}
#: Told in quiet hours too.
URGENT: Final = frozenset({Kind.ESCALATED, Kind.TRAIL_NOT_SOUND, Kind.KILL_SWITCH, Kind.TEST})

#: One notice, and several: `{n}` is how many.
WORDS: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.WAITING: ("A command waits", "{n} commands wait"),
    Kind.DECIDED: ("A person decided", "{n} commands were decided"),
    Kind.EXPIRED: ("A command expired", "{n} commands expired"),
    Kind.FINISHED: ("A command ended", "{n} commands ended"),
    Kind.ESCALATED: ("A command still waits for a decision", "{n} commands still wait for a decision"),
    Kind.HOST_OFFLINE: ("A host is offline", "{n} hosts are offline"),
    Kind.TRAIL_NOT_SOUND: ("The audit trail is not sound", "The audit trail is not sound"),
    Kind.KILL_SWITCH: ("The kill switch was used", "The kill switch was used {n} times"),
    Kind.PROMOTION: ("An agent has earned a higher maturity", "{n} agents have earned a higher maturity"),
    Kind.DEMOTED: ("An agent has lost maturity", "{n} agents have lost maturity"),
    Kind.TEST: ("This is a test", "This is a test"),
}

_ENDS: Final = frozenset(
    {
        Tag.SESSION_SUCCEEDED,
        Tag.SESSION_FAILED,
        Tag.SESSION_TIMED_OUT,
        Tag.SESSION_ABORTED,
        Tag.SESSION_LOST,
        Tag.SESSION_REFUSED,
    }
)
_DECISIONS: Final = frozenset({Tag.SESSION_QUEUED, Tag.SESSION_REJECTED, Tag.SESSION_DENIED})
_ALONE: Final[Mapping[Tag, Kind]] = {
    Tag.SESSION_PENDING: Kind.WAITING,
    Tag.SESSION_EXPIRED: Kind.EXPIRED,
    Tag.TRAIL_UNSOUND: Kind.TRAIL_NOT_SOUND,
    Tag.KILL_SWITCH_ON: Kind.KILL_SWITCH,
    Tag.KILL_SWITCH_OFF: Kind.KILL_SWITCH,
    Tag.PROMOTION_PROPOSED: Kind.PROMOTION,
    **dict.fromkeys(_ENDS, Kind.FINISHED),
}
_LEVELS: Final = ("STUDENT", "INTERN", "SUPERVISED", "AUTONOMOUS")
#: The events that may lead to a notice.
TAGS: Final[frozenset[Tag]] = frozenset({*_ALONE, *_DECISIONS, Tag.AGENT_MATURITY_CHANGED, Tag.SESSION_CANCELLED})
#: After these a session's callback is due.
OVER: Final = _ENDS | {Tag.SESSION_DENIED, Tag.SESSION_REJECTED, Tag.SESSION_EXPIRED, Tag.SESSION_CANCELLED}


def outcome_of(event: Event) -> str:
    """Return how it went, as a notice says it: of a kill switch whether it is on now, of a promotion to what."""
    if event.tag is Tag.PROMOTION_PROPOSED:
        return str(event.data.get("after", ""))
    return {Tag.KILL_SWITCH_ON: "on", Tag.KILL_SWITCH_OFF: "lifted"}.get(event.tag, str(event.outcome))


def kind_of(event: Event) -> Kind | None:
    """Return what an event is to be told as, or None."""
    if event.tag in _DECISIONS:
        # A request's own event says what governance decided; those after it, by a person, what that person did.
        is_persons = event.actor.type == "user" and (event.session_seq or 0) > 1
        return Kind.DECIDED if is_persons else None
    if event.tag is Tag.AGENT_MATURITY_CHANGED:
        before, after = str(event.data.get("before")), str(event.data.get("after"))
        known = before in _LEVELS and after in _LEVELS
        return Kind.DEMOTED if known and _LEVELS.index(after) < _LEVELS.index(before) else None
    return _ALONE.get(event.tag)
