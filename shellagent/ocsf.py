"""Sessions' events in the Open Cybersecurity Schema Framework, class 1007 (Process Activity), a JSON line each.

Only what happens to sessions is a process's activity: the other events of the trail have no place in this class, and
are in the other forms of export. `process.uid` is the session's id, which an activity has before there is a process.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Any, Final
from uuid import UUID

from audit import sentences
from audit.models import AuditPayload
from audit.selecting import SealedEvent, Selection, sealed_events
from audit.tags import Tag
from audit.trail import payloads_of

VERSION: Final = "1.3.0"
_CLASS: Final = 1007
#: Events whose commands are looked up at a time.
_BATCH: Final = 200


class Activity(IntEnum):
    """What a process did, as the class numbers it."""

    LAUNCH = 1
    TERMINATE = 2
    OTHER = 99


class _Status(IntEnum):
    SUCCESS = 1
    FAILURE = 2
    OTHER = 99


_ENDS: Final[Mapping[str, _Status]] = {
    Tag.SESSION_SUCCEEDED: _Status.SUCCESS,
    Tag.SESSION_FAILED: _Status.FAILURE,
    Tag.SESSION_TIMED_OUT: _Status.FAILURE,
    Tag.SESSION_ABORTED: _Status.FAILURE,
    Tag.SESSION_LOST: _Status.FAILURE,
}
_DENIED: Final = (Tag.SESSION_DENIED, Tag.SESSION_REJECTED, Tag.SESSION_REFUSED)
#: Severities: 1 informational, 2 low, 3 medium.
_SEVERITY: Final[Mapping[str, int]] = {**dict.fromkeys(_ENDS, 2), Tag.SESSION_SUCCEEDED: 1, **dict.fromkeys(_DENIED, 3)}


def ocsf_pieces(selection: Selection, until: int) -> Iterator[bytes]:
    """Yield the events of sessions that pass, a line each, in the order of the log."""
    if selection.about not in ("", "session"):
        return
    events = sealed_events(replace(selection, about="session"), until)
    while batch := list(itertools.islice(events, _BATCH)):
        bodies = [json.loads(event.body) for event in batch]
        commands = _commands([UUID(body["session_id"]) for body in bodies if body["session_id"]])
        lines = (_event(event, body, commands) for event, body in zip(batch, bodies, strict=True))
        yield b"".join((json.dumps(line, ensure_ascii=False) + "\n").encode() for line in lines)


def _commands(sessions: Sequence[UUID]) -> dict[str, str]:
    """Return the commands that are still stored, by session."""
    rows = payloads_of(sorted(set(sessions)), AuditPayload.Kind.REQUEST) if sessions else []
    stored = [(row.session_id, json.loads(row.data)) for row in rows]
    return {str(session): said["command"] or " ".join(said["argv"] or ()) for session, said in stored}


def _event(event: SealedEvent, body: Mapping[str, Any], commands: Mapping[str, str]) -> dict[str, Any]:
    tag, data, about = body["tag"], body["data"], body["about"]
    activity = Activity.LAUNCH if tag == Tag.SESSION_RUNNING else Activity.OTHER
    activity = Activity.TERMINATE if tag in _ENDS else activity
    session, status = body["session_id"], _ENDS.get(tag, _Status.OTHER)
    status = _Status.SUCCESS if activity is Activity.LAUNCH else status
    line: dict[str, Any] = {
        "activity_id": activity.value,
        "activity_name": activity.name.capitalize() if activity is not Activity.OTHER else tag,
        "category_uid": 1,
        "category_name": "System Activity",
        "class_uid": _CLASS,
        "class_name": "Process Activity",
        "type_uid": _CLASS * 100 + activity.value,
        "time": body["time_us"] // 1000,
        "severity_id": _SEVERITY.get(tag, 1),
        "status_id": status.value,
        "status": body["outcome"] or tag,
        "message": sentences.sentence(body),
        "actor": _actor(body["actor"]),
        "device": {"type_id": 0, "uid": str(about["host"]) if about["host"] else "", "name": _host(body)},
        "process": {"uid": session, **({"cmd_line": commands[session]} if session in commands else {})},
        "metadata": {
            "version": VERSION,
            "uid": str(event.uid),
            "log_name": "audit",
            "sequence": event.leaf,
            "product": {"name": "Atom Local Agent", "vendor_name": "Atom"},
        },
        "unmapped": {
            "tag": tag,
            "leaf": event.leaf,
            "sha256": event.hash,
            "session_seq": body["session_seq"],
            "agent_id": about["agent"],
            "category": about["category"],
        },
    }
    if tag in _DENIED or activity is Activity.LAUNCH:
        line |= {"action_id": 1 if activity is Activity.LAUNCH else 2, "metadata": _controlled(line["metadata"])}
    if activity is Activity.TERMINATE:
        codes = [code for code in data.get("exit_codes") or () if code is not None]
        line |= {"exit_code": codes[-1]} if codes else {}
        line |= {"duration": data["duration_us"] // 1000} if "duration_us" in data else {}
    return line


def _controlled(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata that say that the event also tells what a control did: allowed (1) or denied (2)."""
    return {**metadata, "profiles": ["security_control"]}


def _actor(party: Mapping[str, str]) -> dict[str, Any]:
    name = party["label"] or party["type"]
    if party["type"] in ("system", "host"):
        return {"app_name": name, **({"app_uid": party["id"]} if party["id"] else {})}
    # Types of users: 1 is a person, and 99 another one, which `type` names.
    kind = {"type_id": 1} if party["type"] == "user" else {"type_id": 99, "type": party["type"].capitalize()}
    return {"user": {"name": name, "uid": f"{party['type']}:{party['id']}", **kind}}


def _host(body: Mapping[str, Any]) -> str:
    for party in (body["actor"], body["subject"]):
        if party["type"] == "host":
            return str(party["label"])
    return str(body["data"].get("host") or "")
