"""Every tag is written somewhere: a tag that nothing writes promises an event that never comes."""

import re
from pathlib import Path

import pytest

from audit.tags import Tag
from shellagent.states import Status

ROOT = Path(__file__).resolve().parents[2]
CODE = "\n".join(
    file.read_text()
    for package in ("atomsite", "audit", "governance", "shellagent")
    for file in sorted((ROOT / package).rglob("*.py"))
    if file != ROOT / "audit" / "tags.py"
)
#: Written by `moving` for each arrow, from the state that it leads to.
OF_STATES = {status.tag for status in Status}


@pytest.mark.parametrize("tag", Tag, ids=str)
def test_every_tag_is_written(tag: Tag) -> None:
    assert tag in OF_STATES or re.search(rf"\bTag\.{tag.name}\b", CODE)
