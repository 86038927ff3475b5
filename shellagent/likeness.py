"""Which of an agent's earlier commands are nearest to this one, and which words differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, Literal
from uuid import UUID

from governance.policy.plan import Plan
from shellagent.models import ShellSession

#: How many of the agent's sessions are looked at, newest first.
LOOKED_AT: Final = 100
#: Longer commands are compared as a whole only: to find what differs takes the square of the words, and an agent
#: chooses them.
WORDS_MAX: Final = 120
#: Less alike than this is another command.
LEAST_ALIKE: Final = 0.4

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Words that stand together, as typed: in both commands, in the earlier one only, or in the present one only."""

    kind: Literal["same", "before", "now"]
    text: str


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier command of the agent's, how often it was asked for, and what differs. `session` is the newest one."""

    session: ShellSession
    pieces: tuple[Piece, ...]
    times: int

    @property
    def is_same(self) -> bool:
        """Return whether it was this command, word by word."""
        return all(piece.kind == "same" for piece in self.pieces)


def words_of(plan: Plan) -> Words:
    """Return a plan's words as they could be typed, operators among them."""
    words: list[str] = []
    for step in plan.steps:
        words += [step.join.value] if step.join else []
        words += ["!"] if step.is_negated else []
        for place, command in enumerate(step.pipeline):
            words += ["|"] if place else []
            words += [command.program_source(), *(word.source() for word in command.argv[1:])]
            words += [redirect.source() for redirect in command.redirects]
    return tuple(words)


def differences(before: Words, now: Words) -> tuple[Piece, ...]:
    """Return both commands as one line of pieces."""
    if before == now:
        return (Piece("same", " ".join(now)),)
    pieces: list[Piece] = []
    for tag, start, end, now_start, now_end in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", " ".join(before[start:end])))
            continue
        if end > start:
            pieces.append(Piece("before", " ".join(before[start:end])))
        if now_end > now_start:
            pieces.append(Piece("now", " ".join(now[now_start:now_end])))
    return tuple(pieces)


def nearest(plan: Plan, earlier: Sequence[tuple[ShellSession, Plan]], limit: int = 3) -> list[Earlier]:
    """Return the earlier commands that are most like `plan`, each once; `earlier` is newest first."""
    now = words_of(plan)
    found: dict[Words, tuple[ShellSession, int]] = {}
    for session, one in earlier:
        words = words_of(one)
        newest, times = found.get(words, (session, 0))
        found[words] = newest, times + 1
    matcher = SequenceMatcher(None, autojunk=False)
    matcher.set_seq2(now)
    ranked: list[tuple[float, UUID, Words]] = []
    for words, (session, _times) in found.items():
        if words == now:
            ranked.append((1.0, session.pk, words))
        elif max(len(words), len(now)) <= WORDS_MAX:
            matcher.set_seq1(words)
            if matcher.quick_ratio() >= LEAST_ALIKE and (alike := matcher.ratio()) >= LEAST_ALIKE:
                ranked.append((alike, session.pk, words))
    ranked.sort(reverse=True)
    return [Earlier(found[words][0], differences(words, now), found[words][1]) for _, _, words in ranked[:limit]]
