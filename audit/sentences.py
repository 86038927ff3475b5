"""Each event as a sentence, from its body alone, so that a session's events read as one story.

The words are text that may come from anybody: whoever shows a sentence escapes it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from audit.tags import Tag

Body = Mapping[str, Any]


def sentence(body: Body) -> str:
    """Return what a body tells, with who did it. An event of a later release is told by its tag."""
    tell = _TELLERS.get(body["tag"])
    return tell(body) if tell else f"{_who(body)}: {body['tag']}."


def detail(body: Body) -> str:
    """Return the words of a person or a host that come with an event, or an empty text."""
    data = body["data"]
    if "duration_us" in data:
        return ""  # A result's reason is a word of the protocol, and the sentence tells it.
    return str(data.get("reason") or data.get("why") or data.get("detail") or "")


def origin(body: Body) -> str:
    """Return from where it came, or an empty text."""
    found = body.get("origin")
    if not found:
        address = body["data"].get("address")
        return f"from {address}" if address else ""
    return f"from {found['address'] or 'an unknown address'}" + (
        f", {found['user_agent']}" if found["user_agent"] else ""
    )


def _who(body: Body) -> str:
    actor = body["actor"]
    if actor["type"] == "system":
        return "The product"
    kinds = {"agent": "The agent ", "host": "The host ", "user": ""}
    return f"{kinds.get(actor['type'], '')}{actor['label'] or actor['type']}"


def _unsound(body: Body) -> str:
    first = "".join(str(finding["what"]) for finding in body["data"].get("findings", [])[:1])
    said = "cannot be said to be sound" if body["outcome"] == "incomplete" else "is not what was written"
    return f"The trail {said}: {first}."


def _whom(body: Body) -> str:
    subject = body["subject"]
    return str(subject["label"] or subject["id"])


def _plain(text: str) -> Callable[[Body], str]:
    """Return a teller of a text in which {who} and {whom} stand for the parties and {name} for the data's own."""

    def tell(body: Body) -> str:
        return text.format_map(_Words({**body["data"], "who": _who(body), "whom": _whom(body)}))

    return tell


class _Words(dict[str, Any]):
    """What a text asks for. Data that an older event lacks is told as unknown."""

    def __missing__(self, key: str) -> str:
        return "(not said)"


def _rules(body: Body) -> str:
    names = body["data"].get("rules") or []
    return f" Rules: {', '.join(names)}." if names else ""


def _asked(body: Body) -> str:
    data = body["data"]
    return f"{_who(body)} asked for a {data.get('category')} command on {data.get('host')}, as {data.get('maturity')}."


def _arrived(first: str, later: str) -> Callable[[Body], str]:
    """Return a teller for a state that a request can begin in and that a later decision can lead to."""

    def tell(body: Body) -> str:
        is_request = "request_commitment" in body["data"]
        words = f"{_asked(body)} {first}" if is_request else later.format(who=_who(body))
        return f"{words}{_rules(body)}"

    return tell


def _queued(body: Body) -> str:
    data = body["data"]
    if "request_commitment" in data:
        return f"{_asked(body)} Governance allowed it, and it waits for the host.{_rules(body)}"
    if body["actor"]["type"] == "user":
        said = (
            "governance allows it by itself now" if data.get("outcome") == "allow" else "governance still asks a person"
        )
        return f"{_who(body)} approved it, and it waits for the host. Decided again for that, {said}."
    return f"{_who(body)} put it back into the queue: it was taken and never started."


def _ended(words: str) -> Callable[[Body], str]:
    def tell(body: Body) -> str:
        data = body["data"]
        if "duration_us" not in data:
            return f"{_who(body)} gave it up: {words}."
        codes = ", ".join("not run" if code is None else str(code) for code in data.get("exit_codes") or []) or "none"
        took = f"{data['duration_us'] / 1_000_000:.3f} s"
        sizes = f"{data.get('stdout_bytes')} bytes of output and {data.get('stderr_bytes')} of errors"
        masked = sum((data.get("masked") or {}).values())
        secrets = f" {masked} secrets in it were masked." if masked else ""
        left = f" {len(data['left_behind'])} processes were left behind." if data.get("left_behind") else ""
        return f"{_who(body)} reported: {words}. Exit code {codes}, {took}, {sizes}.{secrets}{left}"

    return tell


