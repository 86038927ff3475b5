"""A session as one story: what happened in sentences, with what ran, what was decided, and what it printed when."""

import codecs
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.models import User

from audit import sentences
from audit.erasing import KINDS_OF
from audit.models import AuditErasure, AuditEvent, AuditPayload
from shellagent.admin_plans import decisions_of, plan_steps, requests_of
from shellagent.models import ShellSession
from shellagent.services import may_erase
from shellagent.services.recording import STREAMS
from shellagent.states import Status

#: A story of more lines than this is read in the trail itself, page by page.
LINES_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """One event as a sentence."""

    event: AuditEvent
    text: str
    #: A person's or a host's own words, and from where it came.
    words: str
    origin: str
    #: Seconds since the line before, where that is worth a remark.
    pause: str


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece of output and when the server had it, in milliseconds since the start."""

    stream: str
    at_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Gone:
    """What is no longer stored, since when, and why."""

    part: str
    erased_at: datetime
    #: None where it aged out.
    erasure: AuditErasure | None


def story_context(session: ShellSession, reader: User) -> dict[str, Any]:
    """Return the template's values for the story of a session."""
    events = list(AuditEvent.objects.filter(session_id=session.pk).order_by("session_seq")[: LINES_MAX + 1])
    request = requests_of([session]).get(session.pk)
    frames = output_frames(session)
    return {
        "session": session,
        "status": Status(session.status),
        "is_over": Status(session.status).is_terminal,
        "lines": story_lines(events[:LINES_MAX]),
        "has_more_lines": len(events) > LINES_MAX,
        "steps": plan_steps(request.plan) if request else [],
        "request_stored": request,
        # Taken again, a decision mostly says the same.
        "explanations": list(
            dict.fromkeys(item.get("explanation", "") for item in decisions_of([session]).get(session.pk, []))
        ),
        "frames": frames,
        "length_ms": frames[-1].at_ms if frames else 0,
        "may_export": reader.has_perm("audit.export_audit"),
        **erasing_context(session, reader),
    }


def erasing_context(session: ShellSession, reader: User) -> dict[str, Any]:
    """Return what is gone of a session, which wish waits, and what the reader may do about either."""
    erasures = list(AuditErasure.objects.filter(session_id=session.pk).order_by("pk"))
    waiting = next((wish for wish in erasures if wish.state == AuditErasure.State.WAITING), None)
    stored = set(AuditPayload.objects.filter(session_id=session.pk, erased_at=None).values_list("kind", flat=True))
    parts = [
        (part.value, part.label)
        for part in AuditErasure.Part
        if stored.intersection(kind.value for kind in KINDS_OF[part])
    ]
    return {
        "gone": what_is_gone(session, erasures),
        "wish": waiting,
        "may_erase": may_erase(reader) and Status(session.status).is_terminal,
        "may_confirm": bool(waiting and waiting.requested_by_id != reader.pk),
        "erasable": parts,
    }


def what_is_gone(session: ShellSession, erasures: Sequence[AuditErasure]) -> list[Gone]:
    """Return which parts were erased, by whom or by age."""
    rows = AuditPayload.objects.filter(session_id=session.pk).exclude(erased_at=None)
    found: dict[tuple[str, datetime | None], Gone] = {}
    for kind, erased_at in rows.values_list("kind", "erased_at").order_by("erased_at"):
        if erased_at is None:
            continue
        part = "output" if kind in STREAMS else "request"
        by = next((one for one in erasures if one.decided_at == erased_at), None)
        found.setdefault((part, erased_at if by else None), Gone(part, erased_at, by))
    return list(found.values())


def story_lines(events: Sequence[AuditEvent]) -> list[Line]:
    """Return events as sentences, in order."""
    lines: list[Line] = []
    for event in events:
        body = json.loads(event.body)
        before = lines[-1].event.occurred_at if lines else None
        seconds = (event.occurred_at - before).total_seconds() if before else 0.0
        pause = f"{seconds:.1f} s later" if seconds >= 1 else ""
        lines.append(Line(event, sentences.sentence(body), sentences.detail(body), sentences.origin(body), pause))
    return lines


def output_frames(session: ShellSession) -> list[Frame]:
    """Return the stored output in the order of time. A piece may end inside a character, which the next one ends."""
    rows = AuditPayload.objects.filter(session_id=session.pk, erased_at=None, kind__in=list(STREAMS.values()))
    start = session.started_at or session.created_at
    decoders = {stream: codecs.getincrementaldecoder("utf-8")(errors="replace") for stream in STREAMS}
    ends = dict.fromkeys(STREAMS, 0)
    frames = []
    for kind, offset, data, created_at in rows.order_by("created_at", "kind", "offset").values_list(
        "kind", "offset", "data", "created_at"
    ):
        cut = f"\n[... {offset - ends[kind]} bytes cut ...]\n" if offset > ends[kind] else ""
        text = cut + decoders[kind].decode(bytes(data))
        ends[kind] = offset + len(data)
        if text:
            frames.append(Frame(kind, max(0, round((created_at - start).total_seconds() * 1000)), text))
    last = frames[-1].at_ms if frames else 0
    frames += [Frame(kind, last, rest) for kind in STREAMS if (rest := decoders[kind].decode(b"", final=True))]
    return frames
