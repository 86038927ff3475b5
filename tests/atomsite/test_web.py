"""The web server's worker tells its master that it lives, whatever the clock does."""

import asyncio
import time

from uvicorn.config import Config

from atomsite.web import _Server


def test_a_clock_that_was_set_back_does_not_silence_it() -> None:
    told = []

    async def tell() -> None:
        told.append(True)

    server = _Server(Config(app="", callback_notify=tell, timeout_notify=30))
    server.last_notified = time.time() + 20
    assert asyncio.run(server.on_tick(0)) is False
    assert told
    asyncio.run(server.on_tick(10))
    assert len(told) == 1, "and no more often than it is to"
