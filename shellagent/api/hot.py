"""The hot calls as the clerk answers them: an agent's request, and a host's poll, start and record.

They are those of `shellagent.api.execute` and `shellagent.api.host`, by the same services and with the same errors.
What is not plainly one of them is left to the views: another path, a form, a browser, a body that is not right.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final, TypeVar
from uuid import UUID

from django.db import DatabaseError
from django.utils import timezone
from rest_framework.exceptions import APIException, Throttled
from rest_framework.settings import api_settings

from audit.key_files import KeyFileError
from audit.standing import is_failure
from governance import keys
from governance.authentication import agent_caller
from governance.errors import NotFoundError
from shellagent import limits, protocol, queries, wake
from shellagent.api.access import NO_SESSION, may_ask_now, seconds_to_next_minute
from shellagent.api.execute import ask_of, denied, idempotency_of
from shellagent.api.host import message_of
from shellagent.authentication import host_of_key
from shellagent.clerk import TOLD, Answer, Call, Listen
from shellagent.models import Host, ShellSession
from shellagent.representation import Json, ended_json, kept_json, session_json, without_digests
from shellagent.services import (
    Asker,
    Kept,
    just_ended,
    session_expire,
    session_request,
    sessions_record,
    sessions_request,
    sessions_start,
)
from shellagent.services.polling import HostPoll
from shellagent.states import TERMINAL, Status
from shellagent.waiting import place

Message = TypeVar("Message")

_TEXTS: Final = {
    "command": limits.COMMAND_MAX_BYTES,
    "working_directory": 4096,
    "host": 60,
    "reason": limits.REASON_MAX_CHARACTERS,
}
#: Texts whose outer blanks the serializer keeps.
_AS_THEY_ARE: Final = ("command", "working_directory")
_NUMBERS: Final = {
    "timeout_seconds": (1, limits.TIMEOUT_MAX_SECONDS),
    "wait_seconds": (0, limits.WAIT_MAX_SECONDS),
}


def hot_call(method: str, path: str, query: bytes, headers: Mapping[bytes, bytes], body: bytes) -> Call | None:
    """Return a request as a call for the clerk, or None where it is one for the views."""
    if method == "GET":
        return _waiting(path, query, headers)
    make = _CALLS.get(path) if method == "POST" else None
    if make is None or headers.get(b"accept", b"*/*") not in (b"*/*", b"application/json"):
        return None
    is_json = headers.get(b"content-type", b"").partition(b";")[0].strip() == b"application/json"
    key = _key(headers)
    return make(key, body, headers) if key and is_json else None


def _waiting(path: str, query: bytes, headers: Mapping[bytes, bytes]) -> Call | None:
    place, asked = _SESSION.fullmatch(path), _WAIT.fullmatch(query)
    if place is None or asked is None or headers.get(b"accept", b"*/*") not in (b"*/*", b"application/json"):
        return None
    key, seconds = _key(headers), int(asked[1])
    is_agent = keys.kind_of(key) is keys.KeyKind.AGENT
    return WaitCall(key, UUID(place[1]), seconds) if is_agent and 0 < seconds <= limits.WAIT_MAX_SECONDS else None


def _key(headers: Mapping[bytes, bytes]) -> str:
    """Return the Bearer key, or an empty text for a header that only the views can answer."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.decode() if scheme.lower() == b"bearer" and _is_key(key) else ""


def _is_key(key: bytes) -> bool:
    return key.replace(b"_", b"").replace(b"-", b"").isalnum()


class _HotCall(Call):
    """A call that shows a key."""

    realm = "atom"

    def __init__(self, key: str) -> None:
        self.key = key

    def failed(self, error: Exception) -> Answer:
        if isinstance(error, APIException) and error.status_code == 401:
            error.auth_header = f'Bearer realm="{self.realm}"'  # type: ignore[attr-defined]
        handle: Any = api_settings.EXCEPTION_HANDLER
        response = handle(error, {})
        headers = [(name.lower().encode(), value.encode()) for name, value in response.headers.items()]
        headers = [item for item in headers if item[0] != b"content-type"]
        content_type = (b"content-type", (response.content_type or "application/json").encode())
        return Answer(response.status_code, _json(response.data), (content_type, *headers))


