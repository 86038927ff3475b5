"""The page of categories and programs is what the tables say."""

from governance.policy.reference import programs_page
from governance.policy.tables import load_tables
from governance.policy.types import Category

from .test_docs import REFERENCE

PAGE = (REFERENCE / "programs.md").read_text()


def test_the_page_is_written_from_the_tables() -> None:
    assert programs_page() == PAGE, "write it again: .venv/bin/python -m governance.policy.reference"


def test_every_program_and_category_is_on_it() -> None:
    tables = load_tables()
    names = [*tables.programs, *(f"{prefix}*" for prefix, _ in tables.prefixes)]
    assert not [name for name in names if f"`{name}`" not in PAGE]
    assert not [category for category in Category if f"| {category} | " not in PAGE]