def _output(body: Body) -> str:
    segments = body["data"].get("segments") or []
    parts = [f"{item['bytes']} bytes of {item['stream']}" for item in segments]
    return f"{_who(body)} sent {' and '.join(parts) or 'nothing'}."


def _changed(what: str) -> Callable[[Body], str]:
    """Return a teller of what differs between before and after."""

    def tell(body: Body) -> str:
        before, after = body["data"].get("before"), body["data"].get("after")
        if not isinstance(before, Mapping) or not isinstance(after, Mapping):
            verb = "made" if before is None else "changed"
            return f"{_who(body)} {verb} {what} {_whom(body)}: {_short(after)}."
        names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        told = [f"{name} from {_short(before.get(name))} to {_short(after.get(name))}" for name in names]
        return f"{_who(body)} changed {what} {_whom(body)}: {', '.join(told) or 'nothing'}."

    return tell


def _given(body: Body) -> str:
    data = body["data"]
    told = [f"{verb} {', '.join(data[key])}" for key, verb in (("added", "gave"), ("removed", "took")) if data.get(key)]
    return f"{_who(body)} {' and '.join(told)}: {_whom(body)}."


def _enrolled(body: Body) -> str:
    before = body["data"].get("prefix_before")
    new = f" It has a new key; the old one ({before}…) opens nothing any more." if before else " It has its first key."
    return f"The host {_whom(body)} was enrolled.{new}"


def _enabled(body: Body) -> str:
    words = "enabled; its key works" if body["data"].get("is_enabled") else "disabled; its key opens nothing"
    return f"{_who(body)} changed the host {_whom(body)}: {words}."


def _tables(body: Body) -> str:
    data = body["data"]
    if not data.get("before"):
        return f"The program tables are in force for the first time: {len(data.get('after') or {})} files."
    return f"The program tables in force are others: {', '.join(data.get('changed') or [])}."


def _read(body: Body) -> str:
    data = body["data"]
    asked = ", ".join(f"{name} {value}" for name, value in (data.get("asked") or {}).items()) or "all of it"
    times = f", {data['times']} times by now" if data.get("times", 1) > 1 else ""
    return f"{_who(body)} read the trail: {asked}{times}."


def _retired(body: Body) -> str:
    data = body["data"]
    what = f"{data.get('removed')} stored parts ({data.get('part')})"
    return f"The product erased {what} that were older than {data.get('days')} days."


def _password(body: Body) -> str:
    if body["data"].get("only_hashed_again"):
        return f"The password of {_whom(body)} was stored with newer parameters at a login; it is the same."
    return f"{_who(body)} set a new password for {_whom(body)}."


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:119]}…"


