"""A server that is away for a moment is asked again, because what was asked for goes on without whoever waits."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from shellagent.client.errors import ThrottledError, UnavailableError

PATIENCE_SECONDS: Final = 30.0

T = TypeVar("T")


def patiently(call: Callable[[], T], *, so_far: str) -> T:
    """Return what `call` does, within 30 s of its first failure. Raises UnavailableError, which says `so_far` too."""
    give_up_at = 0.0
    while True:
        try:
            return call()
        except UnavailableError as error:
            now = time.monotonic()
            give_up_at = give_up_at or now + PATIENCE_SECONDS
            if isinstance(error, ThrottledError) or now >= give_up_at:
                raise UnavailableError(
                    f"{error} {so_far}",
                    retry_after_seconds=error.retry_after_seconds,
                    problem=error.problem,
                    may_have_arrived=error.may_have_arrived,
                ) from error
            time.sleep(max(1.0, error.retry_after_seconds))


def session_patiently(session_id: str, call: Callable[[], T]) -> T:
    """Return what a call about a session does that was taken. Raises UnavailableError, which names it."""
    return patiently(call, so_far=f"Session {session_id} goes on without this: ask for it later by its id.")


def asked_once(ask: Callable[[], T]) -> T:
    """Return what a request does that can be sent again without effect, where its answer was lost on the way.

    Raises UnavailableError at once where it cannot have arrived.
    """
    try:
        return ask()
    except UnavailableError as error:
        if not error.may_have_arrived:
            raise
    return patiently(ask, so_far="Whether the command was taken is not known: look at this agent's newest sessions.")
