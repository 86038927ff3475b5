"""What a decision costs: reading the tables, one command, the longest plan, beside a yardstick of the same run.

It runs in this process, because nothing of it waits: the figures are processor time of one thread.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

from bench.figures import PolicyFigure, p95
from governance.policy.decide import Policy, build_policy, decide
from governance.policy.parse import parse_text
from governance.policy.tables import load_tables
from governance.policy.types import Facts, Maturity, Question

SAMPLES: Final = 400
FOLDER: Final = "/srv/agent"
FACTS: Final = Facts("/home/ada", "ada", "/home/ada/.cache/atom/scratch", is_sandboxed=True, protected=("/opt/atom",))
COMMANDS: Final = (
    "ls -la",
    "cat README.md",
    "grep -rn 'def main' src",
    "find . -name '*.py' -type f -size +1M",
    "git log --oneline -20",
    "head -n 40 docs/index.md",
    "wc -l src/*.py",
    "du -sh .",
    "sort -t, -k2,2n data.csv",
    "sed -n 1,20p setup.cfg",
    "rm -rf build",
    "pytest -q tests",
)
PIPELINE: Final = "cd src && grep -rn TODO . | sort -u | head -n 20 > /tmp/todo.txt"
LONGEST: Final = " && ".join(["grep -rn TODO src | sort -u"] * 16)
#: What the yardstick writes and reads: a decision's JSON is about as large.
DOCUMENT: Final = {"tokens": [{"text": f"word-{number}", "role": "operand"} for number in range(40)]}


def measure(*, is_quick: bool = False) -> list[PolicyFigure]:
    """Return every figure; each is in microseconds."""
    samples = SAMPLES // 10 if is_quick else SAMPLES
    policy = build_policy()
    yardstick = [_timed(lambda: json.loads(json.dumps(DOCUMENT))) for _ in range(samples)]
    return [
        _figure("the yardstick: a JSON document of 2 KB, written and read", yardstick),
        _figure("all tables loaded", [_timed(load_tables) for _ in range(3 if is_quick else 9)], limit_us=300_000),
        _figure("one command, decided", _decided(COMMANDS, policy, samples), limit_us=200),
        _figure("one command, read into a plan", [_timed(_reading(text)) for text in COMMANDS * (samples // 12)]),
        _figure("a pipeline of 4 behind a cd, decided", _decided([PIPELINE], policy, samples)),
        _figure("32 commands, decided", _decided([LONGEST], policy, samples), limit_us=5_000),
        _figure("32 commands, read into a plan", [_timed(_reading(LONGEST)) for _ in range(samples)]),
    ]


def _figure(name: str, samples: Sequence[float], limit_us: float = 0) -> PolicyFigure:
    return PolicyFigure(name, statistics.median(samples), p95(samples), limit_us)


def _decided(texts: Sequence[str], policy: Policy, samples: int) -> list[float]:
    """Return the microseconds of each decision; the commands take turns."""
    questions = [Question(parse_text(text), Maturity.SUPERVISED, FACTS, FOLDER, {}, (FOLDER,)) for text in texts]
    for question in questions:
        decide(question, policy)
    return [_timed(_deciding(question, policy)) for _ in range(samples) for question in questions]


def _deciding(question: Question, policy: Policy) -> Callable[[], object]:
    return lambda: decide(question, policy)


def _reading(text: str) -> Callable[[], object]:
    return lambda: parse_text(text)


def _timed(do: Callable[[], object]) -> float:
    begun = time.thread_time_ns()
    do()
    return (time.thread_time_ns() - begun) / 1e3
