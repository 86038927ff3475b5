"""A TCP proxy of our own between hosts or clients and the server, that loses and damages what passes, by a seed."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

#: Closing a socket with this set sends a reset in place of an orderly end.
RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
CHUNK_BYTES: Final = 64 * 1024


class Fate(StrEnum):
    """What becomes of one request and its answer."""

    NOTHING = "nothing"
    DELAY = "request delayed"
    DROP = "request dropped"
    RESET = "request reset"
    LOSE = "answer lost"
    CUT = "answer cut"


#: Of a thousand exchanges; the rest pass.
WEIGHTS: Final = {Fate.DELAY: 40, Fate.DROP: 25, Fate.RESET: 25, Fate.LOSE: 40, Fate.CUT: 30}


@dataclass(slots=True)
class Exchange:
    """A request on its way. `left` is how many bytes of the answer may pass; negative is all of them."""

    fate: Fate = Fate.NOTHING
    left: int = -1
    seconds: float = 0.0
    is_answered: bool = True


class Proxy:
    """Listens on a loopback port of its own for one peer. One thread serves all proxies of a run."""

    def __init__(self, name: str, port: int, target: int, seed: str, counts: "Counter[str]") -> None:
        self.name = name
        self.port = port
        self.is_calm = False
        #: By `time.monotonic`.
        self.cut_off_until = 0.0
        self._target = target
        # No secret is drawn: the same seed is to give the same faults.
        self._random = random.Random(seed)  # noqa: S311
        self._counts = counts
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self) -> asyncio.Server:
        """Start to listen."""
        return await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def cut_off(self, until: float) -> None:
        """Let nothing through until then, and break what is open. To be called on the loop's thread."""
        self.cut_off_until = max(until, self.cut_off_until)
        for writer in list(self._open):
            reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if time.monotonic() < self.cut_off_until:
            reset(writer)
            return
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            reset(writer)
            return
        self._open |= {writer, upstream}
        exchange = Exchange()
        tasks = {
            asyncio.create_task(self._requests(reader, upstream, exchange)),
            asyncio.create_task(self._answers(upstream_reader, writer, exchange)),
        }
        try:
            _done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._open -= {writer, upstream}
            for one in (writer, upstream):
                if exchange.fate in (Fate.RESET, Fate.LOSE):
                    reset(one)
                one.close()

    async def _requests(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, exchange: Exchange) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if exchange.is_answered:
                self._draw(exchange)
                if exchange.fate is Fate.DELAY:
                    await asyncio.sleep(exchange.seconds)
                if exchange.fate is Fate.RESET:
                    return
            if exchange.fate is Fate.DROP:
                # The peer waits for an answer that never comes, as where a packet filter swallows it.
                await asyncio.sleep(exchange.seconds)
                return
            upstream.write(data)
            await upstream.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, exchange: Exchange) -> None:
        while data := await reader.read(CHUNK_BYTES):
            exchange.is_answered = True
            if exchange.fate is Fate.LOSE:
                return
            if 0 <= exchange.left <= len(data):
                writer.write(data[: exchange.left])
                await writer.drain()
                return
            exchange.left -= len(data) if exchange.left >= 0 else 0
            writer.write(data)
            await writer.drain()

    def _draw(self, exchange: Exchange) -> None:
        """Decide about the request that begins now."""
        exchange.is_answered, exchange.left, exchange.fate = False, -1, Fate.NOTHING
        if self.is_calm:
            return
        (exchange.fate,) = self._random.choices(
            [Fate.NOTHING, *WEIGHTS], [1000 - sum(WEIGHTS.values()), *WEIGHTS.values()]
        )
        exchange.seconds = self._random.uniform(0.1, 3.0)
        if exchange.fate is Fate.CUT:
            exchange.left = self._random.randrange(400)
        if exchange.fate is not Fate.NOTHING:
            self._counts[exchange.fate] += 1


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset: what was written and not sent yet is gone."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    writer.transport.abort()


class Proxies:
    """The thread that all proxies of a run are served by."""

    def __init__(self) -> None:
        self.all: dict[str, Proxy] = {}
        self.counts: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _loop, _context: None)
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

    def add(self, name: str, port: int, target: int, seed: str) -> Proxy:
        """Start a proxy and return it once it listens."""
        proxy = self.all[name] = Proxy(name, port, target, seed, self.counts)
        self._servers.append(self._do(proxy.serve()).result(10))
        return proxy

    def cut_off(self, name: str, seconds: float) -> None:
        """Let nothing of this proxy through for a while."""
        self._loop.call_soon_threadsafe(self.all[name].cut_off, time.monotonic() + seconds)

    def calm(self) -> None:
        """Let everything pass from now on."""
        for proxy in self.all.values():
            proxy.is_calm, proxy.cut_off_until = True, 0.0

    def close(self) -> None:
        """Close every connection and end the thread. May be called twice."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(TimeoutError):
            self._do(self._end()).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _do(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)