_TELLERS: Final[Mapping[str, Callable[[Body], str]]] = {
    Tag.SESSION_DENIED: _arrived("Governance denied it.", "Decided again, as {who} acted, governance denied it."),
    Tag.SESSION_PENDING: _arrived(
        "Governance wants a person to decide.", "Decided again, as {who} took it, governance wants a person to decide."
    ),
    Tag.SESSION_QUEUED: _queued,
    Tag.SESSION_REJECTED: _plain("{who} rejected it."),
    Tag.SESSION_EXPIRED: _plain("Nobody took it in time, and it expired."),
    Tag.SESSION_CANCELLED: _plain("{who} cancelled it before it ran."),
    Tag.SESSION_CLAIMED: _plain("{who} took it."),
    Tag.SESSION_RUNNING: _plain("{who} was granted the start."),
    Tag.SESSION_REFUSED: _ended("it refused to run it, by its own rules"),
    Tag.SESSION_SUCCEEDED: _ended("it ended well"),
    Tag.SESSION_FAILED: _ended("it ended, and not well"),
    Tag.SESSION_TIMED_OUT: _ended("it took longer than it was given, and was killed"),
    Tag.SESSION_ABORTED: _ended("it was stopped while it ran"),
    Tag.SESSION_LOST: _ended("nobody knows whether it ended"),
    Tag.SESSION_OUTPUT: _output,
    Tag.SESSION_CANCEL_REQUESTED: _plain("{who} wants it stopped, and its host was told."),
    Tag.SESSION_SCRIPTS_RECORDED: _plain("{who} told what the scripts hold that would run."),
    Tag.SESSION_APPROVED_BY_ONE: _plain("{who} approved it, {given} of {required}: another person has to as well."),
    Tag.SESSION_DECIDED_AGAIN: lambda body: (
        f"Decided again, as {_who(body)} acted: governance says {body['data'].get('outcome')}, category "
        f"{body['data'].get('category')}.{_rules(body)}"
    ),
    Tag.SESSION_LATE_RESULT: _plain("{who} reported late, after it was given up: {outcome}."),
    Tag.SESSION_RECORD_CONFLICT: _plain("{who} reported {outcome}, but it is {status}: another record stands."),
    Tag.REQUEST_REFUSED: lambda body: f"A request of {_whom(body)} was refused before it was read: {body['outcome']}.",
    Tag.APPROVAL_REFUSED: _plain("{who} wanted to decide on it and may not."),
    Tag.AGENT_CREATED: _plain("{who} registered the agent {whom}, as {maturity}."),
    Tag.AGENT_MATURITY_CHANGED: _plain("{who} changed the maturity of {whom} from {before} to {after}."),
    Tag.AGENT_SUSPENDED: _plain("{who} suspended the agent {whom}."),
    Tag.AGENT_RESUMED: _plain("{who} let the agent {whom} work again."),
    Tag.KEY_ISSUED: _plain("{who} issued the key {prefix}… to {whom}."),
    Tag.KEY_REVOKED: _plain("{who} revoked the key {prefix}… of {whom}."),
    Tag.KEY_REFUSED: lambda body: f"A key of {_whom(body)} was shown that is {body['outcome']}.",
    Tag.HOST_ENROLMENT_ISSUED: _plain("{who} issued an enrolment code for the host {whom}."),
    Tag.HOST_ENROLLED: _enrolled,
    Tag.HOST_CHANGED: _enabled,
    Tag.HOST_STARTED: _plain("{who} started the host {whom}."),
    Tag.HOST_STOPPED: _plain("{who} stopped the host {whom}."),
    Tag.AUDIT_KEY_ROTATED: _plain("{who} made a new key to sign the trail with; what the old one signed stands."),
    Tag.SIGNING_KEY_ROTATED: _plain("{who} made a new key to sign with; hosts learn of it at their next poll."),
    Tag.HOST_KEY_WISHED: _plain("{who} wants the host {whom} to take a new key."),
    Tag.HOST_KEY_ISSUED: _plain("The host {whom} was given a new key; the old one works until the new one is used."),
    Tag.HOST_KEY_REPLACED: _plain("The host {whom} uses its new key; the old one works for a minute more."),
    Tag.HOST_INSTANCE_REFUSED: _plain("A second process used the key of the host {whom}, and was refused."),
    Tag.PROMOTION_PROPOSED: _plain("By its record {whom} earned {after}; a person has to grant it."),
    Tag.PROMOTION_DECLINED: _plain("{who} declined to make {whom} {after}."),
    Tag.PROMOTION_WITHDRAWN: _plain("{whom} is no longer proposed for {after}."),
    Tag.KILL_SWITCH_ON: _plain("{who} switched the kill switch on, for {whom}."),
    Tag.KILL_SWITCH_OFF: _plain("{who} lifted the kill switch for {whom}."),
    Tag.AGENT_HOST_CHANGED: _changed("a host's use by the agent"),
    Tag.AGENT_HOST_DELETED: _plain("{who} took the host {host} from the agent {whom}."),
    Tag.RULE_CHANGED: _changed("the rule"),
    Tag.RULE_DELETED: _plain("{who} removed the rule {whom}."),
    Tag.POLICY_ENGINE_ERROR: _plain("Governance failed inside, so the command was denied."),
    Tag.POLICY_TABLES_CHANGED: _tables,
    Tag.USER_LOGGED_IN: _plain("{who} logged in."),
    Tag.USER_LOGGED_OUT: _plain("{who} logged out."),
    Tag.USER_LOGIN_FAILED: _plain("A login as {whom} failed, by now {attempts_from_there} from that address."),
    Tag.USER_LOCKED_OUT: _plain("Logins as {whom} from that address are locked out for a while."),
    Tag.USER_CREATED: _plain("{who} made the account {whom}."),
    Tag.USER_CHANGED: _changed("the account"),
    Tag.USER_DELETED: _plain("{who} removed the account {whom}."),
    Tag.USER_PASSWORD_CHANGED: _password,
    Tag.USER_CODE_SET: _plain("{who} set up one-time codes."),
    Tag.USER_CODE_REMOVED: _plain("{who} took away the one-time codes of {whom}."),
    Tag.USER_PERMISSIONS_CHANGED: _given,
    Tag.USER_GROUPS_CHANGED: _given,
    Tag.GROUP_CREATED: _plain("{who} made the group {whom}."),
    Tag.GROUP_CHANGED: _plain("{who} renamed the group {before} to {after}."),
    Tag.GROUP_DELETED: _plain("{who} removed the group {whom}."),
    Tag.GROUP_PERMISSIONS_CHANGED: _given,
    Tag.TRAIL_SOUND: _plain("The trail is sound again; it was {was}."),
    Tag.TRAIL_UNSOUND: _unsound,
    Tag.TRAIL_READ: _read,
    Tag.TRAIL_REPLAYED: _plain("{who} read the story of a session of {whom}, and what it printed."),
    Tag.TRAIL_DEGRADED: _plain(
        "The trail could not be written for a time, and {lost} events of hosts in best effort are lost."
    ),
    Tag.TRAIL_RETIRED: _plain("{who} retired the events before leaf {size}, which a bundle holds."),
    Tag.TRAIL_EXPORTED: _plain("{who} exported events as {format}."),
    Tag.ERASURE_REQUESTED: _plain("{who} asked to erase what is stored of it ({part}); a second person has to agree."),
    Tag.ERASURE_REFUSED: _plain("{who} decided against the erasure; everything stays."),
    Tag.ERASURE_DONE: _plain("{who} confirmed the erasure ({part}); the bytes are gone, their commitments stay."),
    Tag.RETENTION_APPLIED: _retired,
    Tag.SINK_CHANGED: _changed("the sink"),
    Tag.SINK_DELETED: _plain("{who} removed the sink {whom}."),
    Tag.SINK_SECRET_ISSUED: _plain("{who} issued a new signing secret for the sink {whom}."),
    Tag.MESSAGE_REDELIVERED: _plain("{who} had the message {whom} sent again to {to}."),
    Tag.PREFERENCE_CHANGED: _plain(
        "{who} set when {whom} is told: quiet from {quiet} ({time_zone}), and {escalate_to} after "
        "{escalate_after_minutes} minutes."
    ),
    Tag.CALLBACK_PLACE_CHANGED: _changed("the callback address"),
    Tag.CALLBACK_PLACE_DELETED: _plain("{who} took the callback address {whom} away."),
    Tag.CALLBACK_SECRET_ISSUED: _plain("{who} issued a new secret for the callbacks of {whom}."),
}
