"""The page `docs/reference/programs.md`: what the categories mean, and every program of the tables by family.

`python -m governance.policy.reference > docs/reference/programs.md` writes it again; a test compares the two.
"""

import dataclasses
import itertools
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from governance.policy.entries import Entry
from governance.policy.tables import SHIPPED, load_tables
from governance.policy.types import Category

_MEANINGS: Final = {
    Category.READ: "prints what is there, and changes nothing",
    Category.WRITE: "makes or changes files",
    Category.BUILD: "runs code of a project or of a package, in the sandbox",
    Category.NETWORK: "reaches other machines",
    Category.DEVOPS: "acts on services, containers, clusters, clouds or other machines, mostly outside the sandbox",
    Category.DELETE: "deletes, or ends what cannot be brought back",
    Category.UNKNOWN: "is in no table, or holds a word that its table does not list",
    Category.BLOCKED: "is denied at every maturity, whoever approves",
}
_HEAD: Final = """\
# Categories and programs

What every program that governance knows is taken for. This page is written from the tables themselves:

```sh
.venv/bin/python -m governance.policy.reference > docs/reference/programs.md
```

[Policy](policy.md) says what follows from a category, [Program tables](policy-tables.md) how a table is written.

## Categories

A command has the most severe category of all its words: the program's, its subcommand's, and what its options, operands
and redirects add. Least severe first:

"""
_FAMILIES: Final = """
## Families

One family is one file in `governance/policy/programs/`. The category is the least that a use gets: an option or an
operand may raise it, or lower it where the table says so (`--version` is mostly read). "asks" means that a person
decides at every maturity, for the reason that the [rule](policy.md#rules) gives. An asterisk stands for any ending.
"""


def programs_page(folder: Path = SHIPPED) -> str:
    """Return the page for the tables of a folder."""
    tables = load_tables(folder)
    lines = [_HEAD + "| category | a command of this category |", "|---|---|"]
    lines += [f"| {category} | {meaning} |" for category, meaning in _MEANINGS.items()]
    lines.append(_FAMILIES)
    for path in sorted(folder.glob("*.toml")):
        lines += _family(path, {**tables.programs, **{f"{prefix}*": entry for prefix, entry in tables.prefixes}})
    return "\n".join(lines).rstrip() + "\n"


def _family(path: Path, programs: Mapping[str, Entry]) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    names = [name for program in tomllib.loads(text)["program"] for name in program["names"].split()]
    yield f"### {path.stem.replace('-', ' ').capitalize()}\n"
    yield f"{_opening_comment(text)}\n"
    yield "| program | category | what it does |"
    yield "|---|---|---|"
    for group, entry in _grouped({name: programs[name] for name in names if name in programs}):
        yield _row(group, entry)
        yield from _subcommand_rows(entry.subcommands, "")
    yield ""


def _opening_comment(text: str) -> str:
    comment = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in comment)


def _subcommand_rows(subcommands: Mapping[str, Entry], prefix: str) -> Iterator[str]:
    for names, entry in _grouped(subcommands):
        yield _row([f"{prefix}{name}" for name in names], entry, indent="&nbsp;&nbsp;")
        yield from _subcommand_rows(entry.subcommands, f"{prefix}{names[0]} ")


def _grouped(entries: Mapping[str, Entry]) -> Iterator[tuple[list[str], Entry]]:
    """Yield the names that share what they do, with one of their entries."""

    def deed(item: tuple[str, Entry]) -> tuple[Category, str, str, object]:
        entry = dataclasses.replace(item[1], name="")
        return entry.category, entry.ask, entry.justification, entry.subcommands.keys()

    for _, group in itertools.groupby(entries.items(), deed):
        items = list(group)
        yield [name for name, _ in items], items[0][1]


def _row(names: Iterable[str], entry: Entry, *, indent: str = "") -> str:
    asks = " (asks)" if entry.ask else ""
    return f"| {indent}{', '.join(f'`{name}`' for name in names)} | {entry.category}{asks} | {entry.justification} |"


if __name__ == "__main__":
    sys.stdout.write(programs_page())
