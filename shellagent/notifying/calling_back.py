"""What a callback says, and what it is signed with."""

import json
from datetime import datetime, timedelta
from typing import Any, Final

from audit.models import AuditPayload
from audit.trail import payloads_of
from shellagent.models import ShellSession
from shellagent.notifying import at_rest
from shellagent.notifying.callbacks import callback_problem
from shellagent.notifying.models import CallbackSecret, Message, Sink
from shellagent.notifying.parcels import Parcel
from shellagent.representation import session_json, without_digests
from shellagent.services.deciding import StoredRequest

#: How long the secret before the last one signs too.
OVERLAP: Final = timedelta(days=1)
BODY_MAX_BYTES: Final = 64 * 1024
#: What is left out of a body that is too large, until it fits.
_LARGE: Final = ("decision", "plan", "env", "argv", "command", "reason", "termination_detail", "scripts")
_OUTPUT: Final = ("stdout", "stderr")


class CallbackError(ValueError):
    """A callback cannot be sent any more. The text says why."""


def callback_parcel(message: Message, now: datetime) -> Parcel:
    """Return the callback of a session. Raises CallbackError where its request or secret is gone, KeyFileError."""
    session = ShellSession.objects.select_related("agent", "host").filter(pk__in=[message.session_id]).first()
    stored = payloads_of([session.pk], AuditPayload.Kind.REQUEST) if session else []
    if session is None or not stored:
        raise CallbackError("The request was erased, and with it where to call.")
    url = StoredRequest.read(stored[0].data).callback_url
    if problem := callback_problem(url, session.agent_id):
        raise CallbackError(problem)
    secrets = secrets_of(session.agent_id, now)
    if not secrets:
        raise CallbackError("The agent's secret for callbacks is gone.")
    data = without_digests(session_json(session))
    return Parcel(message.name, Sink.Way.WEBHOOK, url, body=body_of(data, now), secrets=secrets)


def secrets_of(agent_id: int, now: datetime) -> tuple[str, ...]:
    """Return what an agent's callbacks are signed with, the newest first."""
    row = CallbackSecret.objects.filter(agent_id=agent_id).first()
    if row is None:
        return ()
    is_overlap = bool(row.previous and row.previous_until and now < row.previous_until)
    return tuple(at_rest.opened(text) for text in ([row.secret, row.previous] if is_overlap else [row.secret]))


def body_of(session: dict[str, Any], now: datetime) -> str:
    """Return the body: the session without its output, and where it is large without its largest members too."""
    data = {name: value for name, value in session.items() if name not in _OUTPUT}
    left_out: list[str] = []
    while True:
        body = json.dumps(
            {"type": "command.ended", "timestamp": now.isoformat(), "data": {**data, "left_out": left_out}}
        )
        if len(body.encode()) <= BODY_MAX_BYTES or len(left_out) == len(_LARGE):
            return body
        name = _LARGE[len(left_out)]
        data[name] = None
        left_out.append(name)