class _SessionCall(_HotCall):
    """A call that may wait for the end of a session."""

    def __init__(self, key: str, wait_seconds: int) -> None:
        super().__init__(key)
        self.wait_seconds = wait_seconds
        self.may_be_held = wait_seconds > 0
        self.session_id: UUID | None = None
        self.is_replay = False
        #: The session as its request left it, where this call made it.
        self.kept: Kept | None = None
        self._place = ExitStack()

    def look(self) -> Answer | None:
        if self.session_id is None:
            raise LookupError("the request was not kept")
        ended = just_ended(self.session_id)
        if ended is not None and self.kept is not None and _is_as_kept(ended.session, self.kept.session):
            return self._answer(ended.session, ended_json(ended, self.kept))
        session = _up_to_now(queries.session_with(self.session_id))
        if session.status not in TERMINAL and wake.remaining_seconds(self.until) > 0:
            return None
        return self._answer(session, session_json(session))

    def close(self) -> None:
        self._place.close()

    def _hold(self, session: ShellSession, listen: Listen, asker: Asker) -> bool:
        """Return whether the call waits for the end of its session, within the caps on waiting."""
        self._place.close()
        has_to_wait = self.wait_seconds > 0 and session.status not in TERMINAL
        if not has_to_wait or not self._place.enter_context(place(asker.scope)):
            return False
        self.session_id = session.pk
        self.until = time.monotonic() + self.wait_seconds
        listen(wake.session_channel(session.pk))
        return True

    def _answer(self, session: ShellSession, shown: Json) -> Answer:
        status = 200 if Status(session.status).is_terminal else 202
        replayed = ((b"idempotent-replayed", b"true"),) if self.is_replay else ()
        return Answer(status, _json(without_digests(shown)), (_JSON, *replayed))


class ExecuteCall(_SessionCall):
    """An agent asks for a command, and waits for its end if it wants to."""

    def __init__(self, key: str, values: Json, idempotency_key: str) -> None:
        super().__init__(key, values["wait_seconds"])
        self.values = values
        self.idempotency_key = idempotency_key

    @classmethod
    def make(cls, key: str, body: bytes, headers: Mapping[bytes, bytes]) -> "ExecuteCall | None":
        """Return the call, or None for a body that has to be read by the view."""
        if len(body) > limits.BODY_MAX_BYTES:
            return None
        values = _values(body)
        return None if values is None else cls(key, values, headers.get(b"idempotency-key", b"").decode("latin-1"))

    @classmethod
    def begin_all(cls, calls: Sequence[tuple["ExecuteCall", Listen]]) -> list[Answer | Exception | None]:
        askers: dict[str, Asker | Exception] = {}
        asked: list[tuple[ExecuteCall, Listen, Asker]] = []
        found: dict[ExecuteCall, Answer | Exception | None] = {}
        for call, listen in calls:
            if call.key not in askers:
                askers[call.key] = _asker(call.key)
            asker = askers[call.key]
            if isinstance(asker, Exception):
                found[call] = asker
            elif not may_ask_now(asker.agent_id):
                found[call] = Throttled(wait=seconds_to_next_minute())
            elif call.idempotency_key:
                found[call] = call.begin_once(listen, asker)
            else:
                asked.append((call, listen, asker))
        kept = sessions_request([(ask_of(call.values), asker) for call, _listen, asker in asked])
        for (call, listen, asker), item in zip(asked, kept, strict=True):
            found[call] = item if isinstance(item, Exception) else call.begun(item, listen, asker)
        return [found[call] for call, _listen in calls]

    def begin(self, listen: Listen) -> Answer | None:
        raise NotImplementedError

    def failed(self, error: Exception) -> Answer:
        if self.is_held and self.kept is not None:
            # Told that nothing was done, who asked would ask again, and it would run twice.
            return self._answer(self.kept.session, kept_json(self.kept, with_terms=False))
        return super().failed(error)

    def begin_once(self, listen: Listen, asker: Asker) -> Answer | Exception | None:
        """Begin a call that shows an Idempotency-Key."""
        try:
            idempotency = idempotency_of(self.idempotency_key, self.values)
            session, self.is_replay = session_request(ask=ask_of(self.values), asker=asker, idempotency=idempotency)
        except TOLD as error:
            return error
        if session.status == Status.DENIED:
            return denied(session, is_replay=self.is_replay)
        return None if self._hold(session, listen, asker) else self._answer(session, session_json(session))

    def begun(self, kept: Kept, listen: Listen, asker: Asker) -> Answer | Exception | None:
        """Answer or hold a request that was just kept."""
        session = kept.session
        if session.status == Status.DENIED:
            return denied(session, is_replay=False)
        if self._hold(session, listen, asker):
            self.kept = kept
            return None
        return self._answer(session, kept_json(kept))


