"""The cache on Redis, which goes on in this process's memory while Redis cannot be reached."""

import logging
import time
from typing import Any, ClassVar, Final

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)
#: How long Redis is left alone after it failed, so that not every request waits for it.
PAUSE_SECONDS: Final = 5.0
#: A server that does not answer at all must not hold up who asks for longer than this.
_TIMEOUTS: Final = {"socket_connect_timeout": 1, "socket_timeout": 1}


class CountingCache(RedisCache):
    """What is counted here are limits: they count for each process where Redis is gone, as where there is none."""

    #: `time.monotonic()`; of the process and not of the object, because each thread has an object of its own.
    _again_at: ClassVar[float] = 0.0

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, {**params, "OPTIONS": {**_TIMEOUTS, **params.get("OPTIONS", {})}})
        self._memory = LocMemCache("redis-is-gone", params)

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Keep a value where there is none yet, and return whether there was none."""
        return bool(self._either("add", key, value, timeout, version))

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        """Return what is kept, or `default`."""
        return self._either("get", key, default, version)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> None:
        """Keep a value."""
        self._either("set", key, value, timeout, version)

    def incr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        """Count, and return the count. Raises ValueError where nothing is counted under this key."""
        return int(self._either("incr", key, delta, version))

    def delete(self, key: Any, version: Any = None) -> bool:
        """Forget a value, and return whether there was one."""
        return bool(self._either("delete", key, version))

    def _either(self, name: str, *arguments: Any) -> Any:
        if time.monotonic() >= CountingCache._again_at:
            try:
                return getattr(super(), name)(*arguments)
            except RedisError as error:
                CountingCache._again_at = time.monotonic() + PAUSE_SECONDS
                logger.error("Redis cannot be used, and limits are counted for each process alone: %s", error)
        return getattr(self._memory, name)(*arguments)
