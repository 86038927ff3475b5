"""The page of files is what the files say of themselves."""

from .files_page import files_page, folders_of_code
from .test_docs import REFERENCE

PAGE = (REFERENCE / "files.md").read_text()


def test_the_page_is_written_from_the_files() -> None:
    assert files_page() == PAGE, "write it again: .venv/bin/python -m tests.docs.files_page > docs/reference/files.md"


def test_every_folder_of_code_is_on_it() -> None:
    assert [folder for folder in folders_of_code() if f"\n## {folder}\n" not in PAGE] == []


def test_every_file_says_what_it_does() -> None:
    assert "` |  |" not in PAGE