class WaitCall(_SessionCall):
    """An agent waits for the end of one of its sessions."""

    def __init__(self, key: str, wanted: UUID, wait_seconds: int) -> None:
        super().__init__(key, wait_seconds)
        self.wanted = wanted

    def begin(self, listen: Listen) -> Answer | None:
        asker = Asker.agent(agent_caller(self.key))
        # Before the look, so that no end between the two is missed.
        listen(wake.session_channel(self.wanted))
        session = queries.session_of_agent(self.wanted, asker.agent_id)
        if session is None:
            raise NotFoundError(NO_SESSION)
        session = _up_to_now(session)
        return None if self._hold(session, listen, asker) else self._answer(session, session_json(session))

    def _answer(self, session: ShellSession, shown: Json) -> Answer:
        return Answer(200, _json(without_digests(shown)), (_JSON,))


def _up_to_now(session: ShellSession) -> ShellSession:
    """Return a session as it is now: expired, where its time is over and nobody has said so yet."""
    if session.expires_at and session.expires_at <= timezone.now() and session_expire(session.pk):
        return queries.session_with(session.pk)
    return session


def _is_as_kept(ended: ShellSession, kept: ShellSession) -> bool:
    """Return whether a session ran by the decision that was taken when it was asked for, and by that alone."""
    return not ended.approval_required and ended.circumstances == kept.circumstances


def _asker(key: str) -> Asker | Exception:
    try:
        return Asker.agent(agent_caller(key))
    except TOLD as error:
        return error


def _values(body: bytes) -> Json | None:
    """Return what the serializer would make of a body, or None where it has to be asked."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if type(data) is not dict or not all(_is_plain(name, value) for name, value in data.items()):
        return None
    return {"timeout_seconds": limits.TIMEOUT_DEFAULT_SECONDS, "wait_seconds": 0, **data}


def _is_plain(name: str, value: object) -> bool:
    if type(value) is str:
        is_trimmed = name in _AS_THEY_ARE or value == value.strip()
        return name in _TEXTS and 0 < len(value) <= _TEXTS[name] and value.isprintable() and is_trimmed
    if type(value) is int:
        least, most = _NUMBERS.get(name, (1, 0))
        return least <= value <= most
    return False


class _HostCall(_HotCall):
    """A host's call."""

    realm = "atom-host"

    def __init__(self, key: str, body: bytes) -> None:
        super().__init__(key)
        self.body = body

    @classmethod
    def make(cls, key: str, body: bytes, headers: Mapping[bytes, bytes]) -> "_HostCall | None":
        """Return the call, or None for a body that the view refuses."""
        return cls(key, body) if len(body) <= limits.HOST_BODY_MAX_BYTES else None

    def host(self) -> Host:
        """Return the host that is calling."""
        return host_of_key(self.key)


class PollCall(_HostCall):
    """A host's poll, held while there is nothing to say."""

    poll: HostPoll | None = None
    may_be_held = True

    def begin(self, listen: Listen) -> Answer | None:
        # Begun again, nothing that it knows of its host is written.
        self.poll = None
        poll = self._poll()
        self.until = poll.until
        if poll.hold_seconds:
            listen(wake.host_channel(poll.host.pk))
        return _said(poll.arrive())

    def look(self) -> Answer | None:
        return _said(self._poll().look())

    def failed(self, error: Exception) -> Answer:
        # A host is told that the trail cannot be written, and what runs there is stopped.
        if is_failure(error):
            with suppress(*TOLD, DatabaseError, KeyFileError):
                # Where no transaction could begin, nobody has looked yet who is calling.
                if said := _said(self._poll().failed(error)):
                    return said
        return super().failed(error)

    def _poll(self) -> HostPoll:
        if self.poll is None:
            self.poll = HostPoll(self.host(), message_of(self.body, protocol.PollRequest))
        return self.poll


class StartCall(_HostCall):
    """A host asks for the start of what it claimed."""

    def begin(self, listen: Listen) -> Answer | None:
        return _said(sessions_start(host=self.host(), request=message_of(self.body, protocol.StartRequest)))

    def look(self) -> Answer | None:
        raise NotImplementedError


class RecordCall(_HostCall):
    """A host reports what became of its sessions."""

    def begin(self, listen: Listen) -> Answer | None:
        return _said(sessions_record(host=self.host(), request=message_of(self.body, protocol.RecordRequest)))

    def look(self) -> Answer | None:
        raise NotImplementedError


def _said(message: object | None) -> Answer | None:
    return None if message is None else Answer(200, _json(protocol.encode(message)), (_JSON,))


def _json(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


_SESSION: Final = re.compile(r"/api/local-agent/sessions/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_WAIT: Final = re.compile(rb"wait_seconds=([0-9]{1,2})")
_JSON: Final = (b"content-type", b"application/json")
_CALLS: Final[Mapping[str, Callable[[str, bytes, Mapping[bytes, bytes]], Call | None]]] = {
    "/api/local-agent/execute": ExecuteCall.make,
    "/api/host/poll": PollCall.make,
    "/api/host/start": StartCall.make,
    "/api/shell/log": RecordCall.make,
}
