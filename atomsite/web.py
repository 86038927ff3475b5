"""The web server's worker: uvicorn's, in C where it counts, under gunicorn's master."""

import ctypes
import gc
import time
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from atomsite.leash import stop_without_parent
from shellagent import wake

#: glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in bytes, and M_ARENA_MAX (malloc.h).
_MALLOC: Final = {-1: 128 * 1024, -3: 64 * 1024, -8: 2}
#: How long requests that are being answered may take once the server is told to stop.
GRACE_SECONDS: Final = 2


class _Server(Server):
    """uvicorn's server. Told to stop, it has held requests answer at once: else it would wait for the longest."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        wake.close()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Do what is done ten times a second; returns whether to end.

        uvicorn reckons by the time of day when it last told the master that it lives. Under a clock that was set back
        it would be silent until the time comes again, and the master would kill it after a minute.
        """
        if self.last_notified > time.time():
            self.last_notified = 0.0
        return await super().on_tick(counter)


class Worker(UvicornWorker):  # type: ignore[misc]  # the package ships no types
    """What `worker_class` in gunicorn.conf.py names."""

    CONFIG_KWARGS: Final[dict[str, Any]] = {
        "loop": "uvloop",
        "http": "httptools",
        "ws": "none",
        "lifespan": "off",
        "access_log": False,
        "server_header": False,
        "date_header": True,
        "proxy_headers": False,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }

    def init_process(self) -> None:
        """Begin to serve, and stop when the master is gone, however it went."""
        stop_without_parent(self.ppid)
        super().init_process()

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = _Server(config=self.config)
        # Imported here, because the models can be only once the application is loaded.
        from django.urls import get_resolver  # noqa: PLC0415

        from audit.sealer import Sealer  # noqa: PLC0415
        from shellagent.services import hosts_in_best_effort  # noqa: PLC0415

        Sealer(best_effort=hosts_in_best_effort).start()
        self._install_sigquit_handler()
        get_resolver().url_patterns  # noqa: B018 - read for what it loads
        _stay_small()
        await server.serve(sockets=self.sockets)


def _stay_small() -> None:
    """Set what is loaded aside, and look for garbage among the rest, which is little, sooner than Python would.

    Answers hold themselves in cycles. A long list is 3 MiB of them, and a dozen such lists lay about before the
    collector came to them. And glibc gives back what is free at once, and keeps no heaps for each thread.
    """
    gc.collect()
    gc.freeze()
    young, middle, _old = gc.get_threshold()
    gc.set_threshold(young, middle, 2)
    with suppress(AttributeError, OSError):  # another C library has other ways
        c_library = ctypes.CDLL(None)
        for option, value in _MALLOC.items():
            c_library.mallopt(option, value)
