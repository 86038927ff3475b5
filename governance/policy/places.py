"""Where each command of a plan works: `cd` is followed over `&&`, `||` and `;`, whether it succeeds or not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from governance.policy.paths import UNREPORTED, normalise
from governance.policy.plan import Command, Join, Plan, Step
from governance.policy.reading import Arg
from governance.policy.types import Facts

#: Stands for a folder that is not known, so that whatever is relative to it is outside every root.
UNKNOWN_FOLDER: Final = f"/{UNREPORTED}folder"
_MOST_FOLDERS: Final = 4
_Folders: TypeAlias = tuple[str, ...]
_NOWHERE: Final[tuple[_Folders, _Folders]] = ((), ())


@dataclass(frozen=True, slots=True)
class Placed:
    """A command, its words with what the host fills in, and every folder that it may work in."""

    command: Command
    argv: tuple[Arg, ...]
    #: The targets of its redirects, None for a descriptor that is copied.
    targets: tuple[Arg | None, ...]
    folders: tuple[str, ...]


def walk(plan: Plan, folder: str, facts: Facts) -> Iterator[Placed]:
    """Yield every command of a plan in source order. `folder` is where the plan starts."""
    # The folders that the plan may be in, by whether the step before succeeded or failed.
    succeeded: _Folders = (folder,)
    failed: _Folders = ()
    for step in plan.steps:
        begins, not_run = _union(succeeded, failed), _NOWHERE
        if step.join is Join.AND:
            begins, not_run = succeeded or begins, ((), failed)
        elif step.join is Join.OR:
            begins, not_run = failed or begins, (succeeded, ())
        placed = [_placed(command, begins, facts) for command in step.pipeline]
        yield from placed
        enters = _enters(step, placed[0], facts)
        after = (enters, begins) if not step.is_negated else (begins, enters)
        succeeded, failed = (_union(one, other) for one, other in zip(after, not_run, strict=True))


def _enters(step: Step, placed: Placed, facts: Facts) -> tuple[str, ...]:
    """Return the folders after a step that succeeds: only a lone `cd` goes anywhere."""
    if len(step.pipeline) > 1 or placed.argv[0].text != "cd":
        return placed.folders
    operands = [arg for arg in placed.argv[1:] if arg.text not in ("-L", "-P", "--")]
    if not operands:
        return (normalise(facts.home, "/") if facts.home.startswith("/") else UNKNOWN_FOLDER,)
    target = operands[0]
    if len(operands) > 1 or target.has_glob or not target.text or target.text.startswith("-"):
        return (UNKNOWN_FOLDER,)
    return _union(tuple(normalise(target.text, folder) for folder in placed.folders), ())


def _placed(command: Command, folders: tuple[str, ...], facts: Facts) -> Placed:
    variables = {
        "HOME": facts.home if facts.home.startswith("/") else f"/home/{UNREPORTED}home",
        "USER": facts.user or f"{UNREPORTED}user",
        "PWD": folders[0] if len(folders) == 1 else UNKNOWN_FOLDER,
    }
    return Placed(
        command,
        tuple([Arg.of(word, variables) for word in command.argv]),
        tuple(
            [
                None if isinstance(redirect.target, int) else Arg.of(redirect.target, variables)
                for redirect in command.redirects
            ]
        ),
        folders,
    )


def _union(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """Return both without doubles; where there are too many, one that stands for any is among them."""
    if not other and len(one) < 2:
        return one
    folders = tuple(dict.fromkeys((*one, *other)))
    return folders if len(folders) <= _MOST_FOLDERS else (*folders[:_MOST_FOLDERS], UNKNOWN_FOLDER)
