"""What a message says: a title, lines with a link each, and the same as JSON. How much it says is the sink's to set."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from audit.models import AuditPayload
from audit.trail import payloads_of
from governance.models import Agent
from shellagent import links
from shellagent.models import Host, ShellSession
from shellagent.notifying.kinds import WORDS, Kind
from shellagent.notifying.models import Notice, Sink
from shellagent.services.deciding import StoredRequest

#: So many notices have a line of their own, and so many stand in the JSON.
LINES_MAX: Final = 10
NOTICES_MAX: Final = 100
_COMMAND_MAX_CHARACTERS: Final = 300
_SESSIONS: Final = frozenset({Kind.WAITING, Kind.ESCALATED, Kind.DECIDED, Kind.EXPIRED, Kind.FINISHED})


class Told:
    """The notices of one message, with what has to be looked up of them: sessions, names and, where asked, commands."""

    def __init__(self, notices: Sequence[Notice], detail: str) -> None:
        self.notices = list(notices)
        self.detail = detail
        shown = self.notices[:NOTICES_MAX]
        ids = [notice.session_id for notice in shown if notice.session_id]
        self.sessions = {session.pk: session for session in ShellSession.objects.filter(pk__in=ids)}
        self.agents = _names(Agent, [notice.agent_id for notice in shown])
        self.hosts = _names(Host, [notice.host_id for notice in shown])
        self.commands = _commands(ids) if detail == Sink.Detail.COMMAND else {}

    @property
    def title(self) -> str:
        """Return the message in a few words."""
        counts = Counter(Kind(notice.kind) for notice in self.notices)
        if len(self.notices) == 1 and self.detail != Sink.Detail.LINK:
            return f"{WORDS[next(iter(counts))][0]}{self._about(self.notices[0])}"
        said = [WORDS[kind][n > 1].format(n=n) for kind, n in counts.items()]
        return ", ".join([said[0], *(text[0].lower() + text[1:] for text in said[1:])])

    @property
    def text(self) -> str:
        """Return the message in lines: one notice each, and below it where to look."""
        if self.detail == Sink.Detail.LINK:
            return self._link()
        lines = []
        for notice, (words, url) in zip(self.notices[:LINES_MAX], self.lines(), strict=False):
            lines.append(words)
            if command := self.commands.get(notice.session_id):
                lines.append(f"  {command}")
            lines.append(f"  {url}")
        if len(self.notices) > LINES_MAX:
            lines += [f"and {len(self.notices) - LINES_MAX} more", f"  {self._link()}"]
        return "\n".join(lines)

    def lines(self) -> list[tuple[str, str]]:
        """Return each notice in words, with where to look."""
        is_short = self.detail == Sink.Detail.LINK
        return [
            (f"{WORDS[Kind(notice.kind)][0]}{'' if is_short else self._about(notice)}", self._url(notice))
            for notice in self.notices
        ]

    def body(self, now: datetime) -> str:
        """Return the message as the JSON of a webhook."""
        kinds = {notice.kind for notice in self.notices}
        data = {
            "title": self.title,
            "total": len(self.notices),
            "url": self._link(),
            "notices": [self._json(notice) for notice in self.notices[:NOTICES_MAX]],
        }
        kind = next(iter(kinds)) if len(kinds) == 1 else "several"
        return json.dumps({"type": f"atom.{kind}", "timestamp": now.isoformat(), "data": data})

    def _json(self, notice: Notice) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": str(notice.uid),
            "kind": notice.kind,
            "occurred_at": notice.occurred_at.isoformat(),
            "session_id": str(notice.session_id) if notice.session_id else None,
            "url": self._url(notice),
        }
        if self.detail != Sink.Detail.LINK:
            told |= {
                "agent": self._agent(notice) or None,
                "host": self._host(notice) or None,
                "category": notice.category or None,
                "outcome": notice.outcome or None,
                "by": notice.actor if notice.kind == Kind.DECIDED else None,
                "subject": notice.subject or None,
            }
        if self.detail == Sink.Detail.COMMAND:
            told["command"] = self.commands.get(notice.session_id)
        return told

    def _about(self, notice: Notice) -> str:
        """Return what stands after the words of a notice."""
        if Kind(notice.kind) not in _SESSIONS:
            subject = notice.subject or self._agent(notice) or self._host(notice)
            more = f" ({notice.outcome})" if notice.outcome else ""
            return f": {_plain(subject)}{more}" if subject else ""
        agent, host = self._agent(notice), self._host(notice)
        place = f" ({_plain(agent)} on {_plain(host)})" if agent and host else ""
        said = f": {notice.category}" if notice.category else ""
        if notice.kind in (Kind.FINISHED, Kind.DECIDED):
            said += f", {notice.outcome.replace('_', ' ')}"
            said += f" by {_plain(notice.actor)}" if notice.kind == Kind.DECIDED else ""
        return said + place

    def _agent(self, notice: Notice) -> str:
        session = self.sessions.get(notice.session_id) if notice.session_id else None
        return session.agent_label if session else self.agents.get(notice.agent_id or 0, "")

    def _host(self, notice: Notice) -> str:
        session = self.sessions.get(notice.session_id) if notice.session_id else None
        return session.host_label if session else self.hosts.get(notice.host_id or 0, "")

    def _url(self, notice: Notice) -> str:
        if notice.session_id:
            return links.card_url(notice.session_id)
        if notice.kind == Kind.HOST_OFFLINE and notice.host_id:
            return links.admin_url("shellagent_host_change", notice.host_id)
        if notice.kind in (Kind.PROMOTION, Kind.DEMOTED) and notice.agent_id:
            return links.admin_url("governance_agent_change", notice.agent_id)
        if notice.kind == Kind.TRAIL_NOT_SOUND:
            return links.admin_url("audit_auditevent_changelist")
        return links.admin_url("index")

    def _link(self) -> str:
        """Return the one address for all of it."""
        if len(self.notices) == 1:
            return self._url(self.notices[0])
        waits = {Kind.WAITING, Kind.ESCALATED}
        return links.queue_url() if any(one.kind in waits for one in self.notices) else links.admin_url("index")


def _names(model: type[Agent] | type[Host], ids: Sequence[int | None]) -> Mapping[int, str]:
    rows: Any = model._default_manager.filter(pk__in={pk for pk in ids if pk})
    return dict(rows.values_list("pk", "name"))


def _commands(ids: Sequence[UUID]) -> Mapping[UUID | None, str]:
    found: dict[UUID | None, str] = {}
    for row in payloads_of(list(ids), AuditPayload.Kind.REQUEST):
        text = _plain(StoredRequest.read(row.data).plan.source())
        is_long = len(text) > _COMMAND_MAX_CHARACTERS
        found[row.session_id] = f"{text[:_COMMAND_MAX_CHARACTERS]}…" if is_long else text
    return found


def _plain(text: str) -> str:
    """Return a text in which nothing is obeyed: controls as escapes, and nobody is called by an @."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return shown.replace("@", "@\u200b").replace("<!", "<\u200b!")
