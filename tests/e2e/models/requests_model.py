"""Plays a model around the loop of the recipe. Prints a line a step."""

import json
import sys

from requests_loop import loop

COMMANDS = json.loads(sys.argv[1])


def next_step(answers: list[str]) -> tuple[str, str] | None:
    """Ask for each command in its turn, in place of a paid model."""
    return (COMMANDS[len(answers)], "a test") if len(answers) < len(COMMANDS) else None


print(json.dumps({"answers": loop(next_step)}), flush=True)
