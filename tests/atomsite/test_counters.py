"""The cache on Redis: limits are still counted while Redis is gone, and counted there again once it is back."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.cache.backends.redis import RedisCache
from django.test import override_settings
from redis.exceptions import ConnectionError as GoneError

from atomsite import counters
from atomsite.counters import CountingCache
from shellagent.api import access

#: Nobody listens on port 1.
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> CountingCache:
    monkeypatch.setattr(CountingCache, "_again_at", 0.0)
    made = CountingCache(NOWHERE, {})
    made._memory.clear()
    return made


def test_without_redis_it_counts_in_memory(cache: CountingCache, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    assert [cache.add("a", 1), cache.add("a", 1)] == [True, False]
    assert [cache.incr("a"), cache.get("a"), cache.get("b", 0)] == [2, 2, 0]
    cache.set("a", 7)
    assert cache.get("a") == 7
    assert [cache.decr("a"), cache.delete("a"), cache.delete("a")] == [6, True, False]
    with pytest.raises(ValueError, match="not found"):
        cache.incr("b")
    assert [record.getMessage()[:22] for record in caplog.records] == ["Redis cannot be used, "], "once in a pause"


def test_redis_is_left_alone_for_a_while_and_then_asked_again(
    cache: CountingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = [100.0], []

    def add(*arguments: Any) -> bool:
        asked.append(now[0])
        if now[0] < 110:
            raise GoneError("gone")
        return True

    monkeypatch.setattr("atomsite.counters.time.monotonic", lambda: now[0])
    monkeypatch.setattr(RedisCache, "add", add)
    for seconds in (0, 1, counters.PAUSE_SECONDS, 12, 12):
        now[0] = 100.0 + seconds
        cache.add("a", 1)
    assert asked == [100.0, 105.0, 112.0, 112.0]


def test_an_agents_requests_are_capped_all_the_same(cache: CountingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "cache", cache)
    monkeypatch.setattr("shellagent.api.access.time.time", lambda: 0.0)
    with override_settings(ATOM_EXECUTE_PER_MINUTE=2):
        assert [access.may_ask_now(1) for _ in range(3)] == [True, True, False]


def test_a_count_that_stayed_in_redis_begins_anew(cache: CountingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "cache", cache)
    monkeypatch.setattr(RedisCache, "add", lambda *_arguments: False)
    monkeypatch.setattr(cache, "incr", lambda *_arguments: cache._memory.incr("other"))
    assert access.may_ask_now(1)


def test_the_settings_name_it(tmp_path: Path) -> None:
    look = "from atomsite import settings; print(settings.CACHES['default']['BACKEND'])"
    environment = {"PATH": "/usr/bin:/bin", "ATOM_HOME": str(tmp_path), "SECRET_KEY": "k", "REDIS_URL": NOWHERE}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", look],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == f"{CountingCache.__module__}.{CountingCache.__qualname__}"
