"""What happens again and again is told a few times and then counted, so that nobody can flood the trail by it."""

import hashlib
from typing import Final

from django.core.cache import cache

WINDOW_SECONDS: Final = 900


def occurrence(key: str) -> int:
    """Return which time this is within the quarter of an hour that the first time began, from 1.

    It is counted in the cache: over all processes with Redis, for each web process without.
    """
    place = f"told:{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"
    if cache.add(place, 1, timeout=WINDOW_SECONDS):
        return 1
    try:
        return int(cache.incr(place))
    except ValueError:  # It ran out in between.
        cache.set(place, 1, timeout=WINDOW_SECONDS)
        return 1


def is_told(number: int, *, at_first: int) -> bool:
    """Return whether this time gets an event: each of the first ones, then every time that the number has doubled."""
    return number <= at_first or number & (number - 1) == 0
