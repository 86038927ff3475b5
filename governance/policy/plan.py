"""The plan: a command parsed into what will run. Standard library only; the host process reads plans too."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Join(StrEnum):
    """How a step follows the one before it."""

    FIRST = ""
    AND = "&&"
    OR = "||"
    THEN = ";"


@dataclass(frozen=True, slots=True)
class Command:
    """One program and its arguments; `argv[0]` is the program as it was written."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A pipeline of one command or more, and how it follows the step before."""

    pipeline: tuple[Command, ...]
    join: Join = Join.FIRST


@dataclass(frozen=True, slots=True)
class Plan:
    """Pipelines joined by `&&`, `||` and `;`. No shell ever runs it."""

    steps: tuple[Step, ...]

    @classmethod
    def simple(cls, *argv: str) -> "Plan":
        """Return the plan of one command."""
        return cls((Step((Command(argv),)),))

    def commands(self) -> Iterator[Command]:
        """Yield every command, in source order."""
        for step in self.steps:
            yield from step.pipeline

    def to_json(self) -> dict[str, object]:
        """Return `{"steps": [{"join": str, "pipeline": [{"argv": [str]}]}]}`."""
        return {
            "steps": [
                {"join": str(step.join), "pipeline": [{"argv": list(command.argv)} for command in step.pipeline]}
                for step in self.steps
            ]
        }

    @classmethod
    def from_json(cls, data: object) -> "Plan":
        """Read what `to_json` wrote. Raises ValueError for any other shape, an empty plan or an empty argv."""
        steps = []
        for step in _list(data, "steps"):
            commands = []
            for command in _list(step, "pipeline"):
                argv = _list(command, "argv")
                if not all(isinstance(word, str) for word in argv):
                    raise ValueError("plan: argv holds text only")
                commands.append(Command(tuple(str(word) for word in argv)))
            join = step.get("join") if isinstance(step, Mapping) else None
            steps.append(Step(tuple(commands), Join(str(join))))
        return cls(tuple(steps))


def _list(data: object, key: str) -> list[object]:
    if not isinstance(data, Mapping):
        raise ValueError(f"plan: expected an object with {key!r}")
    value = data.get(key)
    if not isinstance(value, list) or not value:
        raise ValueError(f"plan: {key!r} must be a list that is not empty")
    return value
