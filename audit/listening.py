"""Who else is told of events, in the transaction that writes them: what stands above the trail, and it alone.

A listener writes what it wants to keep and returns; what takes time it does after the commit, elsewhere. Where it
fails, the transaction fails with it: what was to be told is never lost without anybody knowing.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from audit.tags import Tag

if TYPE_CHECKING:
    from audit.trail import Event, Receipt

Told = Sequence[tuple["Event", "Receipt"]]
Listener = Callable[[Told], None]

_listeners: dict[Listener, frozenset[Tag]] = {}
_wanted: frozenset[Tag] = frozenset()


def listen(tags: Collection[Tag], listener: Listener) -> None:
    """Tell this listener of every event with one of these tags."""
    global _wanted  # noqa: PLW0603  (the tags of all listeners, so that most events cost one look)
    _listeners[listener] = frozenset(tags)
    _wanted = frozenset().union(*_listeners.values())


def tell(events: "Sequence[Event]", receipts: "Sequence[Receipt]") -> None:
    """Tell whoever listens of events that were just written."""
    told = [pair for pair in zip(events, receipts, strict=True) if pair[0].tag in _wanted]
    if told:
        for listener, tags in _listeners.items():
            if wanted := [pair for pair in told if pair[0].tag in tags]:
                listener(wanted)
