"""What agents ask for again and again is read and judged once.

Reading and deciding are pure, so the same request under the same circumstances is the same plan, the same decision and
the same bytes to store. A few hundred short ones are kept in memory; what is written for a session is its own all the
same: its rows, its salts, its event.
"""

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Final, TypeVar

from governance.policy.types import Decision
from shellagent.models import ShellSession
from shellagent.services.deciding import Circumstances, Spec, StoredRequest, decision_text, spec_digest
from shellagent.services.reading import Ask, request_read

Value = TypeVar("Value")
_Key = tuple[object, ...]

MOST_KEPT: Final = 256
#: Longer ones are seldom the same twice.
LONGEST_KEPT: Final = 512


@dataclass(frozen=True, slots=True)
class Judged:
    """A request and what governance says of it, with the bytes that are stored of both, and the digest of what runs."""

    request: StoredRequest
    decision: Decision
    spec: Spec
    request_data: bytes
    decision_data: bytes
    digest: str


def request_read_once(ask: Ask) -> StoredRequest:
    """Return what `request_read` does, from memory where the same was asked for before. Raises what it raises."""
    key = _key(ask)
    request = _read.get(key) if key else None
    if request is None:
        request = request_read(ask)
        if key:
            _keep(_read, key, request)
    return request


def request_judge(
    ask: Ask, request: StoredRequest, session: ShellSession, circumstances: Circumstances, digest: str
) -> Judged:
    """Return the decision on a request that was read from `ask`, for a session that is not decided on yet.

    `digest` is that of the circumstances: another whenever a decision could be another, so it stands for them here.
    """
    key = _key(ask)
    if key:
        key = (*key, digest, session.working_directory, session.host_id)
    judged = _judged.get(key) if key else None
    if judged is None:
        decision = circumstances.decide(request, session.working_directory)
        spec = Spec.of(decision)
        judged = Judged(
            request,
            decision,
            spec,
            request.to_data(),
            decision_text(decision),
            spec_digest(spec, request, session),
        )
        # What went wrong inside may go right the next time.
        if key and not decision.has_rule("engine-error"):
            _keep(_judged, key, judged)
    return judged


def _key(ask: Ask) -> _Key:
    """Return all that is asked for, empty for a request that is not kept."""
    size = len(ask.command or "") + sum(map(len, ask.argv or ())) + len(ask.reason)
    return () if ask.env or size > LONGEST_KEPT else _all_but_env(ask)


def _keep(kept: dict[_Key, Value], key: _Key, value: Value) -> None:
    if len(kept) >= MOST_KEPT:
        kept.clear()
    kept[key] = value


_all_but_env: Final = attrgetter(*(item.name for item in fields(Ask) if item.name != "env"))
_read: dict[_Key, StoredRequest] = {}
_judged: dict[_Key, Judged] = {}
