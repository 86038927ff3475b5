"""What the README, the tutorial and the summary say can be typed is typed here, against a running product."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.database import cloned
from tests.docs.test_docs import DOCS, ROOT, blocks
from tests.e2e.product import Product

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def product(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    """The product, running, in a folder that looks like a checkout after `make run`."""
    folder = tmp_path_factory.mktemp("product")
    with django_db_blocker.unblock(), cloned(folder) as database:
        running = Product(database, folder)
        try:
            running.start()
            for name, target in (("var", running.home), (".venv", Path(sys.prefix)), ("manage.py", ROOT / "manage.py")):
                (folder / name).symlink_to(target)
            yield running
        finally:
            running.end()


def typed(product: Product, script: str) -> subprocess.CompletedProcess[str]:
    """Type these lines into a shell in the checkout. ATOM_HOME is named, because the product's own is not there."""
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail"],
        input=script,
        env={**product.environment(), "ATOM_HOME": str(product.home)},
        cwd=product.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_readme_works_as_it_stands(product: Product) -> None:
    script = "\n".join(block for block in blocks(ROOT / "README.md", "sh") if not block.startswith("make"))
    done = typed(product, script)
    assert done.returncode == 0, done.stderr
    answer, end = json.JSONDecoder().raw_decode(done.stdout)
    assert (answer["status"], answer["exit_code"]) == ("succeeded", 0)
    assert done.stdout[end:].startswith("total ")


def test_the_readme_works_in_python(product: Product) -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    (product.folder / "ask.py").write_text(code)
    done = typed(product, ".venv/bin/python ask.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("succeeded 0\nThis folder belongs to the agent demo-supervised.")


def test_the_tutorial_works_word_for_word(product: Product) -> None:
    done = typed(product, "\n".join(blocks(DOCS / "tutorial.md", "sh")))
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^exit code (\d+)$", done.stdout, re.MULTILINE) == ["124", "77", "64", "75"]
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["outcome"] == "ask"
    assert "AUTONOMOUS" in last["would_allow"]


def test_the_summary_s_requests_work(product: Product) -> None:
    done = typed(product, "\n".join(blocks(DOCS / "implementation.md", "sh")))
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert len(answers) == 21
    objects = [answer for answer in answers if isinstance(answer, dict)]
    assert not [answer for answer in objects if str(answer.get("type", "")).startswith("http")]
    assert "rejected" in [answer.get("status") for answer in objects]
    assert [answer for answer in answers if isinstance(answer, list) and answer[:1] and answer[0]["scope"] == "agent"]
