"""The ASGI entry point that gunicorn loads: hot calls go to the clerk, all others to Django on threads of its own."""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from a2wsgi import WSGIMiddleware
from django.conf import settings

from atomsite.callers import is_plain
from atomsite.wsgi import application as django_application
from shellagent import limits
from shellagent.api.hot import hot_call
from shellagent.clerk import Answer, Call, Clerk

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

THREADS: Final = int(os.environ.get("ATOM_WEB_THREADS") or 12)


class Application:
    """Both halves under one address."""

    def __init__(self) -> None:
        self._django: Any = WSGIMiddleware(django_application, workers=THREADS)  # type: ignore[arg-type]
        self._clerk = Clerk(self._deliver)
        self._waiting: dict[Call, asyncio.Future[Answer]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._django(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limits.HOST_BODY_MAX_BYTES:
            # The views refuse it by its announced length and never read it.
            await self._django(scope, _nothing, send)
            return
        body = await _body(receive)
        if body is None:
            return
        call = None
        if is_plain(scope, headers):
            call = hot_call(scope["method"], scope["path"], scope["query_string"], headers, body)
        if call is None:
            await self._django(scope, _replay(body, receive), send)
        else:
            await self._answer(call, receive, send)

    async def _answer(self, call: Call, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._clerk.start()
        future = self._waiting[call] = loop.create_future()
        self._clerk.take(call)
        if call.may_be_held:
            gone = asyncio.ensure_future(receive())
            try:
                await asyncio.wait((future, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
            if not future.done():
                self._waiting.pop(call, None)
                self._clerk.drop(call)
                return
        answer = await future
        length = (b"content-length", str(len(answer.body)).encode())
        headers = [*answer.headers, length, *_ALWAYS]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _deliver(self, answers: Sequence[tuple[Call, Answer]]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set, answers)

    def _set(self, answers: Sequence[tuple[Call, Answer]]) -> None:
        for call, answer in answers:
            future = self._waiting.pop(call, None)
            if future is not None and not future.done():
                future.set_result(answer)


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body, or None where the client has gone."""
    message = await receive()
    if not message.get("more_body"):
        return message.get("body", b"") if message["type"] == "http.request" else None
    parts, size = [message["body"]], len(message["body"])
    while message.get("more_body"):
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limits.HOST_BODY_MAX_BYTES:
            return None
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body again, and then what the client does."""
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", settings.X_FRAME_OPTIONS.encode()),
    (b"referrer-policy", settings.SECURE_REFERRER_POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"vary", b"Accept"),
)

application = Application()
