"""Which events are meant: the filters of an export, spelled alike in the admin, the API and the command."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from audit import canonical
from audit.counting import begin_of
from audit.models import AuditLeaf
from audit.tags import Tag

#: What an approver does to a session.
DECIDING: Final = tuple(
    str(tag)
    for tag in (
        *(Tag.SESSION_QUEUED, Tag.SESSION_REJECTED, Tag.SESSION_DENIED),
        *(Tag.SESSION_DECIDED_AGAIN, Tag.APPROVAL_REFUSED),
    )
)
#: Looking for words is told with the words: such events would find themselves.
ASKING: Final = (str(Tag.TRAIL_READ), str(Tag.TRAIL_EXPORTED))
#: The types of parties that the search takes, as in `user:2`.
PARTIES: Final = ("user", "group", "agent", "host", "session", "rule", "system")
_CHUNK: Final = 1000
_NUMBERS: Final = ("agent", "host", "approver")
_TEXTS: Final = {"outcome": 20, "category": 10, "tag": 40, "about": 40, "actor": 16, "party": 81, "words": 200}


class SelectionError(ValueError):
    """A filter has a value that it cannot have. The text says which, and what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Filters, each None or empty where it is not set; an event has to pass all of them.

    `agent`, `host` and `approver` (a user) are ids, `about` is the first part of a tag, `actor` a type of party.
    """

    after: datetime | None = None
    before: datetime | None = None
    agent: int | None = None
    host: int | None = None
    approver: int | None = None
    session: UUID | None = None
    outcome: str = ""
    category: str = ""
    tag: str = ""
    about: str = ""
    actor: str = ""
    #: A party that acted or that it was done to, as `user:2`.
    party: str = ""
    words: str = ""

    @property
    def is_everything(self) -> bool:
        """Return whether no filter is set."""
        return self == Selection()

    def to_json(self) -> dict[str, object]:
        """Return the filters that are set, as an event and a manifest keep them."""
        found = {name: value for name, value in asdict(self).items() if value not in (None, "")}
        return {name: value if isinstance(value, int) else _told(value) for name, value in found.items()}

    def condition(self, prefix: str = "") -> Q:
        """Return the filters as a condition on events, whose fields' names begin with the prefix."""
        wanted: dict[str, object] = {
            "occurred_at__gte": self.after,
            "occurred_at__lt": self.before,
            "agent_id": self.agent,
            "host_id": self.host,
            "session_id": self.session,
            "tag": self.tag or (f"session:{self.outcome}" if self.outcome else None),
            "category": self.category or None,
            "actor_type": self.actor or None,
            # A body is canonical JSON, in which quotes and line ends are spelled otherwise.
            "body__icontains": canonical.dumps(self.words)[1:-1] if self.words else None,
            "tag__startswith": f"{self.about}:" if self.about else None,
        }
        if self.approver is not None:
            wanted |= {"actor_type": "user", "actor_id": str(self.approver), "tag__in": DECIDING}
        found = Q(**{f"{prefix}{name}": value for name, value in wanted.items() if value is not None})
        if self.party:
            kind, _, number = self.party.partition(":")
            sides = [{f"{prefix}{side}_type": kind, f"{prefix}{side}_id": number} for side in ("actor", "subject")]
            found &= Q(**sides[0]) | Q(**sides[1])
        return found & ~Q(**{f"{prefix}tag__in": ASKING}) if self.words else found


def _told(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def selection_read(asked: Mapping[str, str]) -> Selection:
    """Read filters from their spelling in an address or a command line; empty ones are not set. Raises SelectionError.

    Times are `after` and `before` in ISO 8601, or the days `from_day` and `to_day`, both included, by the server's time
    zone. `q` is what the admin's search takes: a session's id, a tag, a party such as `agent:7`, or words.
    """
    values: dict[str, Any] = {}
    for name, text in asked.items():
        if not (text := text.strip()):
            continue
        if name in _NUMBERS:
            values[name] = _number(name, text)
        elif name in _TEXTS:
            if len(text) > _TEXTS[name]:
                raise SelectionError(f"{name} has {_TEXTS[name]} characters at most.")
            values[name] = text
        elif name in ("after", "before", "from_day", "to_day"):
            values["after" if name in ("after", "from_day") else "before"] = _time(name, text)
        elif name == "session":
            values["session"] = _uuid(text)
        elif name == "q":
            values |= _search(text)
        else:
            raise SelectionError(f"There is no filter {name[:40]!r}.")
    return Selection(**values)


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise SelectionError(f"{name} is an id, not {text[:40]!r}.")
    return int(text)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise SelectionError(
            f"A session's id looks like 019a3c1e-7a5b-7c3d-8e9f-0123456789ab, not {text[:40]!r}."
        ) from None


def _time(name: str, text: str) -> datetime:
    try:
        if name in ("from_day", "to_day") or len(text) == len("2026-11-29"):
            day = date.fromisoformat(text)
            return begin_of(day + timedelta(days=name == "to_day"))
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise SelectionError(f"{name} is a day or a time such as 2026-11-29 or 2026-11-29T12:00:00Z.") from None
    return moment if moment.tzinfo else timezone.make_aware(moment)


def _search(text: str) -> dict[str, Any]:
    kind, _, rest = text.partition(":")
    if text in list(Tag):
        return {"tag": text}
    if kind in ("agent", "host") and rest.isdecimal():
        return {kind: _number(kind, rest)}
    if kind in PARTIES and rest:
        return {"party": text}
    try:
        return {"session": UUID(text)}
    except ValueError:
        return {"words": text}


@dataclass(frozen=True, slots=True)
class SealedEvent:
    """An event with its leaf in the log."""

    leaf: int
    uid: UUID
    hash: str
    body: str
    signature: str | None


def sealed_events(selection: Selection, until: int) -> Iterator[SealedEvent]:
    """Yield the events that pass, in the order of the log up to (not including) that leaf; read in pieces."""
    columns = ("index", "event__uid", "event__hash", "event__body", "event__signature")
    # Joined by the condition that the event is still there: those of a range that was retired are not.
    leaves = AuditLeaf.objects.filter(selection.condition("event__"), event__hash__isnull=False, index__lt=until)
    begin = 0
    while rows := list(leaves.filter(index__gte=begin).order_by("index").values_list(*columns)[:_CHUNK]):
        for row in rows:
            yield SealedEvent(*row)
        begin = rows[-1][0] + 1
