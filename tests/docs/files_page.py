"""The page `docs/reference/files.md`: what each file of the code does, in the words that it begins with.

`python -m tests.docs.files_page > docs/reference/files.md` writes it again; a test compares the two.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_HEAD: Final = """\
# Files of the code

What each file does, in the words that it begins with. This page is written from the files themselves:

```sh
.venv/bin/python -m tests.docs.files_page > docs/reference/files.md
```

[Change the code](../how-to/change-the-code.md) says where to begin for what. Left out are `__init__.py`, Django's
registration of a package (`apps.py`) and migrations. The admin's pages are in `atomsite/templates/`, their scripts and
styles in `atomsite/static/`.
"""
#: Every folder that holds code, in the order of the page, and what they are together.
_FOLDERS: Final = {
    "atomsite": "Settings, addresses, errors, the admin's site, and what the commands share.",
    "atomsite/formats/en": "",
    "atomsite/management/commands": "The commands of `manage.py`, each thin.",
    "atomsite/sqlite": "",
    "atomsite/templatetags": "",
    "atomsite/worker/management/commands": "",
    "shellagent": "Hosts and sessions. Files that begin with `admin_` are its pages in the admin.",
    "shellagent/services": "Every operation on sessions and hosts, which all doors call.",
    "shellagent/api": "The calls over HTTP, each thin.",
    "shellagent/notifying": "Messages to people, and callbacks to agents.",
    "shellagent/client": "`atom` and the Python client, by the standard library alone.",
    "shellagent/client/recipes": "What `atom connect` prints for programs without hooks.",
    "shellagent/mcp_server": "Tools for MCP clients. No Django.",
    "shellagent/management/commands": "",
    "shellagent/host": "The local agent: it runs what was decided. No Django, no database.",
    "governance": "Agents, keys, and the rules that a person edits.",
    "governance/policy": "From text to plan to decision: pure, no database, no clock. No Django.",
    "governance/policy/scripts": "",
    "audit": "The trail.",
    "audit/standalone": "The verifier of bundles. It shares no line with the rest.",
    "bench": "`make bench`.",
    "bench/projects": "",
    "faults": "`make faults`.",
}


def files_page() -> str:
    """Return the page for the files that there are."""
    lines = [_HEAD]
    for folder, meaning in _FOLDERS.items():
        lines += [f"## {folder}\n", *([f"{meaning}\n"] if meaning else []), "| file | does |", "|---|---|"]
        lines += [f"| `{path.name}` | {_words(path)} |" for path in code_in(folder)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def code_in(folder: str) -> list[Path]:
    """Return the files of code in a folder, without those that only register something."""
    return [path for path in sorted((ROOT / folder).glob("*.py")) if path.name not in ("__init__.py", "apps.py")]


def folders_of_code() -> Iterator[str]:
    """Yield every folder that holds files of code."""
    for package in ("atomsite", "shellagent", "governance", "audit", "bench", "faults"):
        for folder in (ROOT / package, *sorted(path for path in (ROOT / package).rglob("*") if path.is_dir())):
            if folder.name != "migrations" and code_in(name := str(folder.relative_to(ROOT))):
                yield name


def _words(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(said.partition("\n\n")[0].split()).replace("|", r"\|")


if __name__ == "__main__":
    sys.stdout.write(files_page())
