"""A plan behaves as `bash -o pipefail` would.

The long form: `ATOM_PLANS=2000 pytest -s tests/host/test_plans_like_bash.py`; another `ATOM_PLANS_SEED`, other lines.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from shellagent.host.runner import Runner
from tests.host.bash import Comparison, Duel
from tests.host.lines import Generator, written

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash to compare with")
GENERATED = int(os.environ.get("ATOM_PLANS", "40"))
SEED = int(os.environ.get("ATOM_PLANS_SEED", "1"))


@pytest.fixture
def duel(runner: Runner, scratch: Path, tmp_path: Path) -> Duel:
    runner.home = str(scratch)
    temporary = tmp_path / "own-tmp"
    temporary.mkdir()
    return Duel(runner, scratch, temporary)


def compared(duel: Duel, lines: Iterable[str]) -> Comparison:
    comparison = Comparison()
    for line in lines:
        duel.compare(line, comparison)
    print(  # noqa: T201 - the figures of a long run, with -s
        f"\n{comparison.same} the same, {len(comparison.raced)} one of bash's own results, "
        f"{len(comparison.refused)} refused by the parser, {len(comparison.different)} different"
    )
    return comparison


def test_written_lines(duel: Duel) -> None:
    comparison = compared(duel, written())
    assert not comparison.different, comparison.report()


def test_generated_lines(duel: Duel) -> None:
    generator = Generator(SEED)
    comparison = compared(duel, (generator.line() for _ in range(GENERATED)))
    assert not comparison.different, comparison.report()
